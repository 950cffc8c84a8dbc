"""How good and how fast decoders are on this machine, on synthetic heatmaps."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch

from ..core.codec import Codec
from .trials import DEFECTS, NOISE, cramer_rao, draw_points, make_maps, mean_length

# The batch that is timed: 64 faces of 68 points, noise .02. The fastest of several turns counts,
# because other programs on the machine only ever slow one down.
FACES, LANDMARKS = 64, 68
TURNS, SECONDS = 5, 0.3  # at least


def fastest(call: Callable[[], Any], device: torch.device) -> float:
    """Seconds of the fastest call, after one to warm up."""
    call()
    best, turns, begun = math.inf, 0, time.perf_counter()
    while turns < TURNS or time.perf_counter() - begun < SECONDS:
        wait_for(device)
        started = time.perf_counter()
        call()
        wait_for(device)
        best, turns = min(best, time.perf_counter() - started), turns + 1
    return best


def wait_for(device: torch.device) -> None:
    """Until a GPU has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


@torch.inference_mode()
def bench_decoders(
    resolutions: list[int], decoders: list[str], device: torch.device, count: int, seed: int
) -> Iterator[dict[str, Any]]:
    """One row for each resolution and decoder, and one for the Cramer-Rao bound.

    error: mean distance from the truth in crop pixels by defect, over `count` landmarks; for the
    bound, what an unbiased decoder's mean error is at least (None where the defect is not noise).
    ms: milliseconds per 1000 faces of `Codec.decode`; amax: that time over one `torch.amax` pass's.
    """
    for resolution in resolutions:
        codec = Codec(resolution)
        points = draw_points(codec, count, seed)
        readers = {name: codec.with_decoder(name) for name in decoders}
        errors: dict[str, dict[str, float]] = {name: {} for name in decoders}
        for defect in DEFECTS:
            maps = make_maps(codec, points, defect, seed + 1)[None].to(device)
            for name, reader in readers.items():
                distances = (reader.decode(maps).points[0].cpu() - points).norm(dim=1)
                errors[name][defect] = float(distances.mean())
        limits = {d: float(mean_length(cramer_rao(codec, points, n)).mean()) for d, n in NOISE.items()}
        yield {
            "resolution": resolution, "decoder": "bound", "ms": None, "amax": None,
            "error": {defect: 0.0 if defect == "clean" else limits.get(defect) for defect in DEFECTS},
        }  # fmt: skip
        timed = draw_points(codec, FACES * LANDMARKS, seed + 2)
        batch = make_maps(codec, timed, "noise .02", seed + 3).to(device)
        batch = batch.view(FACES, LANDMARKS, resolution, resolution)
        amax = fastest(partial(torch.amax, batch, dim=(2, 3)), device)
        for name, reader in readers.items():
            seconds = fastest(partial(reader.decode, batch), device)
            yield {
                "resolution": resolution, "decoder": name, "error": errors[name],
                "ms": seconds / FACES * 1e6, "amax": seconds / amax,
            }  # fmt: skip
