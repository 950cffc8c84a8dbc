"""Face checkpoints of mmpose, POPoS and HRNet's own code -> our weights, with their codec.

The layouts (mmpose 0.x, mmpose 1.x, POPoS, a fork of 0.29, and HRNet-Facial-Landmark-Detection) share HRNet's
tensor names. Ours lack what the others never use: later stages, convolutions of other resolutions, POPoS's
downscale_layer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..core.choices import DECODER_NAMES, RESOLUTIONS, Alignment, DecoderName
from ..core.codec import SIGMAS
from ..core.hrnet import CHANNELS, VARIANTS
from ..core.model import IMAGE_SIZE
from ..core.schemes import SCHEMES, Scheme, find_scheme
from ..errors import PoposError, UsageError, did_you_mean
from .catalog import Entry, load_catalog
from .format import CodecInfo, WeightsInfo, check_values, save_weights
from .layouts import FIRST_BRANCH, NEEDED, describe, find_network
from .pickles import read_checkpoint
from .pins import sha256 as hash_of

UNUSED = re.compile(r"backbone\.(conv[34]|transition[23]|stage[34])\.|downscale_layer\.")


@dataclass(frozen=True)
class Hints:
    """What is known of a foreign checkpoint beforehand; None: read off the tensors, or a default.

    scheme: a built-in name or a TOML file. name: what the catalog calls the file.
    """

    scheme: str | None = None
    resolution: int | None = None
    sigma: float | None = None
    decoder: DecoderName | None = None
    label_offset: tuple[float, float] | None = None
    name: str | None = None


@dataclass(frozen=True)
class Foreign:
    """A checkpoint in our terms. layout: mmpose, popos or hrnet. remarks: what was taken for granted."""

    state: dict[str, Tensor]
    info: WeightsInfo
    layout: str
    remarks: tuple[str, ...]


def import_checkpoint(source: Path, target: Path, hints: Hints = Hints()) -> WeightsInfo:
    """Write a foreign checkpoint as our weights, float32 as it is; `target` whole or not at all.

    Raises PoposError where the file cannot be read, is of another network, or does not say what is
    needed; UsageError for a hint that cannot be.
    """
    foreign = read_foreign(source, hints)
    save_weights(target, foreign.state, foreign.info, half=False)
    return foreign.info


def read_foreign(source: Path, hints: Hints = Hints()) -> Foreign:
    """The conversion without the writing. Raises as `import_checkpoint` does."""
    named = check_hints(hints)
    remarks: list[str] = []
    tensors, plain = find_network(source, read_checkpoint(source), remarks)
    branch, head = tensors.get(f"backbone.{FIRST_BRANCH}"), tensors.get("head.3.weight")
    if branch is None or head is None or branch.ndim != 4 or head.ndim != 4 or len(branch) != CHANNELS[0]:
        raise PoposError(f"{source}: holds {describe(tensors)}; needed: {NEEDED}")
    landmarks = len(head)
    scheme = named or _scheme_of(landmarks, source)
    if scheme.landmarks != landmarks:
        raise PoposError(
            f"{source}: finds {landmarks} landmarks, but scheme {scheme.name!r} has {scheme.landmarks}",
            "Name its scheme with --scheme, or none.",
        )
    resolution = _resolution(tensors, hints.resolution, source)
    if hints.sigma and hints.sigma > resolution:
        raise UsageError(f"--sigma {hints.sigma:g}: wider than the heatmap of {resolution} pixels")
    layout = "hrnet" if plain else "popos" if _is_popos(tensors, resolution) else "mmpose"
    if plain and _is_popos(tensors, resolution):
        raise PoposError(
            f"{source}: --resolution {resolution} or conv3, but HRNet's own code has 64-pixel heatmaps alone"
        )
    sha256 = hash_of(source)
    info = WeightsInfo(
        resolution=resolution,
        image_size=IMAGE_SIZE,
        stem_norm="shared" if layout == "popos" else "own",
        fusion="bilinear",
        scheme=scheme.name,
        scheme_definition=None if SCHEMES.get(scheme.name) == scheme else scheme.to_dict(),
        codec=_codec(layout, scheme, hints, source),
        label_offset=hints.label_offset or (0.0, 0.0),
        training={"imported": {"file": source.name, "sha256": sha256, "name": hints.name}},
    )
    state = _state(tensors, info, landmarks, source)
    remarks += _remarks(source, hints, info, layout, sha256, "downscale_layer.0.weight" in tensors)
    return Foreign(state, info, layout, tuple(remarks))


def _is_popos(tensors: dict[str, Tensor], resolution: int) -> bool:
    return "backbone.conv3.weight" in tensors or resolution != 64


def _codec(layout: str, scheme: Scheme, hints: Hints, source: Path) -> CodecInfo:
    """What the layout's own code trains with and decodes by, where no hint says something else."""
    decoder: DecoderName = "two-hot"
    alignment: Alignment = "mmpose"
    if layout == "hrnet":  # experiments/*.yaml; its decoder is mmpose's "default"
        sigma, alignment = (1.0 if scheme.name == "300w" else 1.5), "hrnet"
    else:
        sigma = 2.0
        decoder = "popos" if layout == "popos" else "dark" if "_dark" in source.name else "two-hot"
    return CodecInfo(sigma=hints.sigma or sigma, decoder=hints.decoder or decoder, alignment=alignment)


def known_hints(source: Path) -> Hints:
    """What the catalog knows of a file, which it tells by its SHA-256; no hints for an unknown one."""
    if not source.is_file():
        return Hints()
    sha256 = hash_of(source)
    for entry in load_catalog().values():
        if entry.format == "mmpose" and entry.sha256 and sha256.startswith(entry.sha256):
            return hints_of(entry)
    return Hints()


def hints_of(entry: Entry) -> Hints:
    """What a catalog's entry says of its checkpoint."""
    return Hints(entry.scheme, entry.resolution, entry.sigma, entry.decoder, entry.label_offset, entry.name)


def with_flags(known: Hints, **flags: Any) -> Hints:
    """`known`, but what a user said (not None) comes first."""
    return replace(known, **{name: value for name, value in flags.items() if value is not None})


def check_hints(hints: Hints) -> Scheme | None:
    """The named scheme. Raises UsageError for a hint that no checkpoint could have."""
    if hints.resolution is not None and hints.resolution not in RESOLUTIONS:
        raise UsageError(
            f"--resolution {hints.resolution}: must be one of {', '.join(map(str, RESOLUTIONS))}"
        )
    if hints.sigma is not None and not SIGMAS[0] <= hints.sigma <= SIGMAS[1]:
        raise UsageError(
            f"--sigma {hints.sigma:g}: must be from {SIGMAS[0]:g} to {SIGMAS[1]:g} heatmap pixels"
        )
    if hints.decoder is not None and hints.decoder not in DECODER_NAMES:
        hint = f"{did_you_mean(hints.decoder, DECODER_NAMES)}Known: {', '.join(DECODER_NAMES)}."
        raise UsageError(f"unknown decoder {hints.decoder!r}", hint)
    return find_scheme(hints.scheme) if hints.scheme is not None else None


def _scheme_of(landmarks: int, source: Path) -> Scheme:
    for scheme in SCHEMES.values():
        if scheme.landmarks == landmarks:
            return scheme
    raise PoposError(
        f"{source}: finds {landmarks} landmarks, and no built-in scheme has so many",
        "Describe them in a TOML file, and name it with --scheme.",
    )


def _resolution(tensors: dict[str, Tensor], asked: int | None, source: Path) -> int:
    """The heatmap's width, which only POPoS's unused tensors tell, as strides are in no tensor.

    Raises PoposError where the tensors contradict each other and nothing was asked for, or contradict
    what was asked for.
    """
    channels = tensors["head.3.weight"].shape[1]
    extra = [name for name in ("conv3", "conv4") if f"backbone.{name}.weight" in tensors]
    triples = sum(name.startswith("downscale_layer.") and t.ndim == 4 for name, t in tensors.items())
    fitting = [size for size in RESOLUTIONS if _fits(size, channels, len(extra))]
    # POPoS: resolution by the number of its unused downscaling layers
    told = RESOLUTIONS[triples] if triples < len(RESOLUTIONS) and (extra or not triples) else None
    found = (
        f"{triples} downscaling layers, {' and '.join(extra) or 'neither conv3 nor conv4'}, {channels} "
        "channels into the head"
    )
    if asked is not None:
        # What a file was stripped of tells nothing; what it has does.
        if asked not in fitting or (triples and told in fitting and asked != told):
            raise PoposError(f"{source}: --resolution {asked} does not fit its tensors: {found}")
        return asked
    if told not in fitting:
        raise PoposError(
            f"{source}: its tensors contradict each other about the heatmaps' size: {found}",
            f"Say what it was trained for: --resolution {' or '.join(map(str, fitting))}."
            if fitting
            else "It fits no --resolution: take the file as it was first saved.",
        )
    assert told is not None
    return told


def _fits(resolution: int, channels: int, extra: int) -> bool:
    """Whether a network of that resolution has so many channels into its head, and stem convolutions."""
    variant = VARIANTS[IMAGE_SIZE // resolution]
    return sum(CHANNELS[: variant.stages]) == channels and variant.extra <= extra


def _state(tensors: dict[str, Tensor], info: WeightsInfo, landmarks: int, source: Path) -> dict[str, Tensor]:
    """The tensors of our network out of theirs, float32. Raises PoposError where they are not its own."""
    with torch.device("meta"):
        wanted = info.build_model(landmarks).state_dict()
    state = {}
    for name, ours in wanted.items():
        theirs = tensors.get(name)
        if theirs is None and name.endswith(".num_batches_tracked"):  # a counter that inference ignores
            theirs = torch.zeros((), dtype=torch.int64)
        if theirs is None or theirs.shape != ours.shape:
            what = "is missing" if theirs is None else f"is {tuple(theirs.shape)}, not {tuple(ours.shape)}"
            raise PoposError(f"{source}: {name} {what} in this checkpoint; needed: {NEEDED}")
        state[name] = theirs.detach().to(ours.dtype, copy=True).contiguous()
    more = [name for name in tensors if name not in wanted and not UNUSED.match(name)]
    if more:
        raise PoposError(f"{source}: has tensors of another network, like {more[0]}; needed: {NEEDED}")
    check_values(source, state)
    return state


def _remarks(
    source: Path, hints: Hints, info: WeightsInfo, layout: str, sha256: str, downscaling: bool
) -> Iterator[str]:
    named = [e for e in load_catalog().values() if e.source and e.source.endswith(f"/{source.name}")]
    if named and named[0].sha256 and not sha256.startswith(named[0].sha256):
        yield (
            f"{source.name} is the name of {named[0].name!r}, but the file's SHA-256 begins with "
            f"{sha256[:8]}, not {named[0].sha256[:8]}: damaged, or another file; taken for an unknown one"
        )
    if layout == "hrnet":
        if hints.sigma is None:
            yield f"sigma {info.codec.sigma:g}, as in HRNet's own settings; for another name it with --sigma"
        if hints.label_offset is None:
            yield (
                "label offset 0; HRNet's code mirrors x to width - x, and counts the labels of 300W and COFW "
                "from 1: a network trained by it needs --label-offset 0.5,1 there, 0.5,0 elsewhere"
            )
    elif info.scheme == "300w" and hints.label_offset is None and hints.name is None:
        yield (
            "label offset 0; a network that mmpose or POPoS trained on 300W, whose labels count from 1, "
            "needs --label-offset 1,1"
        )
    if info.stem_norm == "shared" and not downscaling and hints.resolution is None:
        yield "POPoS's layout without downscale_layer: taken for its 64-pixel network"
