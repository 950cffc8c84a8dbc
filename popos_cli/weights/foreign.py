"""Face checkpoints of mmpose, POPoS and HRNet's own code -> our weights, with their codec.

mmpose 0.x and 1.x, POPoS (a fork of mmpose 0.29) and HRNet-Facial-Landmark-Detection share HRNet's tensor
names. Ours lack what the others never use: later stages, convolutions of other resolutions, POPoS's
downscale_layer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ..core.choices import RESOLUTIONS, Alignment, DecoderName
from ..core.codec import SIGMAS
from ..core.hrnet import CHANNELS, VARIANTS
from ..core.model import IMAGE_SIZE
from ..core.schemes import SCHEMES, Scheme, find_scheme
from ..errors import PoposError, UsageError
from .catalog import Entry, converted_file, load_catalog
from .format import CodecInfo, WeightsInfo, check_values, save_weights
from .layouts import NEEDED, Network, find_network
from .pickles import read_checkpoint
from .pins import sha256

UNUSED = re.compile(r"backbone\.(conv[34]|transition[23]|stage[34])\.|downscale_layer\.")


@dataclass(frozen=True)
class Hints:
    """What is known of a foreign checkpoint beforehand. None: read off the tensors, or a default.

    scheme: a built-in name or a TOML file. name: the catalog's for the file.
    """

    scheme: str | None = None
    resolution: int | None = None
    sigma: float | None = None
    decoder: DecoderName | None = None
    label_offset: tuple[float, float] | None = None
    name: str | None = None


@dataclass(frozen=True)
class Foreign:
    """A checkpoint in our terms. layout: mmpose, popos or hrnet. remarks: assumptions to tell the user."""

    state: dict[str, Tensor]
    info: WeightsInfo
    layout: str
    remarks: tuple[str, ...]


def import_file(
    source: Path, hints: Hints, out: Path | None, name: str | None, force: bool
) -> tuple[Path, Foreign]:
    """Convert a file to `out`, and into POPOS_HOME under `name`; beside itself where neither is given.

    hints: they take precedence over what the catalog knows of the file. Returns the new file (the first).
    Raises UsageError for a name or hint that is not possible, PoposError where the file cannot be converted
    or something would be overwritten without `force`.
    """
    if out is not None and out.suffix != ".safetensors":
        raise UsageError(f"--out {out}: must end in .safetensors")
    if name is not None and not re.fullmatch(r"\w[\w.+-]*", name):
        raise UsageError(f"--name {name!r}: cannot be used as a name", "Use letters, digits and _ . + -")
    if name in load_catalog():
        raise UsageError(f"--name {name!r}: the catalog has weights of that name", "Choose another.")
    named = converted_file(name) if name is not None else None
    targets = [target for target in (out, named) if target] or [source.with_suffix(".safetensors")]
    given = {key: value for key, value in vars(hints).items() if value is not None}
    hints = replace(known_hints(source), **given)
    check_hints(hints)
    for target in targets:
        if target.exists() and target != source and not force:
            raise PoposError(
                f"{target} exists already", "Choose another with --out, or overwrite with --force."
            )
    foreign = read_foreign(source, hints)
    for target in targets:
        save_weights(target, foreign.state, foreign.info, half=False)
    return targets[0], foreign


def import_checkpoint(source: Path, target: Path, hints: Hints = Hints()) -> WeightsInfo:
    """Write a foreign checkpoint as our weights, in float32; `target` whole or not at all.

    Raises PoposError where the file cannot be read, is of another network, or lacks something that no hint
    gives; UsageError for a hint that is not possible.
    """
    foreign = read_foreign(source, hints)
    save_weights(target, foreign.state, foreign.info, half=False)
    return foreign.info


def read_foreign(source: Path, hints: Hints = Hints()) -> Foreign:
    """The conversion without the writing. Raises as `import_checkpoint` does."""
    scheme = check_hints(hints)
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
    resolution = _resolution(network.tensors, hints.resolution, source)
    if hints.sigma and hints.sigma > resolution:
        raise UsageError(f"--sigma {hints.sigma:g}: wider than the heatmap of {resolution} pixels")
    of_popos = "backbone.conv3.weight" in network.tensors or resolution != RESOLUTIONS[0]
    if network.hrnet_names and of_popos:
        raise PoposError(
            f"{source}: --resolution {resolution} or conv3, but HRNet's own code has 64-pixel heatmaps alone"
        )
    layout = "hrnet" if network.hrnet_names else "popos" if of_popos else "mmpose"
    info = WeightsInfo(
        resolution=resolution,
        image_size=IMAGE_SIZE,
        stem_norm="shared" if layout == "popos" else "own",
        fusion="bilinear",
        scheme=scheme.name,
        scheme_definition=None if SCHEMES.get(scheme.name) == scheme else scheme.to_dict(),
        codec=_codec(layout, scheme, hints, source),
        label_offset=hints.label_offset or (0.0, 0.0),
        training={"imported": {"file": source.name, "sha256": sha256(source), "name": hints.name}},
    )
    state = _state(network.tensors, info, landmarks, source)
    return Foreign(state, info, layout, tuple(_remarks(source, hints, info, layout, network)))


def _codec(layout: str, scheme: Scheme, hints: Hints, source: Path) -> CodecInfo:
    """The hints', else what the layout's own code trains with and decodes by."""
    sigma = 2.0
    decoder: DecoderName = "two-hot"
    alignment: Alignment = "mmpose"
    if layout == "hrnet":  # its experiments/*.yaml; it decodes as mmpose does by default
        sigma, alignment = (1.0 if scheme.name == "300w" else 1.5), "hrnet"
    elif layout == "popos":
        decoder = "popos"
    elif "_dark" in source.name:
        decoder = "dark"
    return CodecInfo(sigma=hints.sigma or sigma, decoder=hints.decoder or decoder, alignment=alignment)


def known_hints(source: Path) -> Hints:
    """What the catalog knows of a file with this SHA-256; no hints for an unknown or missing file."""
    digits = sha256(source) if source.is_file() else ""
    for entry in load_catalog().values():
        if entry.format == "mmpose" and entry.sha256 and digits.startswith(entry.sha256):
            return hints_of(entry)
    return Hints()


def hints_of(entry: Entry) -> Hints:
    """What a catalog's entry says of its checkpoint."""
    return Hints(entry.scheme, entry.resolution, entry.sigma, entry.decoder, entry.label_offset, entry.name)


def check_hints(hints: Hints) -> Scheme | None:
    """The named scheme. Raises UsageError for an unknown one, and for a sigma out of range."""
    if hints.sigma is not None and not SIGMAS[0] <= hints.sigma <= SIGMAS[1]:
        raise UsageError(
            f"--sigma {hints.sigma:g}: must be from {SIGMAS[0]:g} to {SIGMAS[1]:g} heatmap pixels"
        )
    return find_scheme(hints.scheme) if hints.scheme is not None else None


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
        problem = _problem(theirs, ours)
        if theirs is None or problem:
            raise PoposError(f"{source}: {name} {problem}; needed: {NEEDED}")
        state[name] = theirs.detach().to(ours.dtype, copy=True).contiguous()
    more = [name for name in tensors if name not in wanted and not UNUSED.match(name)]
    if more:
        raise PoposError(f"{source}: has tensors of another network, like {more[0]}; needed: {NEEDED}")
    check_values(source, state)
    return state


def _problem(theirs: Tensor | None, ours: Tensor) -> str | None:
    """Why a tensor cannot become ours without loss; None where it can."""
    if theirs is None:
        return "is missing in this checkpoint"
    odd = theirs.is_quantized or theirs.is_meta or theirs.layout != torch.strided
    if odd or theirs.is_floating_point() != ours.is_floating_point():
        kind = f"{theirs.layout}, {theirs.dtype}, {theirs.device}"
        return f"is not a plain tensor of floating-point numbers ({kind})"
    return None if theirs.shape == ours.shape else f"is {tuple(theirs.shape)}, not {tuple(ours.shape)}"


def _remarks(source: Path, hints: Hints, info: WeightsInfo, layout: str, network: Network) -> Iterator[str]:
    """What a user should check, because it was assumed."""
    if network.left_out:
        yield f"took {network.place}; left out: {', '.join(network.left_out)}"
    digits = info.training["imported"]["sha256"]
    for entry in load_catalog().values():
        published = entry.source and entry.source.endswith(f"/{source.name}") and entry.sha256
        if published and not digits.startswith(entry.sha256 or ""):
            yield (
                f"{source.name} is the name of {entry.name!r}, but its SHA-256 begins with {digits[:8]}: a "
                "damaged or another file, converted as an unknown one"
            )
    if layout == "hrnet":
        if hints.sigma is None:
            yield f"sigma {info.codec.sigma:g}, as in HRNet's own settings; --sigma sets another"
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
    downscaling = any(name.startswith("downscale_layer.") for name in network.tensors)
    if layout == "popos" and not downscaling and hints.resolution is None:
        yield "POPoS's layout without downscale_layer: taken for its 64-pixel network"
