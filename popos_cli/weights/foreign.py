"""Face checkpoints of mmpose, POPoS and HRNet's own code -> our weights, with their codec.

mmpose 0.x and 1.x, POPoS (a fork of mmpose 0.29) and HRNet-Facial-Landmark-Detection share HRNet's tensor
names. Ours lack what the others never use: later stages, convolutions of other resolutions, POPoS's
downscale_layer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from ..core.choices import RESOLUTIONS, Alignment, DecoderName
from ..core.hrnet import CHANNELS, VARIANTS
from ..core.model import IMAGE_SIZE
from ..core.schemes import SCHEMES, Scheme, find_scheme
from ..errors import PoposError, UsageError, first_problem
from .catalog import NAME, Entry, converted_file, load_catalog
from .download import sha256
from .format import check_values, save_weights
from .info import CodecInfo, WeightsInfo
from .layouts import NEEDED, Network, find_network
from .pickles import read_checkpoint

UNUSED = re.compile(r"backbone\.(conv[34]|transition[23]|stage[34])\.|downscale_layer\.")


@dataclass(frozen=True)
class Foreign:
    """A checkpoint in our terms. layout: mmpose, popos or hrnet. remarks: assumptions to tell the user."""

    state: dict[str, Tensor]
    info: WeightsInfo
    layout: str
    remarks: tuple[str, ...]


def import_file(
    source: Path, flags: dict[str, Any], out: Path | None, name: str | None, force: bool
) -> tuple[Path, Foreign]:
    """Convert a file to `out`, and into POPOS_HOME under `name`; beside itself where neither is given.

    flags: keys of an `Entry`; where not None they take precedence over what the catalog knows of the file.
    Returns the new file (the first). Raises UsageError for a name or value that is not possible, PoposError
    where the file cannot be converted or something would be overwritten without `force`.
    """
    if out is not None and out.suffix != ".safetensors":
        raise UsageError(f"--out {out}: must end in .safetensors")
    if name is not None and not NAME.fullmatch(name):
        raise UsageError(f"--name {name!r}: cannot be used as a name", "Use letters, digits and _ . + -")
    if name in load_catalog():
        raise UsageError(f"--name {name!r}: the catalog has weights of that name", "Choose another.")
    given = {key: value for key, value in flags.items() if value is not None}
    try:
        known = Entry.model_validate({**recognised(source).model_dump(), **given})
    except ValidationError as error:
        key, problem = first_problem(error)
        flag = key.partition(".")[0]
        value = f"{given[flag]:g}" if flag == "sigma" else given[flag]
        raise UsageError(f"--{flag.replace('_', '-')} {value}: {problem}") from None
    targets = [target for target in (out, converted_file(name) if name else None) if target]
    targets = targets or [source.with_suffix(".safetensors")]
    for target in targets:
        if target.exists() and target != source and not force:
            raise PoposError(
                f"{target} exists already", "Choose another with --out, or overwrite with --force."
            )
    foreign = read_foreign(source, known)
    for target in targets:
        save_weights(target, foreign.state, foreign.info, half=False)
    return targets[0], foreign


def import_checkpoint(source: Path, target: Path, known: Entry | None = None) -> WeightsInfo:
    """Write a foreign checkpoint as our weights, in float32; `target` whole or not at all.

    Raises as `read_foreign` does.
    """
    foreign = read_foreign(source, known)
    save_weights(target, foreign.state, foreign.info, half=False)
    return foreign.info


def recognised(source: Path) -> Entry:
    """The catalog's entry with this file's SHA-256; one that says nothing for an unknown or missing file."""
    digits = sha256(source) if source.is_file() else ""
    for entry in load_catalog().values():
        if entry.format == "mmpose" and entry.sha256 and digits.startswith(entry.sha256):
            return entry
    return Entry(name=str(source), source=str(source), format="mmpose")


def read_foreign(source: Path, known: Entry | None = None) -> Foreign:
    """A checkpoint in our terms; what its tensors do not say is taken from `known`, else from the catalog's
    entry of this file, else from the defaults of the code that wrote it.

    Raises PoposError where the file cannot be read, is of another network, or lacks something that is not
    known; UsageError for a scheme or sigma that is not possible.
    """
    known = known or recognised(source)
    scheme = find_scheme(known.scheme) if known.scheme is not None else None
    network = find_network(source, read_checkpoint(source))
    landmarks = len(network.tensors["head.3.weight"])
    schemes = [scheme] if scheme else list(SCHEMES.values())
    scheme = next((scheme for scheme in schemes if scheme.landmarks == landmarks), None)
    if scheme is None:
        others = ", ".join(f"{scheme.name!r} has {scheme.landmarks}" for scheme in schemes)
        raise PoposError(
            f"{source}: finds {landmarks} landmarks, but scheme {others}",
            "Name its scheme with --scheme, or describe its landmarks in a TOML file and name that.",
        )
    resolution = _resolution(network.tensors, known.resolution, source)
    if known.sigma and known.sigma > resolution:
        raise UsageError(f"--sigma {known.sigma:g}: wider than the heatmap of {resolution} pixels")
    of_popos = "backbone.conv3.weight" in network.tensors or resolution != RESOLUTIONS[0]
    if network.hrnet_names and of_popos:
        raise PoposError(
            f"{source}: --resolution {resolution} or conv3, but HRNet's own code has 64-pixel heatmaps alone"
        )
    layout = "hrnet" if network.hrnet_names else "popos" if of_popos else "mmpose"
    imported = {
        "file": source.name, "sha256": sha256(source), "name": known.name if known.named else None
    }  # fmt: skip
    info = WeightsInfo(
        resolution=resolution,
        image_size=IMAGE_SIZE,
        stem_norm="shared" if layout == "popos" else "own",
        fusion="bilinear",
        scheme=scheme.name,
        scheme_definition=None if SCHEMES.get(scheme.name) == scheme else scheme.to_dict(),
        codec=_codec(layout, scheme, known, source),
        label_offset=known.label_offset or (0.0, 0.0),
        training={"imported": imported},
    )
    state = _state(network.tensors, info, landmarks, source)
    return Foreign(state, info, layout, tuple(_remarks(source, known, info, layout, network)))


def _codec(layout: str, scheme: Scheme, known: Entry, source: Path) -> CodecInfo:
    """As known, else what the layout's own code trains with and decodes by."""
    sigma = 2.0
    decoder: DecoderName = "two-hot"
    alignment: Alignment = "mmpose"
    if layout == "hrnet":  # its experiments/*.yaml; it decodes as mmpose does by default
        sigma, alignment = (1.0 if scheme.name == "300w" else 1.5), "hrnet"
    elif layout == "popos":
        decoder = "popos"
    elif "_dark" in source.name:
        decoder = "dark"
    return CodecInfo(sigma=known.sigma or sigma, decoder=known.decoder or decoder, alignment=alignment)


def _resolution(tensors: dict[str, Tensor], asked: int | None, source: Path) -> int:
    """The heatmap's width: the one asked for, else by the number of POPoS's unused downscaling layers, as no
    tensor has the strides. Raises PoposError where the other tensors contradict it."""
    channels = tensors["head.3.weight"].shape[1]
    extra = sum(f"backbone.{name}.weight" in tensors for name in ("conv3", "conv4"))
    downscaling = sum(name.startswith("downscale_layer.") and t.ndim == 4 for name, t in tensors.items())
    variants = {size: VARIANTS[IMAGE_SIZE // size] for size in RESOLUTIONS}
    fitting = [
        size for size, variant in variants.items()
        if sum(CHANNELS[: variant.stages]) == channels and variant.extra <= extra
    ]  # fmt: skip
    # POPoS has 0 to 4 unused downscaling layers at 64 to 4 pixels.
    by_layers = RESOLUTIONS[min(downscaling, len(RESOLUTIONS) - 1)]
    resolution = asked or by_layers
    # A file may be stripped of unused tensors, but those that are left must agree.
    if resolution not in fitting or (downscaling and by_layers in fitting and resolution != by_layers):
        raise PoposError(
            f"{source}: its tensors contradict heatmaps of {resolution} pixels: {downscaling} downscaling "
            f"layers, {extra} of conv3 and conv4, {channels} channels into the head",
            f"It may be one of --resolution {', '.join(map(str, fitting))}."
            if fitting
            else "No --resolution fits: take the file as it was first saved.",
        )
    return resolution


def _state(tensors: dict[str, Tensor], info: WeightsInfo, landmarks: int, source: Path) -> dict[str, Tensor]:
    """Our network's tensors out of theirs, float32. Raises PoposError where they are not those of one."""
    with torch.device("meta"):
        wanted = info.build_model(landmarks).state_dict()
    state = {}
    for name, ours in wanted.items():
        theirs = tensors.get(name)
        if theirs is None and name.endswith(".num_batches_tracked"):  # a counter that inference ignores
            theirs = torch.zeros((), dtype=torch.int64)
        if theirs is None:
            raise PoposError(f"{source}: {name} is missing in this checkpoint; needed: {NEEDED}")
        plain = theirs.layout == torch.strided and not (theirs.is_quantized or theirs.is_meta)
        if not plain or theirs.is_floating_point() != ours.is_floating_point():
            kind = f"{theirs.layout}, {theirs.dtype}, {theirs.device}"
            raise PoposError(f"{source}: {name} is not a plain tensor of floating-point numbers ({kind})")
        if theirs.shape != ours.shape:
            shapes = f"{tuple(theirs.shape)}, not {tuple(ours.shape)}"
            raise PoposError(f"{source}: {name} is {shapes}; needed: {NEEDED}")
        state[name] = theirs.detach().to(ours.dtype, copy=True).contiguous()
    more = [name for name in tensors if name not in wanted and not UNUSED.match(name)]
    if more:
        raise PoposError(f"{source}: has tensors of another network, like {more[0]}; needed: {NEEDED}")
    check_values(source, state)
    return state


def _remarks(source: Path, known: Entry, info: WeightsInfo, layout: str, network: Network) -> Iterator[str]:
    """What a user should check, because it was assumed."""
    if network.left_out:
        yield f"took the network under state_dict; left out: {', '.join(network.left_out)}"
    if layout == "hrnet" and known.sigma is None:
        yield f"sigma {info.codec.sigma:g}, as in HRNet's own settings; --sigma sets another"
    if layout == "hrnet" and known.label_offset is None:
        yield (
            "label offset 0; HRNet's code mirrors x to width - x, and counts the labels of 300W and COFW "
            "from 1: a network trained by it needs --label-offset 0.5,1 there, 0.5,0 elsewhere"
        )
    elif info.scheme == "300w" and known.label_offset is None and not known.named:
        yield (
            "label offset 0; a network that mmpose or POPoS trained on 300W, whose labels count from 1, "
            "needs --label-offset 1,1"
        )
    downscaling = any(name.startswith("downscale_layer.") for name in network.tensors)
    if layout == "popos" and not downscaling and known.resolution is None:
        yield "POPoS's layout without downscale_layer: taken for its 64-pixel network"
