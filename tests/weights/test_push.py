"""Uploads through huggingface-hub to a server on this machine that plays the Hub, and its refusals."""

import json

import pytest
from hosts import Answer, Fault
from hub_commits import Shelf
from huggingface_hub import constants

from popos_cli.core.model import Landmarker
from popos_cli.errors import PoposError, UsageError
from popos_cli.weights.format import save_weights
from popos_cli.weights.info import WeightsInfo
from popos_cli.weights.push import plan_upload, push, read_results

RESULT = {
    "dataset": "cofw", "split": "test", "weights": "run", "resolution": 4, "decoder": "ml", "faces": 507,
    "nme": 5.5, "failure_rate": 1.0, "auc": 50.0, "normaliser": "inter-ocular", "threshold": 0.1,
    "subsets": {},
}  # fmt: skip


@pytest.fixture
def shelf(hub, monkeypatch):
    hub.token = "hf_secret"
    monkeypatch.setenv("HF_TOKEN", hub.token)
    return Shelf(hub)


@pytest.fixture(scope="module")
def state():
    return Landmarker(29, 4).state_dict()


@pytest.fixture
def run(tmp_path, state):
    """A run folder with weights in it."""
    info = WeightsInfo(resolution=4, scheme="cofw", training={"dataset": "cofw", "val_nme": 7.5})
    save_weights(tmp_path / "run" / "best.safetensors", state, info, half=True)
    return tmp_path / "run"


def plan(weights="run", repository="ada/faces", file=None, licence=None, metrics=()):
    return plan_upload(weights, repository, file, licence, list(metrics))


def refused(call, *words, kind=PoposError):
    with pytest.raises(kind) as caught:
        call()
    assert type(caught.value) is kind
    message = caught.value.message
    assert "\n" not in message
    assert all(word in message for word in words), message
    assert "hf_secret" not in message + (caught.value.hint or "")
    return caught.value


def test_weights_and_card_in_one_commit(shelf, run):
    upload = plan(licence="mit")
    address = push(upload, private=False, message=None)
    assert shelf.hub.repositories["ada/faces"] == {
        "run.safetensors": (run / "best.safetensors").read_bytes(), "README.md": upload.card.encode()
    }  # fmt: skip
    assert shelf.messages == ["Add run.safetensors"]
    assert shelf.private == {"ada/faces": False}
    assert address.endswith(f"/ada/faces/commit/{shelf.hub.commit('ada/faces')}")


def test_into_a_repository_with_other_files(shelf, run):
    shelf.hub.put("ada/faces", "other.txt", b"mine")
    push(plan(file="net/a.safetensors"), False, "my words")
    assert set(shelf.hub.repositories["ada/faces"]) == {"other.txt", "net/a.safetensors", "README.md"}
    assert shelf.messages == ["my words"]


def test_private(shelf, run):
    push(plan(), private=True, message=None)
    assert shelf.private == {"ada/faces": True}
    shelf.hub.put("ada/open", "README.md", b"open")
    refused(lambda: push(plan(repository="ada/open"), private=True, message=None), "ada/open", "public")
    assert shelf.hub.repositories["ada/open"] == {"README.md": b"open"}


@pytest.mark.parametrize(
    "fault, words, hint",
    [
        (Fault(status=401, path="repos/create"), "the Hub refused (401)", "HF_TOKEN"),
        (Fault(status=500, path="repos/create"), "the Hub refused (500)", "later"),
        (Fault(status=403, path="/commit/"), "the Hub refused (403)", "write access to ada's"),
        (Fault(drop=True, path="repos/create"), "cannot be reached", "network"),
        (Fault(drop=True, path="/commit/"), "broke off", "network"),
    ],
    ids=lambda value: f"{value.status or 'drop'} {value.path}" if isinstance(value, Fault) else "",
)
def test_the_hub_refuses_or_breaks(shelf, run, fault, words, hint):
    shelf.hub.faults.append(fault)
    upload = plan()
    error = refused(lambda: push(upload, private=False, message=None), "ada/faces: ", words)
    assert hint in error.hint
    assert shelf.hub.repositories.get("ada/faces", {}) == {}
    assert push(upload, private=False, message=None)  # and then it works


def test_tokens(shelf, run, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    refused(lambda: push(plan(), False, None), "the Hub refused (401)")
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", "/nowhere")
    log = len(shelf.hub.log)
    assert "HF_TOKEN" in refused(lambda: push(plan(), False, None), "no token").hint
    assert len(shelf.hub.log) == log


def test_a_card_that_the_hub_refuses(shelf, run):
    shelf.bad_card = '"license" must be one of many'
    refused(lambda: push(plan(), private=False, message=None), "(400)", shelf.bad_card)
    assert shelf.hub.repositories["ada/faces"] == {}


def test_an_answer_that_is_not_the_hubs(shelf, run):
    shelf.hub.routes["POST", "/api/repos/create"] = lambda request, match: Answer(200, b"<html>")
    refused(lambda: push(plan(), private=False, message=None), "ada/faces")


@pytest.mark.parametrize(
    "bad",
    [
        *({"repository": name} for name in ("faces", "ada/faces/x", "/faces", "a b/c", "a/fa..ces")),
        *({"repository": name} for name in ("", "ada/" + "x" * 93, "ada/faces.git")),
        *({"file": name} for name in ("a.pth", ".safetensors", "../a.safetensors", "/a.safetensors", "")),
        {"file": "a b.safetensors"},
    ],
    ids=str,
)  # fmt: skip
def test_names_that_the_hub_does_not_take(run, bad):
    refused(lambda: plan(**bad), *bad.values(), kind=UsageError)


def test_names_and_licences_by_default(run):
    (run / "mine.safetensors").write_bytes((run / "best.safetensors").read_bytes())
    (run / "mine, old.safetensors").write_bytes((run / "best.safetensors").read_bytes())
    names = {
        "run": "run", "run/best.safetensors": "run", "run/mine.safetensors": "mine",
        "run/mine, old.safetensors": "model",
    }  # fmt: skip
    for weights, name in names.items():
        assert (plan(weights).file, plan(weights).licence) == (f"{name}.safetensors", None)
    assert (plan("small").file, plan("small").licence) == ("popos-300w-8.safetensors", "research only")


def test_weights_that_are_not_whole_stay_here(run, state):
    path = run / "best.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    refused(plan, str(path.relative_to(run.parent)))
    fewer = {name: tensor for name, tensor in state.items() if name != "head.3.bias"}
    save_weights(path, fewer, WeightsInfo(resolution=4, scheme="cofw"), half=True)
    refused(plan, "head.3.bias")


def test_metrics_are_those_of_the_weights(run, tmp_path):
    def read(*results):
        (tmp_path / "metrics.json").write_text(json.dumps({"results": results}))
        info = WeightsInfo(resolution=4, scheme="cofw")
        found = read_results(tmp_path / "metrics.json", "run", run / "best.safetensors", info)
        return [result.weights for result in found]

    by_path = {**RESULT, "weights": str(run)}
    by_file = {**RESULT, "weights": "./run/best.safetensors"}
    other, finer = {**RESULT, "weights": "default"}, {**RESULT, "resolution": 8}
    assert read(RESULT, other, by_path, finer, by_file) == ["run", str(run), "./run/best.safetensors"]
    refused(
        lambda: read(other, finer), "metrics.json", "run (4 pixels)", "default (4 pixels)", "run (8 pixels)"
    )
    read(RESULT)
    upload = plan(metrics=[tmp_path / "metrics.json"])
    assert "| `cofw test` | `truth` |" in upload.card
    (tmp_path / "metrics.json").rename(run / "metrics.json")
    assert plan().card == upload.card


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"results": []}', '{"results": [3]}', 
     json.dumps({"results": [{**RESULT, "nme": 1e999}]}),
     json.dumps({"results": [{**RESULT, "subsets": {"pose": {"nme": 3}}}]})],
)  # fmt: skip
def test_files_that_are_no_metrics(run, tmp_path, text):
    (tmp_path / "m.json").write_text(text)
    refused(lambda: plan(metrics=[tmp_path / "m.json"]), "m.json: not what popos evaluate writes")
