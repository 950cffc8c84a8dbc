"""Uploads through the real huggingface-hub to a Hub on this machine, and each way in which it may refuse."""

import json

import pytest
from hosts import Answer, Fault, Hub
from hub_commits import Shelf
from huggingface_hub import constants

from popos_cli.core.model import Landmarker
from popos_cli.errors import PoposError, UsageError
from popos_cli.weights.format import WeightsInfo, save_weights
from popos_cli.weights.push import plan_upload, push, read_results

RESULT = {
    "dataset": "cofw", "split": "test", "weights": "run", "resolution": 4, "decoder": "ml", "faces": 507,
    "nme": 5.5, "failure_rate": 1.0, "auc": 50.0, "normaliser": "inter-ocular", "threshold": 0.1,
    "subsets": {},
}  # fmt: skip


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    for name in ("HF_HUB_OFFLINE", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("POPOS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def shelf(monkeypatch):
    with Hub() as hub:
        hub.token = "hf_secret"
        # Read from the environment when the client is imported.
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True, raising=False)  # older clients have no Xet
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield Shelf(hub)


@pytest.fixture(scope="module")
def state():
    return Landmarker(29, 4).state_dict()


@pytest.fixture
def run(tmp_path, state):
    """A run folder with weights in it."""
    info = WeightsInfo(resolution=4, scheme="cofw", training={"dataset": "cofw", "val_nme": 7.5})
    save_weights(tmp_path / "run" / "best.safetensors", state, info, half=True)
    return tmp_path / "run"


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
    upload = plan_upload("run", "ada/faces", None, "mit", [])
    address = push(upload, private=False, message=None)
    there = shelf.hub.repositories["ada/faces"]
    assert set(there) == {"run.safetensors", "README.md"}
    assert there["run.safetensors"] == (run / "best.safetensors").read_bytes()
    assert there["README.md"].decode() == upload.card
    assert shelf.messages == ["Add run.safetensors"]
    assert shelf.private == {"ada/faces": False}
    assert address.endswith(f"/ada/faces/commit/{shelf.hub.commit('ada/faces')}")


def test_again_and_changed(shelf, run, state):
    shelf.hub.put("ada/faces", "other.txt", b"mine")
    for message, licence in (("one", "mit"), ("none", "mit"), ("two", "isc")):
        push(plan_upload("run", "ada/faces", "net/a.safetensors", licence, []), False, message)
    there = shelf.hub.repositories["ada/faces"]
    assert there["other.txt"] == b"mine"
    assert there["net/a.safetensors"] == (run / "best.safetensors").read_bytes()
    assert b"license: isc" in there["README.md"]
    assert shelf.messages == ["one", "two"]  # nothing had changed in between
    assert len([r for r in shelf.hub.log if r.method == "PUT"]) == 1


def test_private(shelf, run):
    upload = plan_upload("run", "ada/faces", None, None, [])
    push(upload, private=True, message=None)
    assert shelf.private == {"ada/faces": True}
    shelf.hub.put("ada/open", "README.md", b"open")
    upload = plan_upload("run", "ada/open", None, None, [])
    refused(lambda: push(upload, private=True, message=None), "ada/open", "public")
    assert shelf.hub.repositories["ada/open"] == {"README.md": b"open"}


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault(status=401, path="repos/create"), ["token", "401"]),
        (Fault(status=403, path="repos/create"), ["ada/faces", "may not write", "403"]),
        (Fault(status=500, path="repos/create"), ["the Hub fails", "500"]),
        (Fault(status=429, path="/commit/"), ["too many", "429"]),
        (Fault(status=403, path="/commit/"), ["may not write"]),
        (Fault(status=403, path="/uploads/"), ["may not write"]),
        (Fault(status=413, path="/commit/"), ["refused", "413"]),
        (Fault(drop=True, path="repos/create"), ["ada/faces", "cannot be reached"]),
        (Fault(drop=True, path="/commit/"), ["ada/faces", "broke off"]),
    ],
    ids=lambda value: f"{value.status or 'drop'} {value.path}" if isinstance(value, Fault) else "",
)
def test_the_hub_refuses_or_breaks(shelf, run, fault, words):
    shelf.hub.faults.append(fault)
    upload = plan_upload("run", "ada/faces", None, None, [])
    refused(lambda: push(upload, private=False, message=None), *words)
    assert shelf.hub.repositories.get("ada/faces", {}) == {}
    assert push(upload, private=False, message=None)  # and then it works


def test_a_token_that_is_not_theirs(shelf, run, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    refused(lambda: push(plan_upload("run", "ada/faces", None, None, []), False, None), "token (401)")
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", "/nowhere")
    log = len(shelf.hub.log)
    error = refused(lambda: push(plan_upload("run", "ada/faces", None, None, []), False, None), "no token")
    assert "HF_TOKEN" in error.hint
    assert len(shelf.hub.log) == log


def test_no_network(shelf, run, monkeypatch):
    upload = plan_upload("run", "ada/faces", None, None, [])
    shelf.hub.stop()
    refused(lambda: push(upload, private=False, message=None), "ada/faces", "cannot be reached")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    refused(lambda: push(upload, private=False, message=None), "HF_HUB_OFFLINE")


def test_a_card_that_the_hub_refuses(shelf, run):
    shelf.bad_card = '"license" must be one of many'
    upload = plan_upload("run", "ada/faces", None, None, [])
    refused(lambda: push(upload, private=False, message=None), "(400)", shelf.bad_card)
    assert shelf.hub.repositories["ada/faces"] == {}


@pytest.mark.parametrize(
    "repository", ["faces", "ada/faces/x", "ada/", "/faces", "a b/c", "ada/fa..ces", "hf://a/b", ""]
)
def test_no_repository(run, repository):
    refused(lambda: plan_upload("run", repository, None, None, []), repository, kind=UsageError)


@pytest.mark.parametrize(
    "file", ["a.pth", ".safetensors", "../a.safetensors", "/a.safetensors", "a b.safetensors", ""]
)
def test_no_file_name(run, file):
    refused(lambda: plan_upload("run", "ada/faces", file, None, []), "--file", kind=UsageError)


def test_names_and_licences_by_default(run, tmp_path):
    (run / "mine.safetensors").write_bytes((run / "best.safetensors").read_bytes())
    (run / "mine, old.safetensors").write_bytes((run / "best.safetensors").read_bytes())
    names = {"run": "run", "run/best.safetensors": "run", "run/mine.safetensors": "mine"}
    for weights, name in names.items():
        assert plan_upload(weights, "a/b", None, None, []).place.file == f"{name}.safetensors"
    assert plan_upload("run/mine, old.safetensors", "a/b", None, None, []).place.file == "model.safetensors"
    assert plan_upload("run", "a/b", None, None, []).place.licence is None
    bundled = plan_upload("small", "a/b", None, None, []).place
    assert (bundled.file, bundled.licence) == ("popos-300w-8.safetensors", "research only")


def test_weights_that_are_not_whole_stay_here(run, state):
    path = run / "best.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[:-1000])
    refused(lambda: plan_upload("run", "a/b", None, None, []), str(path.relative_to(run.parent)))
    fewer = {name: tensor for name, tensor in state.items() if name != "head.3.bias"}
    save_weights(path, fewer, WeightsInfo(resolution=4, scheme="cofw"), half=True)
    refused(lambda: plan_upload("run", "a/b", None, None, []), "head.3.bias")


def test_metrics_are_those_of_the_weights(run, tmp_path):
    def metrics(*results):
        path = tmp_path / "metrics.json"
        path.write_text(json.dumps({"results": results}))
        return path

    def read(*results, weights="run"):
        return read_results(metrics(*results), weights, run / "best.safetensors", info)

    info = WeightsInfo(resolution=4, scheme="cofw")
    by_path = {**RESULT, "weights": str(run)}
    by_file = {**RESULT, "weights": "./run/best.safetensors"}
    other, finer = {**RESULT, "weights": "default"}, {**RESULT, "resolution": 8}
    assert read(RESULT, other, by_path, finer, by_file) == [RESULT, by_path, by_file]
    refused(
        lambda: read(other, finer), "metrics.json", "run (4 pixels)", "default (4 pixels)", "run (8 pixels)"
    )
    upload = plan_upload("run", "a/b", None, None, [metrics(RESULT)])
    assert "| cofw test | truth |" in upload.card
    (run / "metrics.json").write_text(json.dumps({"results": [RESULT]}))
    assert plan_upload("run", "a/b", None, None, []).card == upload.card


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", '{"results": []}', '{"results": [{}]}', '{"results": [3]}',
     json.dumps({"results": [{**RESULT, "nme": "low"}]}),
     json.dumps({"results": [{**RESULT, "subsets": {"pose": {"nme": 3}}}]}),
     json.dumps({"results": [{**RESULT, "subsets": 3}]})],
)  # fmt: skip
def test_files_that_are_no_metrics(run, tmp_path, text):
    path = tmp_path / "m.json"
    path.write_text(text)
    refused(lambda: plan_upload("run", "a/b", None, None, [path]), "m.json")
    refused(lambda: plan_upload("run", "a/b", None, None, [tmp_path / "gone.json"]), "gone.json")


def test_an_answer_that_is_not_the_hubs(shelf, run):
    shelf.hub.routes["POST", "/api/repos/create"] = lambda request, match: Answer(200, b"<html>")
    upload = plan_upload("run", "ada/faces", None, None, [])
    refused(lambda: push(upload, private=False, message=None), "ada/faces")
