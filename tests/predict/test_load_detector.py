"""Which detector a name is, by what has been downloaded."""

import hashlib

import pytest

from popos_cli.errors import PoposError
from popos_cli.predict import detect as detectors
from popos_cli.predict.detect import Haar, load_detector


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A POPOS_HOME, and a Hub cache, in which nothing is."""
    from huggingface_hub import constants

    monkeypatch.setenv("POPOS_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "home"


def test_without_yunets_file(home):
    assert isinstance(load_detector("haar"), Haar)
    assert isinstance(load_detector("auto"), Haar)
    with pytest.raises(PoposError, match="yunet is not here") as caught:
        load_detector("yunet")
    assert "popos download-weights yunet" in caught.value.hint


def test_yunet_is_taken_once_it_is_here(home, tmp_path, monkeypatch):
    """A user's catalog may name a file of their own. The network itself is not on every machine."""
    file = tmp_path / "my yunet.onnx"
    file.write_bytes(b"a model")
    home.mkdir()
    sha256 = hashlib.sha256(b"a model").hexdigest()
    (home / "catalog.toml").write_text(
        f'[yunet]\nkind = "detector"\nformat = "onnx"\nsource = "{file}"\nsha256 = "{sha256}"\n'
    )
    monkeypatch.setattr(detectors, "YuNet", lambda model: ("yunet", model))
    assert load_detector("auto") == load_detector("yunet") == ("yunet", file)
    assert isinstance(load_detector("haar"), Haar)
    file.write_bytes(b"another")  # its hash is another: not used
    assert isinstance(load_detector("auto"), Haar)
    with pytest.raises(PoposError, match="yunet is not here"):
        load_detector("yunet")
