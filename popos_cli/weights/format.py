"""Weights on disk: one .safetensors file that says which network and codec it belongs to, or an exported
model."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from ..core.codec import Codec
from ..core.model import Landmarker
from ..core.schemes import Scheme
from ..errors import PoposError
from ..home import replacing
from .file_kinds import refuse_file
from .info import METADATA, WeightsInfo, bad_metadata, parse_info


@dataclass(frozen=True)
class Weights:
    """The content of a weight file. model: eval mode, CPU, float32."""

    model: Landmarker
    codec: Codec
    info: WeightsInfo
    scheme: Scheme


def save_weights(path: Path, state: dict[str, torch.Tensor], info: WeightsInfo, half: bool) -> None:
    """Write a model's state. half=True stores convolutions in float16, which halves the file; biases
    and batch norm stay float32."""
    tensors = {}
    for name, tensor in state.items():
        kept = tensor.detach().cpu().contiguous()
        tensors[name] = kept.half() if half and kept.ndim == 4 else kept
    with replacing(path) as temporary, temporary.open("wb") as file:
        # Not save_file, whose files only their owner may read.
        file.write(save(tensors, {METADATA: info.model_dump_json()}))
        file.flush()
        os.fsync(file.fileno())  # on the disk before a checkpoint that refers to these weights


def replace_info(source: Path, target: Path, info: WeightsInfo) -> None:
    """Write a weight file with other metadata to `target`, which may be `source`."""
    save_weights(target, _read_tensors(source), info, half=False)


def read_info(path: Path) -> WeightsInfo:
    """The metadata alone. Raises PoposError where the file is not ours, torn or newer, and where its metadata
    is out of range or inconsistent."""
    with _opened(path) as file:
        metadata, names = file.metadata() or {}, list(file.keys())
    if METADATA not in metadata:
        what = "a safetensors file, but not popos weights (no 'popos' metadata)"
        hint = "Name one that popos wrote: popos train, or popos import-weights for a .pth file of mmpose."
        if is_backbone(names):
            what = "an HRNet backbone (as trained on ImageNet), but landmarks need a face model"
            hint = f"It is where training starts: popos train --weights {path}"
        raise PoposError(f"{path}: {what}", hint)
    info = parse_info(metadata[METADATA], path)
    try:
        info.check()
    except ValueError as error:
        raise bad_metadata(path, str(error)) from None
    scheme = info.landmark_scheme(str(path))
    if info.uncertainty and len(info.uncertainty.landmarks) != scheme.landmarks:
        raise PoposError(
            f"{path}: calibrated for {len(info.uncertainty.landmarks)} landmarks, but its scheme "
            f"{scheme.name!r} has {scheme.landmarks}"
        )
    return info


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """All tensors, floating ones as float32. Raises PoposError where one cannot be a network's."""
    state = {}
    for name, tensor in _read_tensors(path).items():
        if not (tensor.is_floating_point() or name.endswith(".num_batches_tracked")):
            raise PoposError(f"{path}: {name} is of {tensor.dtype}, not of floating-point numbers")
        state[name] = tensor.float() if tensor.is_floating_point() else tensor
    check_values(path, state)
    return state


def check_values(path: Path, state: dict[str, torch.Tensor]) -> None:
    """Raises PoposError for a value with which a network computes nothing useful."""
    for name, tensor in state.items():
        if not torch.isfinite(tensor).all():
            raise PoposError(f"{path}: {name} has NaN or infinite values", "Take another file.")
        if name.endswith(".running_var") and (tensor < 0).any():
            raise PoposError(f"{path}: {name} has negative values, which no variance has")


def read_weights(path: Path) -> Weights:
    """Raises PoposError for a file that is not ours, or whose tensors do not fit its metadata."""
    info = read_info(path)
    scheme = info.landmark_scheme(str(path))
    state = read_state(path)
    model = info.build_model(scheme.landmarks)
    wanted = tuple(model.state_dict()["head.3.weight"].shape)
    head = tuple(state["head.3.weight"].shape) if "head.3.weight" in state else "missing"
    if head != wanted:
        raise PoposError(
            f"{path}: the head's last tensor, head.3.weight, is {head}, but scheme {scheme.name!r} with "
            f"{scheme.landmarks} landmarks, at resolution {info.resolution}, needs {wanted}"
        )
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        first = str(error).strip().splitlines()[-1].strip()
        raise PoposError(f"{path}: the tensors are not those of its network: {first}") from None
    return Weights(model.eval(), info.build_codec(), info, scheme)


def is_backbone(names: Collection[str]) -> bool:
    """Whether these are HRNet's tensors without a prefix, as ImageNet weights have them."""
    return {"conv1.weight", "stage2.0.branches.0.0.conv1.weight"} <= set(names)


def _read_tensors(path: Path) -> dict[str, torch.Tensor]:
    with _opened(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The file as `safe_open` gives it. Raises PoposError for any other kind of file, or a torn one."""
    try:
        if not path.is_file():  # opening a pipe would wait for ever
            raise FileNotFoundError
        if path.suffix == ".onnx":
            from .onnx_file import OnnxFile

            yield OnnxFile(path)
            return
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise refuse_file(path, "safetensors file", error) from None
