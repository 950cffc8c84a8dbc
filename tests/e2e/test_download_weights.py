"""popos download-weights, and what other commands do with what it brought."""

from __future__ import annotations

import hashlib

import pytest
from hosts import Host

from popos_cli.core.model import Landmarker
from popos_cli.weights.format import save_weights
from popos_cli.weights.info import WeightsInfo

QUICK = ("--workers", "0", "--no-flip-test", "--json")


@pytest.fixture(scope="module")
def face_model(tmp_path_factory):
    """Somebody's weights for 68 points, 4-pixel heatmaps."""
    path = tmp_path_factory.mktemp("theirs") / "theirs.safetensors"
    info = WeightsInfo(resolution=4, scheme="300w", training={"dataset": "theirs"})
    save_weights(path, Landmarker(68, 4).state_dict(), info, half=True)
    return path.read_bytes()


@pytest.fixture
def host(home, face_model, monkeypatch):
    """A host with the model, which POPOS_HOME/catalog.toml calls "theirs"."""
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Host() as host:
        url = host.serve("/theirs.safetensors", face_model)
        home.mkdir(exist_ok=True)
        (home / "catalog.toml").write_text(
            f'[theirs]\nwhat = "68 points"\nscheme = "300w"\nresolution = 4\nsource = "{url}"\n'
            f'sha256 = "{hashlib.sha256(face_model).hexdigest()}"\nlicence = "MIT"\n'
        )
        yield host


@pytest.fixture
def download(popos):
    """download(*arguments): what `popos download-weights --json` says of each."""
    return lambda *arguments: popos("download-weights", *arguments, "--json").ok().json["weights"]


def test_the_list(popos, download, host, face_model):
    by_name = {entry["name"]: entry for entry in download()}
    assert set(by_name["default"]) == {
        "name", "kind", "what", "licence", "source", "here", "scheme", "resolution", "size",
    }  # fmt: skip
    assert by_name["default"]["here"] and by_name["default"]["size"] > 1e6
    assert by_name["default"]["source"].startswith("bundled/")
    assert (by_name["theirs"]["here"], by_name["theirs"]["size"]) == (False, None)
    table = popos("download-weights").ok().out
    assert all(name in table for name in by_name)
    assert host.log == []
    popos("download", "theirs").ok()
    by_name = {entry["name"]: entry for entry in download()}
    assert (by_name["theirs"]["here"], by_name["theirs"]["size"]) == (True, len(face_model))


def test_by_name_and_by_address(download, host, face_model):
    (plan,) = download("theirs", "--dry-run")
    assert (plan["action"], plan["path"]) == ("download", host.url + "/theirs.safetensors")
    assert host.log == []
    (done,) = download("theirs")
    with open(done["path"], "rb") as file:
        assert file.read() == face_model
    (again,) = download(plan["path"])
    assert again["path"] == done["path"]
    assert len(host.log) == 1
    (plan,) = download("theirs", "--dry-run")
    assert plan["action"] == "here already"


def test_a_catalog_of_ones_own(popos, download, host, tmp_path):
    (tmp_path / "club.toml").write_text(f'[club]\nsource = "{host.url}/theirs.safetensors"\n')
    (done,) = download("club", "--catalog", "club.toml")
    assert done["name"] == "club"
    assert popos("download-weights", "club").code == 2


def test_one_failure_among_several(popos, host):
    """It is reported, and the others are still fetched."""
    result = popos("download-weights", f"{host.url}/none.safetensors", "theirs", "--json")
    assert result.code == 1
    failed, done = result.json["weights"]
    assert "404" in failed["error"] and failed["action"] == "failed"
    assert done["action"] == "here"
    (line,) = result.errors
    assert "none.safetensors" in line


def test_everything_offline(popos, download, host):
    """What must be got by hand is left out, with a note how."""
    result = popos("download-weights", "--all", "--offline", "--json")
    assert result.code == 1 and host.log == []
    entries = {entry["name"]: entry for entry in result.json["weights"]}
    assert entries["default"]["action"] == "here"
    assert entries["mmpose-300w"]["action"] == "failed"
    assert "switched off" in entries["theirs"]["error"]
    assert "popos-authors" not in entries
    assert "popos-authors is left out: Get the archive from https://" in result.err
    (plan,) = download("popos-authors", "--dry-run")
    assert plan["action"] == "by hand"


def test_evaluate_finds_what_was_downloaded(popos, synthetic, host):
    """Though it was trained on another dataset, of the same scheme."""
    result = popos("evaluate", "--resolution", "64", *QUICK)
    assert result.code == 1
    assert "download-weights" in result.json["error"]["hint"]
    (found,) = popos("evaluate", "--resolution", "4", *QUICK).ok().json["results"]
    assert found["weights"] == "tiny"
    popos("download-weights", "theirs").ok()
    (found,) = popos("evaluate", "--resolution", "4", *QUICK).ok().json["results"]
    assert (found["weights"], found["resolution"]) == ("theirs", 4)
