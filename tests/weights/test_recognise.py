"""Files that are no weights of ours: each refusal says what the file is, and what to do."""

import io
import pickle
import zipfile

import pytest
import torch
from safetensors.torch import save

from popos_cli.core.hrnet import HRNet
from popos_cli.errors import PoposError
from popos_cli.weights.format import read_info, read_state, read_weights


def checkpoint(legacy):
    buffer = io.BytesIO()
    torch.save({"state_dict": {"x": torch.zeros(3)}}, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


def archive():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("weights.safetensors", b"x")
    return buffer.getvalue()


FILES = {
    "empty": (b"", "the file is empty", "again"),
    "checkpoint": (checkpoint(False), "a checkpoint of PyTorch", "popos import-weights"),
    "old checkpoint": (checkpoint(True), "a checkpoint of PyTorch", "popos import-weights"),
    "torn checkpoint": (checkpoint(False)[:400], "a checkpoint of PyTorch", "popos import-weights"),
    "pickle": (pickle.dumps([1.0] * 99), "a checkpoint of PyTorch", "popos import-weights"),
    "archive": (archive(), "a ZIP archive", "Unpack"),
    "pointer": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        "a Git LFS pointer",
        "git lfs pull",
    ),
    "page": (b"\n<!DOCTYPE html><html>Sign in</html>", "a web page", "again"),
    "onnx": (b"\x08\x07\x12\x07pytorch" + bytes(99), "an ONNX model", "--detector yunet"),
    "text": (b"These are not the weights you are looking for.", "not a readable safetensors file", "again"),
}


@pytest.mark.parametrize("what", FILES)
@pytest.mark.parametrize("read", [read_info, read_state, read_weights])
def test_a_file_is_called_what_it_is(tmp_path, what, read):
    data, told, hint = FILES[what]
    path = tmp_path / "w.safetensors"
    path.write_bytes(data)
    with pytest.raises(PoposError) as caught:
        read(path)
    assert caught.value.message.startswith(f"{path}: {told}")
    assert "\n" not in caught.value.message
    assert hint in caught.value.hint


def test_a_folder(tmp_path):
    with pytest.raises(PoposError, match=": a folder"):
        read_info(tmp_path)


def test_an_imagenet_backbone_is_told_from_any_other_file(tmp_path):
    path = tmp_path / "model.safetensors"
    state = {name: tensor.contiguous() for name, tensor in HRNet(4).state_dict().items()}
    path.write_bytes(save(state, {"format": "pt"}))
    with pytest.raises(PoposError, match=r"an HRNet backbone .* need a face model") as caught:
        read_weights(path)
    assert f"popos train --weights {path}" in caught.value.hint
    path.write_bytes(save({"conv1.weight": torch.zeros(3)}))
    with pytest.raises(PoposError, match="not popos weights"):
        read_info(path)
