"""Where a foreign checkpoint keeps its network, and what it calls the network's tensors."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ..core.hrnet import CHANNELS
from ..errors import PoposError

NEEDED = (
    "an HRNet-W18 with a heatmap head, of mmpose (backbone.*, keypoint_head.final_layer.0, .1 and .3) or of "
    "HRNet (conv1.*, head.0, .1 and .3)"
)
FIRST_BRANCH = "stage2.0.branches.0.0.conv1.weight"  # its width is the network's: 18 for HRNet-W18
# The foreign beginning of a name and ours; the first that fits counts. mmpose 1.x has a name of its own for
# the head's last convolution.
RENAMED = (
    ("keypoint_head.final_layer.", "head."),
    ("head.conv_layers.", "head."),
    ("head.final_layer.weight", "head.3.weight"),
    ("head.final_layer.bias", "head.3.bias"),
    ("head.final_layer.", "head."),
    ("keypoint_head.downscale_layer.", "downscale_layer."),
    ("head.downscale_layer.", "downscale_layer."),
)
WRAPPERS = ("module", "_orig_mod")  # put into names by DataParallel and averaging, and by torch.compile
# Beside a network's own tensors: mmcv's copies for its moving average (the names without ema_ hold the
# averaged ones), and torch's count of averaged steps.
COPIES = re.compile(r"ema_\w+|n_averaged")
DEPTH = 4  # how deep mappings in mappings are searched for tensors


@dataclass(frozen=True)
class Network:
    """tensors: by our names. hrnet_names: whether the file has those of HRNet's own code, which lack
    "backbone.". left_out: the keys that lead to other networks in the file."""

    tensors: dict[str, Tensor]
    hrnet_names: bool
    left_out: list[str]


def find_network(source: Path, checkpoint: Any) -> Network:
    """The HRNet-W18 in a checkpoint, in whatever mapping it lies and whatever its names begin with.

    Raises PoposError where there is none, or several and not one under "state_dict".
    """
    everything: dict[str, Tensor] = {}
    for name, tensor in _tensors_in(checkpoint):
        if name in everything:
            raise PoposError(
                f"{source}: has two tensors {name}, but for {' and '.join(WRAPPERS)} in the name"
            )
        everything[name] = tensor
    branches = [name for name in everything if re.search(rf"(^|[./]){re.escape(FIRST_BRANCH)}$", name)]
    places = dict.fromkeys(name.removesuffix(FIRST_BRANCH).removesuffix("backbone.") for name in branches)
    # mmengine, timm and others keep a second network, averaged or raw, beside the one to use.
    chosen = [place for place in places if place.startswith("state_dict/")] or list(places)
    if len(chosen) > 1:
        raise PoposError(
            f"{source}: holds several networks: {', '.join(map(_readable, chosen))}",
            "Save the state_dict of the one that you mean, alone, with torch.save.",
        )
    place = chosen[0] if chosen else ""
    inside = {name.removeprefix(place): t for name, t in everything.items() if name.startswith(place)}
    tensors = {name: t for name, t in inside.items() if "/" not in name and not COPIES.fullmatch(name)}
    hrnet_names = FIRST_BRANCH in tensors
    if hrnet_names:
        tensors = {n if n.startswith("head.") else f"backbone.{n}": t for n, t in tensors.items()}
    elif chosen and "head.0.weight" in tensors:
        raise PoposError(
            f"{source}: has the names of popos' own tensors, but does not say of which network and codec",
            "Take the .safetensors file that popos wrote, which needs no import.",
        )
    tensors = {_our_name(name): tensor for name, tensor in tensors.items()}
    head, branch = tensors.get("head.3.weight"), tensors.get(f"backbone.{FIRST_BRANCH}")
    if head is None or head.ndim != 4 or branch is None or branch.shape[:1] != CHANNELS[:1]:
        raise PoposError(f"{source}: holds {_describe(checkpoint, everything)}; needed: {NEEDED}")
    left_out = [_readable(other) for other in places if other != place]
    return Network(tensors, hrnet_names, left_out)


def _tensors_in(value: Any, place: str = "", depth: int = DEPTH) -> Iterator[tuple[str, Tensor]]:
    """All tensors of mappings in mappings, by keys and name: "ema/module/backbone.conv1.weight".

    Names come without WRAPPERS.
    """
    if isinstance(value, Mapping) and depth:
        for key, inner in value.items():
            if isinstance(inner, Tensor) and not inner.is_nested:  # a nested one has no shape
                yield place + ".".join(part for part in str(key).split(".") if part not in WRAPPERS), inner
            else:
                yield from _tensors_in(inner, f"{place}{key}/", depth - 1)


def _readable(place: str) -> str:
    return place.rstrip("./").replace("/", ".") or "the file itself"


def _our_name(name: str) -> str:
    for theirs, ours in RENAMED:
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    return name


def _describe(checkpoint: Any, tensors: dict[str, Tensor]) -> str:
    """What a checkpoint holds instead of the network that is needed."""
    if isinstance(checkpoint, Tensor):
        return f"one tensor {tuple(checkpoint.shape)}, no state_dict"
    bare = {re.split(r"[./]backbone\.|/", f"/{name}")[-1]: tensor for name, tensor in tensors.items()}
    if FIRST_BRANCH in bare and bare[FIRST_BRANCH].ndim:
        head = any(_our_name(name) == "head.3.weight" for name in bare)
        return f"an HRNet-W{len(bare[FIRST_BRANCH])} {'with' if head else 'without'} a heatmap head"
    if "layer4.0.conv1.weight" in bare:
        return f"a ResNet ({len(bare)} tensors)"
    if bare:
        return f"another network ({len(bare)} tensors: {', '.join(list(bare)[:3])} ...)"
    return f"no tensors, but a {type(checkpoint).__name__}"
