"""Files that are no weights: each refusal says what the file is, and what to do."""

import io
import os
import pickle
import zipfile

import pytest
import torch
from safetensors.torch import save

from popos_cli.core.hrnet import HRNet
from popos_cli.errors import PoposError
from popos_cli.weights.format import read_info, read_state, read_weights
from popos_cli.weights.pickles import read_checkpoint


def checkpoint(legacy):
    buffer = io.BytesIO()
    torch.save({"state_dict": {"x": torch.zeros(3)}}, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


def archive():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("exp/best.pth", b"x")
    return buffer.getvalue()


TORCH = "a checkpoint of PyTorch, not popos weights", "popos import-weights"
TEXT = b"These are not the weights you look for."
OTHERS = [
    (b"", "the file is empty", "again"),
    (archive(), "a zip archive", "exp/best.pth"),
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a Git LFS pointer", "lfs pull"),
    (b"\n<!DOCTYPE html><html>Sign in</html>", "a web page", "again"),
    (b"\x08\x07\x12\x07pytorch" + bytes(99), "an ONNX model", "--detector yunet"),
]
CASES = [
    *((read, *case) for read in (read_info, read_checkpoint) for case in OTHERS),
    *((read, checkpoint(legacy), *TORCH) for read in (read_info, read_state) for legacy in (False, True)),
    (read_info, checkpoint(False)[:400], *TORCH),
    (read_info, pickle.dumps([1.0] * 99), *TORCH),
    (read_info, TEXT, "not a safetensors file: Error", "again"),
    (read_info, save({"x": torch.zeros(9)})[:-1], "not a readable safetensors file: Error", "again"),
    (read_checkpoint, save({"x": torch.zeros(9)}), "a safetensors file, not a checkpoint", "no import"),
    (read_checkpoint, TEXT, "not a PyTorch checkpoint: ", "again"),
    (read_checkpoint, pickle.dumps({"a": [1.0]}), "not a readable PyTorch checkpoint: ", "again"),
]


@pytest.mark.parametrize("read, data, what, hint", CASES)
def test_a_file_is_called_what_it_is(tmp_path, read, data, what, hint):
    path = tmp_path / "w.safetensors"
    path.write_bytes(data)
    with pytest.raises(PoposError) as caught:
        read(path)
    assert caught.value.message.startswith(f"{path}: {what}")
    assert "\n" not in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize("read", [read_info, read_checkpoint])
def test_folders_missing_files_and_pipes(tmp_path, read):
    os.mkfifo(tmp_path / "pipe")  # opening it would wait for a writer
    for name, what in {"": "a folder", "gone": "no such file", "pipe": "not a file"}.items():
        with pytest.raises(PoposError, match=what):
            read(tmp_path / name)


def test_safetensors_of_others(tmp_path):
    path = tmp_path / "model.safetensors"
    state = {name: tensor.contiguous() for name, tensor in HRNet(4).state_dict().items()}
    path.write_bytes(save(state, {"format": "pt"}))
    with pytest.raises(PoposError, match=r"an HRNet backbone .* need a face model") as caught:
        read_weights(path)
    assert f"popos train --weights {path}" in caught.value.hint
    path.write_bytes(save({"conv1.weight": torch.zeros(3)}))
    with pytest.raises(PoposError, match="not popos weights"):
        read_info(path)
