"""How accurate and how fast decoders are on this machine, on synthetic heatmaps.

A trial is a batch of landmarks, 80 % uniform over the hull of the pixel centres and 20 % within 1 heatmap
pixel of its edge, as Gaussian heatmaps of peak height 1 with one of DEFECTS.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..core.codec import Codec

EDGE_SHARE = 0.2
# The batch that is timed: 64 faces of 68 points, noise .02. The fastest of several calls counts, because
# other programs on the machine only ever slow one down.
FACES, LANDMARKS = 64, 68
TURNS, SECONDS = 5, 0.3  # at least


def draw_points(codec: Codec, count: int, seed: int) -> Tensor:
    """(count, 2) float64, crop pixels."""
    rng = torch.Generator().manual_seed(seed)
    last = torch.tensor([codec.width - 1.0, codec.height - 1.0], dtype=torch.float64)
    points = torch.rand(count, 2, generator=rng, dtype=torch.float64) * last
    near = round(count * EDGE_SHARE)
    axis = torch.randint(0, 2, (near,), generator=rng)
    depth = torch.rand(near, generator=rng, dtype=torch.float64)
    far = torch.rand(near, generator=rng) < 0.5
    points[torch.arange(near), axis] = torch.where(far, last[axis] - depth, depth)
    return codec.to_crop(points)


def _noise(maps: Tensor, size: float, rng: torch.Generator) -> Tensor:
    return maps + size * torch.randn(maps.shape, generator=rng)


def _blur(maps: Tensor) -> Tensor:
    """3x3 mean, mirrored at the border (OpenCV's `blur`)."""
    return F.avg_pool2d(F.pad(maps[None], (1, 1, 1, 1), mode="reflect"), 3, stride=1)[0]


def _second_mode(maps: Tensor, codec: Codec, rng: torch.Generator) -> Tensor:
    """A second Gaussian of height .5 anywhere on the map."""
    last = torch.tensor([codec.width - 1.0, codec.height - 1.0])
    rivals = torch.rand(len(maps), 2, generator=rng) * last
    return maps + 0.5 * codec.encode(codec.to_crop(rivals)[None])[0]


DEFECTS: dict[str, Callable[[Tensor, Codec, torch.Generator], Tensor]] = {
    "clean": lambda maps, codec, rng: maps,
    "noise .02": lambda maps, codec, rng: _noise(maps, 0.02, rng),
    "noise .05": lambda maps, codec, rng: _noise(maps, 0.05, rng),
    "peak .6": lambda maps, codec, rng: _noise(0.6 * maps, 0.02, rng),
    "blur": lambda maps, codec, rng: _blur(maps),
    "second mode": _second_mode,
}
# Of the defects that are white noise: standard deviation over peak height.
NOISE = {"noise .02": 0.02, "noise .05": 0.05, "peak .6": 0.02 / 0.6}


def make_maps(codec: Codec, points: Tensor, defect: str, seed: int) -> Tensor:
    """Float32 heatmaps (M, H, W) of points (M, 2) in crop pixels."""
    rng = torch.Generator().manual_seed(seed)
    return DEFECTS[defect](codec.encode(points[None])[0].float(), codec, rng)


def cramer_rao(codec: Codec, points: Tensor, noise: float) -> Tensor:
    """The Cramer-Rao bound: covariances (M, 2, 2), crop px^2, that no unbiased decoder can beat at points (M,
    2).

    noise: standard deviation of white noise over the peak height. The decoder does not know the height: the
    bound is the inverse of the three parameters' Fisher matrix, without the height's row and column.
    """
    p = codec.to_heatmap(points.double())
    x = torch.arange(codec.width, dtype=p.dtype) - p[:, :1]
    y = torch.arange(codec.height, dtype=p.dtype) - p[:, 1:]
    gx, gy = (torch.exp(-(d**2) / (2 * codec.sigma**2)) for d in (x, y))
    ux, uy = gx * x / codec.sigma**2, gy * y / codec.sigma**2
    slopes = [gy[:, :, None] * ux[:, None], uy[:, :, None] * gx[:, None], gy[:, :, None] * gx[:, None]]
    jacobian = torch.stack(slopes, dim=-1).flatten(1, 2)
    covariance = noise**2 * torch.linalg.inv(jacobian.mT @ jacobian)[:, :2, :2]
    stride = codec.stride(p)
    scaled: Tensor = covariance * stride[:, None] * stride
    return scaled


def mean_length(covariances: Tensor) -> Tensor:
    """Mean length E|e| (M,) of two-dimensional Gaussian errors of covariances (M, 2, 2).

    sqrt(pi / 2) times the mean over directions t of sqrt(a cos^2 t + b sin^2 t), a and b the variances along
    the ellipse's axes: in every direction a Gaussian error's length is a Rayleigh draw.
    """
    variances = torch.linalg.eigvalsh(covariances)
    angle = (torch.arange(256, dtype=variances.dtype) + 0.5) * (torch.pi / 512)
    radius = (variances[:, :1] * angle.cos() ** 2 + variances[:, 1:] * angle.sin() ** 2).sqrt()
    length: Tensor = radius.mean(1) * (torch.pi / 2) ** 0.5
    return length


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
    """Wait until a GPU has finished."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


@torch.inference_mode()
def bench_decoders(
    resolutions: list[int], decoders: list[str], device: torch.device, count: int, seed: int
) -> Iterator[dict[str, Any]]:
    """One row for each resolution and decoder, and one for the Cramer-Rao bound.

    error: mean distance from the truth in crop pixels by defect, over `count` landmarks; in the bound's row,
    the least mean error of an unbiased decoder (None where the defect is not noise). ms: milliseconds per
    1000 faces of `Codec.decode`. amax: that time over one `torch.amax`'s.
    """
    for resolution in resolutions:
        codec = Codec(resolution)
        points = draw_points(codec, count, seed)
        codecs = {name: codec.with_decoder(name) for name in decoders}
        errors: dict[str, dict[str, float]] = {name: {} for name in decoders}
        for defect in DEFECTS:
            maps = make_maps(codec, points, defect, seed + 1)[None].to(device)
            for name, one in codecs.items():
                distances = (one.decode(maps).points[0].cpu() - points).norm(dim=1)
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
        for name, one in codecs.items():
            seconds = fastest(partial(one.decode, batch), device)
            yield {
                "resolution": resolution, "decoder": name, "error": errors[name],
                "ms": seconds / FACES * 1e6, "amax": seconds / amax,
            }  # fmt: skip
