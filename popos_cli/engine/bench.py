"""How good and how fast decoders are on this machine, on synthetic heatmaps."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import torch

from ..core.codec import Codec
from ..core.trials import DEFECTS, NOISE, cramer_rao, draw_points, make_maps, mean_length

# The batch that is timed: 64 faces of 68 points, noise .02. The fastest of several turns counts,
# because other programs on the machine only ever slow one down.
FACES, LANDMARKS = 64, 68
TURNS, SECONDS = 5, 0.3  # at least


def fastest(call: Callable[[], Any], device: torch.device) -> float:
    """Seconds of the fastest call, after one to warm up."""
    call()
    seconds: list[float] = []
    while len(seconds) < TURNS or sum(seconds) < SECONDS:
        _wait(device)
        started = time.perf_counter()
        call()
        _wait(device)
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


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
        maps = {defect: make_maps(codec, points, defect, seed + 1) for defect in DEFECTS}
        limits = {d: float(mean_length(cramer_rao(codec, points, n)).mean()) for d, n in NOISE.items()}
        yield {
            "resolution": resolution, "decoder": "bound", "ms": None, "amax": None,
            "error": {defect: 0.0 if defect == "clean" else limits.get(defect) for defect in DEFECTS},
        }  # fmt: skip
        timed = draw_points(codec, FACES * LANDMARKS, seed + 2)
        batch = make_maps(codec, timed, "noise .02", seed + 3).to(device)
        batch = batch.view(FACES, LANDMARKS, resolution, resolution)
        amax = fastest(lambda batch=batch: batch.flatten(2).amax(2), device)  # type: ignore[misc]
        for decoder in decoders:
            reader = codec.with_decoder(decoder)
            error = {
                defect: float((reader.decode(m[None].to(device)).points[0].cpu() - points).norm(dim=1).mean())
                for defect, m in maps.items()
            }
            seconds = fastest(lambda reader=reader, batch=batch: reader.decode(batch), device)  # type: ignore[misc]
            yield {
                "resolution": resolution, "decoder": decoder, "error": error,
                "ms": seconds / FACES * 1e6, "amax": seconds / amax,
            }  # fmt: skip
