"""Network and codec over a loader: heatmaps once, then every decoder, back in image pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..core.codec import Codec, Decoded
from ..core.crop_rule import SAME, CropRule
from ..core.geometry import Alignment, Floats, invert, tight_square, transform
from ..core.metrics import nme_per_face
from ..core.model import Landmarker
from ..core.schemes import Scheme
from ..data.index import Index
from ..weights.format import WeightsInfo
from .build import evaluation_loader, to_model_input
from .world import ALONE, World

# Times that a detected face is cropped anew. Measured on 534 found faces: 5.01 % NME after one look,
# 4.59 % after two, 4.53 % after three and after four.
LOOKS = 3


@dataclass(frozen=True)
class Measured:
    """One decoder's outcome on F faces, in the order of `face`.

    error (F,): NME as a fraction. points (F, K, 2) image pixels. scores, uncertainty (F, K), the
    latter in image pixels.
    """

    face: np.ndarray[Any, np.dtype[np.int64]]
    error: Floats
    points: Floats
    scores: Floats
    uncertainty: Floats


def flip_back(heatmaps: Tensor, flip_index: Tensor, alignment: Alignment) -> Tensor:
    """Heatmaps (N, K, R, R) of mirrored crops -> the unmirrored crops' heatmaps.

    Exact for "center" and "hrnet". In mmpose's frame the mirrored grid lies 1 - 1 / stride pixels aside;
    mmpose shifts by one whole pixel (`shift_heatmap`), and so do we.
    """
    back = heatmaps.flip(-1)[:, flip_index]
    if alignment == "mmpose":
        back = torch.cat([back[..., :1], back[..., :-1]], dim=-1)
    return back


@torch.inference_mode()
def predict_heatmaps(
    model: torch.nn.Module,
    images: Tensor,
    flip_index: Tensor | None,
    alignment: Alignment,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Float32 heatmaps; with `flip_index`, the mean of the image's and its mirror image's.

    On the images' device, but for Apple's GPUs, which lack operations that decoders need: on the CPU then.
    """
    with torch.autocast(images.device.type, dtype=dtype, enabled=dtype is not None):
        heatmaps = model(images).float()
        if flip_index is not None:
            mirror = images.flip(-1)
            if alignment == "hrnet":  # the middle of its crops lies one pixel to the right of the image's
                mirror = mirror.roll(2, -1)
            mirrored = model(mirror).float()
            heatmaps = (heatmaps + flip_back(mirrored, flip_index, alignment)) / 2
    averaged: Tensor = heatmaps.cpu() if images.device.type == "mps" else heatmaps
    return averaged


def decode_to_image(
    codec: Codec, heatmaps: Tensor, matrices: Floats, label_offset: tuple[float, float]
) -> Decoded[NDArray[Any]]:
    """Decode and move back through the inverted `matrices` (N, 2, 3): all in image pixels."""
    decoded = codec.decode(heatmaps)
    # float64 is NumPy's: Apple's GPUs have none.
    points, scores, uncertainty = (
        values.cpu().numpy().astype(np.float64)
        for values in (decoded.points, decoded.scores, decoded.uncertainty)
    )
    back = invert(matrices)
    scale = np.sqrt(np.abs(np.linalg.det(back[:, :, :2])))[:, None]
    return Decoded(transform(points, back) - np.array(label_offset), scores, uncertainty * scale)


def measure(
    model: torch.nn.Module,
    codecs: dict[str, Codec],
    loader: Iterable[dict[str, Any]],
    device: torch.device,
    flip_index: Tensor | None,
    label_offset: tuple[float, float] = (0.0, 0.0),
    dtype: torch.dtype | None = None,
    progress: Callable[[int], None] | None = None,
    world: World = ALONE,
) -> dict[str, Measured]:
    """Every decoder's outcome; the network runs once (twice a face with the flip test).

    `loader` gives this process's share of the faces; every process returns all of them. `progress` is
    told the number of faces of each of its own batches.
    """
    model.eval()
    rows: dict[str, list[tuple[Any, ...]]] = {name: [] for name in codecs}
    for batch in loader:
        images = to_model_input(batch["image"], device)
        alignment = next(iter(codecs.values())).alignment
        heatmaps = predict_heatmaps(model, images, flip_index, alignment, dtype)
        truth = batch["points_image"].numpy()
        for name, codec in codecs.items():
            found = decode_to_image(codec, heatmaps, batch["matrix"].numpy(), label_offset)
            error = nme_per_face(found.points, truth, batch["normaliser"].numpy())
            rows[name].append((batch["face"].numpy(), error, found.points, found.scores, found.uncertainty))
        if progress:
            progress(len(images))
    shares = world.gather(rows)
    return {name: _in_order([batch for share in shares for batch in share[name]]) for name in codecs}


def _in_order(batches: list[tuple[Any, ...]]) -> Measured:
    """Batches of rows, from whichever process, by face."""
    columns = [np.concatenate(parts) for parts in zip(*batches, strict=True)]
    order = np.argsort(columns[0])
    return Measured(*(column[order] for column in columns))


def evaluate_weights(
    weights: tuple[Landmarker, Codec, WeightsInfo, Scheme],
    index: Index,
    decoders: list[str],
    device: torch.device,
    flip_test: bool,
    workers: int,
    squares: tuple[Floats, Floats] | None = None,
    progress: Callable[[int], None] | None = None,
    world: World = ALONE,
) -> dict[str, Measured]:
    """`measure` for weights as `read_weights` gives them, by decoder name.

    `squares`: a detector's centres (F, 2) and sides (F,) to crop around instead of the index's
    own; they are looked at `LOOKS` times, as `predict` does.
    """
    model, codec, info, scheme = weights
    model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    codecs = {name: codec.with_decoder(name) for name in decoders}
    flip_index = mirror_index(scheme, flip_test, device)
    around = info.around_landmarks()
    for _ in range(LOOKS - 1 if squares is not None else 0):
        assert squares is not None
        loader = evaluation_loader(index, codec, info.crop.padding, workers, squares, world)
        seen = measure(model, {"own": codec}, loader, device, None, info.label_offset, world=world)["own"]
        squares = squares_around(seen.points, *squares, around)
    loader = evaluation_loader(index, codec, info.crop.padding, workers, squares, world)
    return measure(
        model, codecs, loader, device, flip_index, info.label_offset, progress=progress, world=world
    )


def squares_around(
    points: Floats, centers: Floats, sides: Floats, rule: CropRule = SAME
) -> tuple[Floats, Floats]:
    """Squares for the next look: around the points (N, K, 2) of the last one.

    rule: from the tight square of the landmarks to the kind of square that the network was trained on; a
    detector's square misses that by a tenth of its width. A square of less than half or more than twice the
    last one's side is not believed, and the last one (centres (N, 2), sides (N,)) stays.
    """
    around = [rule.square(*tight_square(face)) for face in points]
    looks = [
        square if 0.5 < square[1] / side < 2 else (center, side)
        for square, center, side in zip(around, centers, sides, strict=True)
    ]
    return np.array([c for c, _ in looks]).reshape(-1, 2), np.array([s for _, s in looks])


def mirror_index(scheme: Scheme, wanted: bool, device: torch.device) -> Tensor | None:
    """The flip test's order of landmarks; None where there is to be none, or the scheme has no mirror."""
    return torch.from_numpy(scheme.flip_index).to(device) if wanted and scheme.mirrors else None
