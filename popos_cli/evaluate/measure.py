"""Run the network once over labelled faces, decode with every decoder, and compute each face's NME."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..core.codec import Codec
from ..core.crop_rule import is_off, squares_around
from ..core.geometry import Floats
from ..core.inference import decode_to_image, mirror_index, predict_heatmaps, to_model_input
from ..core.metrics import nme_per_face
from ..data.index import Index
from ..data.loader import evaluation_loader
from ..processes.world import ALONE, World
from ..weights.format import Weights


@dataclass(frozen=True)
class Measured:
    """One decoder's outcome on F faces.

    face (F,): rows of the index, ascending. error (F,): NME as a fraction, NaN where it cannot be measured.
    points (F, K, 2): image pixels. scores (F, K): 0..1. uncertainty (F, K): image pixels.
    """

    face: np.ndarray[Any, np.dtype[np.int64]]
    error: Floats
    points: Floats
    scores: Floats
    uncertainty: Floats


def measure(
    model: torch.nn.Module, codecs: dict[str, Codec], loader: Iterable[dict[str, Any]], device: torch.device,
    flip_index: torch.Tensor | None, label_offset: tuple[float, float] = (0.0, 0.0),
    dtype: torch.dtype | None = None, progress: Callable[[int], None] | None = None, world: World = ALONE,
) -> dict[str, Measured]:  # fmt: skip
    """The outcome of every codec, by the names in `codecs`, which must have one alignment; the network runs
    once (twice a face with the flip test).

    loader: gives this process's share of the faces; every process returns all of them. flip_index: the flip
    test's order of landmarks, None for no flip test. label_offset: source pixels, subtracted from points.
    dtype: of autocast, None for float32. progress: called with the number of faces of each batch.
    """
    model.eval()
    rows: dict[str, list[tuple[Any, ...]]] = {name: [] for name in codecs}
    alignment = next(iter(codecs.values())).alignment
    for batch in loader:
        images = to_model_input(batch["image"], device)
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
    weights: Weights, index: Index, decoders: Iterable[str], device: torch.device, flip_test: bool,
    workers: int, squares: tuple[Floats, Floats] | None = None, passes: int = 1,
    progress: Callable[[int], None] | None = None, world: World = ALONE,
) -> dict[str, Measured]:  # fmt: skip
    """`measure` for the weights of a file, by decoder name.

    squares: a detector's centres (F, 2) and sides (F,) to crop around instead of the index's own. passes: of
    the network at most, each around the points of the one before, as in `predict`.
    """
    codec, info = weights.codec, weights.info
    model = weights.model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    flip_index = mirror_index(weights.scheme, flip_test, device)
    around = info.around_landmarks()
    for _ in range(passes - 1):
        assert squares is not None
        loader = evaluation_loader(index, codec, info.crop.padding, workers, squares, world)
        first = measure(model, {"own": codec}, loader, device, None, info.label_offset, world=world)["own"]
        nearer = squares_around(first.points, *squares, around)
        off = is_off(*squares, *nearer)
        squares = np.where(off[:, None], nearer[0], squares[0]), np.where(off, nearer[1], squares[1])
    loader = evaluation_loader(index, codec, info.crop.padding, workers, squares, world)
    codecs = {name: codec.with_decoder(name) for name in decoders}
    return measure(model, codecs, loader, device, flip_index, info.label_offset, None, progress, world)
