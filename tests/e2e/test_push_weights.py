"""Weights go up to a server on this machine that plays the Hub, and come down again with the same bytes."""

from __future__ import annotations

from pathlib import Path

import pytest
from hosts import Hub
from hub_commits import Shelf
from huggingface_hub import ModelCard, constants, hf_hub_download


@pytest.fixture
def shelf():
    with Hub() as hub:
        hub.token = "hf_secret"
        yield Shelf(hub)


@pytest.fixture
def online(shelf, tmp_path):
    """The environment of a machine that is logged in to that Hub."""
    return {
        "HF_ENDPOINT": shelf.hub.url, "HF_TOKEN": "hf_secret", "HF_HUB_OFFLINE": "0",
        "HF_HUB_CACHE": str(tmp_path / "hub"), "no_proxy": "127.0.0.1",
    }  # fmt: skip


def test_push_then_download_gives_the_same_bytes(
    popos, popos_process, shelf, online, trained, tmp_path, hopper, monkeypatch
):
    evaluate = ("evaluate", "--dataset", "synthetic", "--workers", "0", "--json")
    (result,) = popos(*evaluate, "--weights", trained).ok().json["results"]
    done = popos_process(
        "push-weights", trained, "ada/faces", "--metrics", Path(result["run"]) / "metrics.json",
        "--licence", "cc-by-4.0", "--message", "First weights", "--json", env=online,
    ).ok()  # fmt: skip
    assert done.err == ""
    address = "hf://ada/faces/synthetic-4-1.safetensors"
    pushed = done.json
    assert (pushed["weights"], pushed["source"]) == (address, str(trained / "best.safetensors"))
    assert pushed["commit"].startswith(f"{shelf.hub.url}/ada/faces/commit/")
    assert shelf.messages == ["First weights"]

    (entry,) = popos_process("download-weights", address, "--json", env=online).ok().json["weights"]
    assert Path(entry["path"]).read_bytes() == (trained / "best.safetensors").read_bytes()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    readme = hf_hub_download(
        "ada/faces", "README.md", endpoint=shelf.hub.url, token="hf_secret", cache_dir=tmp_path / "other"
    )
    card = Path(readme).read_bytes().decode("utf-8")
    assert card == pushed["card"]
    read = ModelCard(card)
    assert (read.data.license, read.data.library_name) == ("cc-by-4.0", "popos")
    assert "Trained on the faces of the dataset `synthetic`" in card
    assert 'init = "scratch"' in card
    assert f"| {result['faces']} | {result['nme']:.2f} |" in card
    assert str(tmp_path) not in card and str(trained) not in card  # no folder of this machine

    predict = "predict", hopper, "--json", "--min-score", "0"  # a network of 24 drawn faces is in doubt
    found = popos_process(*predict, "--weights", address, env=online).ok().json
    here = popos(*predict, "--weights", trained).ok().json
    assert found["images"][0]["faces"] == here["images"][0]["faces"] != []


def test_dry_run_shows_the_card_and_asks_nobody(popos, trained):
    text = popos("push-weights", trained, "ada/faces", "--dry-run").ok().out
    document = popos("push-weights", trained, "ada/faces", "--dry-run", "--json").ok().json
    assert text == document["card"] and text.startswith("---\n")
    assert (document["file"], document["commit"]) == ("synthetic-4-1.safetensors", None)
    assert document["size"] == (trained / "best.safetensors").stat().st_size


def test_without_a_hub(popos_process, shelf, online):
    shelf.hub.stop()
    result = popos_process("push-weights", "small", "ada/faces", env=online)
    assert result.code == 1 and "Traceback" not in result.err
    (line,) = result.errors
    assert "ada/faces" in line and "cannot be reached" in line
