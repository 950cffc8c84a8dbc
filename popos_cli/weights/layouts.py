"""Where a foreign checkpoint keeps its network, and what it calls the tensors of it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import PoposError

NEEDED = (
    "an HRNet-W18 with a heatmap head, of mmpose (backbone.*, keypoint_head.final_layer.0, .1 and .3) or of "
    "HRNet (conv1.*, head.0, .1 and .3)"
)
FIRST_BRANCH = "stage2.0.branches.0.0.conv1.weight"  # its width is the network's

# Their names of our head; the first that fits counts. mmpose 1.x split its last convolution off.
RENAMED = (
    ("keypoint_head.final_layer.", "head."),
    ("head.conv_layers.", "head."),
    ("head.final_layer.weight", "head.3.weight"),
    ("head.final_layer.bias", "head.3.bias"),
    ("head.final_layer.", "head."),
    ("keypoint_head.downscale_layer.", "downscale_layer."),
    ("head.downscale_layer.", "downscale_layer."),
)
# What others put into names: DataParallel and moving averages, torch.compile.
WRAPPERS = ("module", "_orig_mod")
# Beside a network's own tensors: mmcv's copies for its moving average (the names without ema_ hold the
# averaged ones), torch's count of averaged steps.
BESIDE = re.compile(r"ema_\w+|n_averaged")
DEPTH = 4  # how deep mappings are searched for tensors


def find_network(source: Path, checkpoint: Any, remarks: list[str]) -> tuple[dict[str, Tensor], bool]:
    """The network's tensors under our names, and whether they had HRNet's own, which lack "backbone.".

    They may lie in mappings in the checkpoint, and their names may begin with what others put there. Raises
    PoposError where there are no tensors, or those of several networks.
    """
    found: dict[str, dict[str, Tensor]] = {}
    for place, state in _states(checkpoint):
        named = [(_unwrapped(name), value) for name, value in state.items() if isinstance(value, Tensor)]
        tensors = dict(named)
        if len(tensors) < len(named):
            raise PoposError(f"{source}: has several tensors of one name, but for {' and '.join(WRAPPERS)}")
        for name in tensors:
            if name == FIRST_BRANCH or name.endswith(f".{FIRST_BRANCH}"):
                prefix = name.removesuffix(FIRST_BRANCH).removesuffix("backbone.")
                mine = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
                found[".".join(filter(None, [place, prefix.rstrip(".")])) or "the file itself"] = mine
    # mmengine, timm and others keep a second, averaged or raw, network beside the one to use.
    first = {place: mine for place, mine in found.items() if place.partition(".")[0] == "state_dict"} or found
    if len(first) > 1:
        raise PoposError(
            f"{source}: holds several networks: {', '.join(first)}",
            "Save the state_dict of the one that you mean, alone, with torch.save.",
        )
    if not found:
        return _loose(source, checkpoint), False
    ((place, tensors),) = first.items()
    if len(found) > 1:
        remarks.append(f"took {place}; left out: {', '.join(other for other in found if other != place)}")
    tensors = {name: tensor for name, tensor in tensors.items() if not BESIDE.fullmatch(name)}
    _check_kinds(source, tensors)
    if FIRST_BRANCH in tensors:
        return {n if n.startswith("head.") else f"backbone.{n}": t for n, t in tensors.items()}, True
    if "head.0.weight" in tensors:
        raise PoposError(
            f"{source}: has the names of popos' own tensors, but does not say of which network and codec",
            "Take the .safetensors file that popos wrote, which needs no import.",
        )
    return {_our_name(name): tensor for name, tensor in tensors.items()}, False


def _states(value: Any, place: str = "", depth: int = DEPTH) -> Iterator[tuple[str, Mapping[Any, Any]]]:
    """A checkpoint's mappings, each with the keys that lead to it: "model.state_dict"."""
    if isinstance(value, Mapping) and depth:
        yield place, value
        for key, inner in value.items():
            yield from _states(inner, f"{place}.{key}".lstrip("."), depth - 1)


def _unwrapped(name: object) -> str:
    return ".".join(part for part in str(name).split(".") if part not in WRAPPERS)


def _loose(source: Path, checkpoint: Any) -> dict[str, Tensor]:
    """The tensors of what is no HRNet, to say what it is. Raises PoposError where there are none."""
    is_map = isinstance(checkpoint, Mapping)
    state = checkpoint["state_dict"] if is_map and "state_dict" in checkpoint else checkpoint
    if not isinstance(state, Mapping):
        raise PoposError(f"{source}: holds {_kind(state)}, no state_dict; needed: {NEEDED}")
    tensors = {_our_name(str(name)): value for name, value in state.items() if isinstance(value, Tensor)}
    if not tensors:
        keys = ", ".join(sorted(map(str, state))[:4])
        raise PoposError(f"{source}: holds no tensors{f' but {keys}' * bool(keys)}; needed: {NEEDED}")
    return tensors


def _check_kinds(source: Path, tensors: dict[str, Tensor]) -> None:
    """Raises PoposError for a tensor whose values are not plain floating numbers, which a conversion would
    lose or change."""
    for name, tensor in tensors.items():
        if tensor.is_nested:
            kind = "nested"
        elif tensor.layout != torch.strided:
            kind = "sparse"
        elif tensor.is_meta:
            kind = "empty (meta)"
        elif tensor.is_quantized:
            kind = "quantized"
        elif not (tensor.is_floating_point() or name.endswith(".num_batches_tracked")):
            kind = str(tensor.dtype).removeprefix("torch.")
        else:
            continue
        raise PoposError(
            f"{source}: {name} is a tensor of another kind: {kind}",
            "Save the network's weights as plain (dense, float) tensors.",
        )


def _our_name(name: str) -> str:
    for theirs, ours in RENAMED:
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    return name


def _kind(value: object) -> str:
    return f"one tensor {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"


def describe(tensors: dict[str, Tensor]) -> str:
    """What network these tensors may be, for an error."""
    bare = {name.removeprefix("backbone."): tensor for name, tensor in tensors.items()}
    branch = bare.get(FIRST_BRANCH)
    if branch is not None and branch.ndim:
        ours = "a heatmap head" if "head.3.weight" in tensors else "another head"
        head = ours if any("head" in name for name in tensors) else "no heatmap head"
        return f"an HRNet-W{len(branch)} with {head}"
    if "layer4.0.conv1.weight" in bare:
        return f"a ResNet ({len(tensors)} tensors)"
    return f"another network ({len(tensors)} tensors: {', '.join(list(tensors)[:3])} ...)"
