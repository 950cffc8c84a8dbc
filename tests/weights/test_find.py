"""From a name, an address or a path to weights that can be used, and which of those here come first."""

from __future__ import annotations

import hashlib
import io
import json
import os

import pytest
import torch
from layouts import checkpoint, mmpose_0, network
from safetensors.torch import save_file

from popos_cli.core.model import Landmarker
from popos_cli.errors import PoposError, UsageError
from popos_cli.home import remember
from popos_cli.weights.catalog import Entry
from popos_cli.weights.find import face_weights, find_weights, obtain, trained_on, weights_here
from popos_cli.weights.format import read_info, save_weights
from popos_cli.weights.info import WeightsInfo


@pytest.fixture(scope="module")
def foreign():
    """A checkpoint of mmpose for the 29 points of COFW."""
    file = io.BytesIO()
    torch.save(checkpoint(mmpose_0(network(29, 64))), file)
    return file.getvalue()


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    path = tmp_path_factory.mktemp("ours") / "w.safetensors"
    info = WeightsInfo(resolution=4, scheme="cofw", training={"dataset": "somebody's"})
    save_weights(path, Landmarker(29, 4).state_dict(), info, half=True)
    return path


def write_catalog(home, url, data):
    """A catalog of one entry, whose decoder and label offset are in no tensor."""
    (home / "catalog.toml").write_text(
        f'[club]\nsource = "{url}"\nsha256 = "{hashlib.sha256(data).hexdigest()[:8]}"\nformat = "mmpose"\n'
        'scheme = "cofw"\ndataset = "cofw"\ndecoder = "dark"\nsigma = 1.5\nlabel_offset = [1, 1]\n'
    )


def names_here():
    return [name for name, _, _ in face_weights()]


def test_a_foreign_checkpoint_by_its_name(home, host, foreign):
    """Downloaded, verified and converted with what the catalog knows of it, once."""
    url = host.serve("/net.pth", foreign)
    write_catalog(home, url, b"another")
    with pytest.raises(PoposError, match="wrong file"):
        find_weights("club")
    assert not (home / "weights").exists() and "club" not in names_here()
    write_catalog(home, url, foreign)
    path = find_weights("club")
    info = read_info(path)
    assert (info.scheme, info.resolution, info.label_offset) == ("cofw", 64, (1, 1))
    assert (info.codec.decoder, info.codec.sigma, info.codec.alignment) == ("dark", 1.5, "mmpose")
    assert trained_on(info) == "cofw"
    host.stop()
    (home / "downloads").rename(home / "gone")
    assert find_weights("club") == path


def test_addresses(host, ours, foreign):
    data = ours.read_bytes()
    assert find_weights(host.serve("/some/w.safetensors", data)).read_bytes() == data
    path = find_weights(host.serve("/some/net.pth", foreign))
    assert read_info(path).codec.decoder == "two-hot"
    assert path.stem.startswith("net-")
    assert find_weights(path.stem) == path  # the name that evaluate shows
    with pytest.raises(PoposError, match="404"):
        find_weights(host.url + "/none.safetensors")


def test_names_and_paths(home, tmp_path, ours):
    (tmp_path / "run").mkdir()
    (home / "weights").mkdir()
    for path in (tmp_path / "run/best.safetensors", home / "weights/mine.safetensors"):
        path.write_bytes(ours.read_bytes())
    assert find_weights("run").resolve() == tmp_path / "run/best.safetensors"
    assert find_weights("mine") == home / "weights/mine.safetensors"
    assert find_weights(str(ours)) == ours


@pytest.mark.parametrize(
    "name, kind, message, hint",
    [
        ("mmpose-300v", UsageError, "unknown weights", "mmpose-300w"),
        ("yunet", UsageError, "face detector", "--detector"),
        ("hrnet-w18-imagenet", UsageError, "ImageNet backbone", "popos train"),
        ("popos-authors", PoposError, "by a program", "popos import-weights"),
    ],
)
def test_names_that_give_no_face_model(monkeypatch, name, kind, message, hint):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(kind, match=message) as caught:
        find_weights(name)
    assert hint in caught.value.hint


def test_own_runs_then_downloads_then_bundled(home, host, tmp_path, ours, foreign):
    data = ours.read_bytes()
    run = tmp_path / "run"
    run.mkdir()
    (run / "best.safetensors").write_bytes(data)
    remember("runs", run)
    write_catalog(home, host.serve("/net.pth", foreign), foreign)
    find_weights("club")
    url = host.serve("/w.safetensors", data)
    downloaded = find_weights(url)
    (home / "weights/mine.safetensors").write_bytes(data)
    assert names_here() == [str(run), "club", "mine", url, "default", "small", "tiny"]
    downloaded.write_bytes(data[:-1] + b"x")  # no longer what was pinned
    assert url not in names_here()


@pytest.mark.parametrize("poison", ["deep", "folder", "pipe", "page", "torn", "scheme"])
def test_a_broken_file_among_the_weights_is_named_and_passed_over(home, ours, poison, caplog):
    (home / "weights").mkdir()
    path, data = home / "weights/bad.safetensors", ours.read_bytes()
    if poison == "folder":
        path.mkdir()
    elif poison == "pipe":
        os.mkfifo(path)
    elif poison in ("page", "torn"):
        path.write_bytes(b'{"error": "busy"}' if poison == "page" else data[:100])
    else:
        unknown = json.dumps({**read_info(ours).model_dump(), "scheme": "nobody's"})
        save_file({"x": torch.zeros(1)}, path, {"popos": "[" * 100_000 if poison == "deep" else unknown})
    (home / "weights/good.safetensors").write_bytes(data)
    (home / "pins.json").write_text('{"ftp://nowhere": "00"}')
    assert names_here() == ["good", "default", "small", "tiny"]
    notes = [record.getMessage() for record in caplog.records]
    assert len(notes) == 1 and notes[0].startswith(f"passed over: {path}") and "\n" not in notes[0]
    assert [name for name, found in weights_here() if isinstance(found, PoposError)] == ["bad"]


OTHER_NETWORK = io.BytesIO()
torch.save({"fc.weight": torch.zeros(3, 3)}, OTHER_NETWORK)


@pytest.mark.parametrize(
    "name, bad",
    [
        ("w.safetensors", b"<html>Sign in</html>"),
        ("w.safetensors", None),  # metadata and shapes are right, a tensor is not
        ("net.pth", b""),
        ("net.pth", OTHER_NETWORK.getvalue()),
        ("yunet.onnx", b'{"error": "busy"}'),
        ("imagenet.bin", b'{"error": "busy"}'),
    ],
)
def test_what_is_no_weights_is_not_pinned(home, host, ours, foreign, name, bad):
    """The address works as soon as the host has the file."""
    good = {"w.safetensors": ours.read_bytes(), "net.pth": foreign, "yunet.onnx": b"\x08\x08\x12\x07pytorch"}
    url = host.serve(f"/{name}", ours.read_bytes()[:-4000] + b"\xff" * 4000 if bad is None else bad)
    kind = {"yunet.onnx": "detector", "imagenet.bin": "backbone"}.get(name)

    def get():
        return obtain(Entry(name="x", kind=kind, source=url)) if kind else find_weights(url)

    with pytest.raises(PoposError) as caught:
        get()
    assert url in caught.value.message and "\n" not in caught.value.message
    assert not (home / "pins.json").exists() and not (home / "weights").exists()
    if name in good:
        host.serve(f"/{name}", good[name])
        assert get().is_file()
