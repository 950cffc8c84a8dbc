"""From a name, an address or a path to weights that can be used, and which of those here come first."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re

import pytest
import torch
from hosts import Fault, Host
from layouts import checkpoint, mmpose_0, network, popos_fork
from safetensors.torch import save_file

from popos_cli.core.model import Landmarker
from popos_cli.errors import PoposError, UsageError
from popos_cli.home import remember
from popos_cli.weights import find
from popos_cli.weights.catalog import Entry
from popos_cli.weights.find import face_weights, find_weights, initial_state, trained_on, weights_here
from popos_cli.weights.foreign import import_checkpoint
from popos_cli.weights.format import WeightsInfo, read_info, save_weights


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("POPOS_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.fixture
def host():
    with Host() as host:
        yield host


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


def catalogue(home, url, data):
    """One entry, whose decoder and label offset no tensor tells."""
    (home / "catalog.toml").write_text(
        f'[club]\nsource = "{url}"\nsha256 = "{hashlib.sha256(data).hexdigest()[:8]}"\nformat = "mmpose"\n'
        'scheme = "cofw"\ndataset = "cofw"\ndecoder = "dark"\nsigma = 1.5\nlabel_offset = [1, 1]\n'
    )


def test_a_foreign_checkpoint_by_its_name(home, host, foreign):
    """Downloaded, verified and converted with what the catalog knows of it, once."""
    catalogue(home, host.serve("/net.pth", foreign), foreign)
    path = find_weights("club")
    info = read_info(path)
    assert (info.scheme, info.resolution, info.label_offset) == ("cofw", 64, (1, 1))
    assert (info.codec.decoder, info.codec.sigma, info.codec.alignment) == ("dark", 1.5, "mmpose")
    assert trained_on(info) == "cofw"
    host.stop()
    (home / "downloads").rename(home / "gone")
    assert find_weights("club") == path


def test_a_wrong_file_is_not_converted(home, host, foreign):
    catalogue(home, host.serve("/net.pth", foreign), b"another")
    with pytest.raises(PoposError, match="wrong file"):
        find_weights("club")
    assert not (home / "weights").exists()
    catalogue(home, host.serve("/net.pth", b"no checkpoint"), b"no checkpoint")
    with pytest.raises(PoposError):
        find_weights("club")
    assert "club" not in [name for name, _, _ in face_weights()]


def test_addresses(host, ours, foreign):
    url = host.serve("/some/w.safetensors", ours.read_bytes())
    assert find_weights(url).read_bytes() == ours.read_bytes()
    path = find_weights(host.serve("/some/net.pth", foreign))
    assert read_info(path).codec.decoder == "two-hot"
    assert path.stem.startswith("net-")
    assert find_weights(path.stem) == path  # the name that evaluate shows
    host.faults = [Fault(status=404)]
    with pytest.raises(PoposError, match="404"):
        find_weights(host.url + "/none.safetensors")


def test_names_and_paths(home, tmp_path, ours):
    run = tmp_path / "run"
    run.mkdir()
    (home / "weights").mkdir()
    for path in (run / "best.safetensors", home / "weights/mine.safetensors"):
        path.write_bytes(ours.read_bytes())
    assert find_weights("run").resolve() == run / "best.safetensors"
    assert find_weights("mine") == home / "weights/mine.safetensors"
    assert find_weights(str(ours)) == ours
    with pytest.raises(UsageError) as caught:
        find_weights("mmpose-300v")
    assert "mmpose-300w" in caught.value.hint


@pytest.mark.parametrize("name, words", [("yunet", "face detector"), ("hrnet-w18-imagenet", "backbone")])
def test_what_finds_no_landmarks_is_refused_unfetched(name, words, monkeypatch):
    monkeypatch.setattr(find, "fetch", lambda *_: pytest.fail("was fetched"))
    with pytest.raises(UsageError, match=words):
        find_weights(name)


def test_by_hand(monkeypatch):
    with pytest.raises(PoposError) as caught:
        find_weights("popos-authors")
    assert "https://drive.google.com/" in caught.value.hint
    assert "import-weights" in caught.value.hint


def test_own_runs_then_downloads_then_bundled(home, host, tmp_path, ours, foreign):
    data = ours.read_bytes()
    run = tmp_path / "run"
    run.mkdir()
    (run / "best.safetensors").write_bytes(data)
    remember("runs", run)
    catalogue(home, host.serve("/net.pth", foreign), foreign)
    find_weights("club")
    url = host.serve("/w.safetensors", data)
    downloaded = find_weights(url)
    (home / "weights/mine.safetensors").write_bytes(data)
    (home / "weights/torn.safetensors").write_bytes(data[:100])
    names = [name for name, _, _ in face_weights()]
    assert names == [str(run), "club", "mine", url, "default", "small"]
    downloaded.write_bytes(data[:-1] + b"x")  # no longer what was pinned
    assert url not in [name for name, _, _ in face_weights()]


@pytest.mark.parametrize("poison", ["deep", "folder", "pipe", "page", "scheme", "nan"])
def test_a_broken_file_among_the_weights_is_named_and_passed_over(home, ours, poison, caplog):
    (home / "weights").mkdir()
    path = home / "weights/bad.safetensors"
    info = read_info(ours)
    state = {"x": torch.zeros(1)}
    if poison == "folder":
        path.mkdir()
    elif poison == "pipe":
        os.mkfifo(path)
    elif poison == "page":
        path.write_text('{"error": "busy"}')
    else:
        change = {"scheme": {"scheme": "nobody's"}, "nan": {"crop": {"padding": float("nan")}}, "deep": {}}
        text = "[" * 100_000 if poison == "deep" else json.dumps({**info.model_dump(), **change[poison]})
        save_file(state, path, {"popos": text})
    (home / "weights/good.safetensors").write_bytes(ours.read_bytes())
    (home / "pins.json").write_text('{"no address": "00"}')
    assert [name for name, _, _ in face_weights()] == ["good", "default", "small"]
    notes = [record.getMessage() for record in caplog.records]
    assert len(notes) == 2 and str(path) in notes[0] and "no address" in notes[1]
    assert all(note.startswith("passed over: ") and "\n" not in note for note in notes)
    assert [name for name, found in weights_here() if isinstance(found, PoposError)] == ["bad", "no address"]


@pytest.mark.parametrize("name", ["w.safetensors", "net.pth"])
@pytest.mark.parametrize("page", [b'{"error": "busy"}', b"<html>Sign in</html>", b"", b"busy"])
def test_an_error_page_is_not_taken_for_weights(home, host, ours, name, page):
    """Its name works as soon as the host has the file."""
    url = host.serve(f"/{name}", page)
    with pytest.raises(PoposError) as caught:
        find_weights(url)
    assert url in caught.value.message and "\n" not in caught.value.message
    assert not (home / "pins.json").exists() and not (home / "weights").exists()
    if name == "w.safetensors":
        host.serve("/w.safetensors", ours.read_bytes())
        assert find_weights(url).read_bytes() == ours.read_bytes()


def test_weights_with_broken_tensors_are_not_pinned(home, host, ours):
    """Their metadata is right, so that the name would stay broken once the host has the right ones."""
    data = ours.read_bytes()
    url = host.serve("/w.safetensors", data[:-4000] + b"\xff" * 4000)
    with pytest.raises(PoposError, match="NaN"):
        find_weights(url)
    assert not (home / "pins.json").exists()
    host.serve("/w.safetensors", data)
    assert find_weights(url).read_bytes() == data


def test_a_checkpoint_of_another_network_is_not_pinned(home, host, foreign):
    file = io.BytesIO()
    torch.save({"fc.weight": torch.zeros(3, 3)}, file)
    url = host.serve("/net.pth", file.getvalue())
    with pytest.raises(PoposError, match="another network"):
        find_weights(url)
    host.serve("/net.pth", foreign)
    assert read_info(find_weights(url)).scheme == "cofw"


@pytest.mark.parametrize("kind, form", [("detector", "onnx"), ("backbone", "timm")])
def test_an_error_page_is_no_detector_nor_backbone(home, host, kind, form):
    url = host.serve("/x.bin", b'{"error": "busy"}')
    with pytest.raises(PoposError, match=re.escape(url)):
        find.obtain(Entry("x", kind, "", "", url, format=form))
    assert not (home / "pins.json").exists()
    if kind == "detector":
        host.serve("/x.bin", b"\x08\x08\x12\x07pytorch")
        assert find.obtain(Entry("x", kind, "", "", url, format=form)).is_file()


def test_training_starts_from_the_backbone(home, tmp_path, monkeypatch):
    """timm's tensors have no prefix; without the file training starts from scratch and says so."""
    model = Landmarker(29, 64)
    path = tmp_path / "imagenet.safetensors"
    save_file({n: t.clone() for n, t in model.backbone.state_dict().items()}, path)
    (home / "catalog.toml").write_text(
        f'[hrnet-w18-imagenet]\nkind = "backbone"\nformat = "timm"\nsource = "{path}"\n'
    )
    for init in ("auto", "hrnet-w18-imagenet"):
        state, sentence = initial_state(init, model)
        assert set(state) == {name for name in model.state_dict() if name.startswith("backbone.")}
        assert str(path) in sentence
    (home / "catalog.toml").unlink()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    state, sentence = initial_state("auto", model)
    assert state is None and "from scratch" in sentence
    with pytest.raises(PoposError, match="switched off"):
        initial_state("hrnet-w18-imagenet", model)


def test_training_starts_with_the_outputs_of_an_imported_network(tmp_path):
    """Also where its stem's convolutions shared one batch norm; another network is no start."""
    original = network(68, 4, popos=True)
    torch.save({"state_dict": popos_fork(original)}, tmp_path / "popos.pth")
    import_checkpoint(tmp_path / "popos.pth", tmp_path / "popos.safetensors")
    model = Landmarker(68, 4, fusion="bilinear")
    state, _ = initial_state(str(tmp_path / "popos.safetensors"), model)
    assert model.state_dict().keys() == state.keys()
    model.load_state_dict(state)
    images = torch.rand(2, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(model.eval()(images), original(images))
    with pytest.raises(PoposError, match="bilinear") as refused:
        initial_state(str(tmp_path / "popos.safetensors"), Landmarker(68, 4))
    assert "--set model.fusion=bilinear" in refused.value.hint
