"""The decoders around the peak: one-hot, two-hot and DARK, as mmpose 0.29 has them.

References: `_get_max_preds`, `keypoints_from_heatmaps` and `_taylor` of mmpose 0.29's
`core/evaluation/top_down_eval.py`; Zhang et al. 2020, "Distribution-Aware Coordinate
Representation for Human Pose Estimation" (DARK).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

BLOCK = 64  # pixels that are searched together


def peak(maps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Column and row (M,) of each map's first maximum, as integers, and whether the map has no NaN and no
    +infinity.

    NaN and infinities count as lowest. Large maps are searched block by block, because `amax` is six times as
    fast on a CPU as `argmax`; a block with a NaN or +infinity counts as lowest.
    """
    lowest, width, flat = -torch.inf, maps.shape[2], maps.flatten(1)
    pixels = flat.shape[1]
    if pixels <= BLOCK:
        index = flat.nan_to_num(nan=lowest, posinf=lowest).argmax(dim=1)
        return index % width, index // width, flat.amax(dim=1).isfinite()
    length = BLOCK if pixels % BLOCK == 0 else width
    blocks = flat.unflatten(1, (pixels // length, length))
    highest = blocks.amax(dim=2)
    block = highest.nan_to_num(nan=lowest, posinf=lowest).argmax(dim=1)
    line = blocks[torch.arange(maps.shape[0], device=maps.device), block]
    index = block * length + line.nan_to_num(nan=lowest, posinf=lowest).argmax(dim=1)
    return index % width, index // width, highest.amax(dim=1).isfinite()


def value(maps: Tensor, column: Tensor, row: Tensor) -> Tensor:
    """maps[m, row[m], column[m]], (M,); indices beyond the border read the border."""
    height, width = maps.shape[-2:]
    index = row.clamp(0, height - 1) * width + column.clamp(0, width - 1)
    return maps.flatten(1).gather(1, index[:, None])[:, 0]


def one_hot(maps: Tensor, sigma: float) -> Tensor:
    """The arg max; (-1, -1) where the maximum is not above zero."""
    column, row, _ = peak(maps)
    points = torch.stack([column, row], dim=1).to(maps.dtype)
    positive = maps.flatten(1).amax(dim=1, keepdim=True) > 0
    return torch.where(positive, points, -torch.ones_like(points))


def two_hot(maps: Tensor, sigma: float) -> Tensor:
    """The arg max plus a quarter pixel towards the higher neighbour in each axis; not near the border."""
    height, width = maps.shape[-2:]
    points = one_hot(maps, sigma)
    column, row = points.long().unbind(1)
    inside = (column > 1) & (column < width - 1) & (row > 1) & (row < height - 1)
    slope = torch.stack(
        [
            value(maps, column + 1, row) - value(maps, column - 1, row),
            value(maps, column, row + 1) - value(maps, column, row - 1),
        ],
        dim=1,
    )
    return points + 0.25 * slope.sign() * inside[:, None]


def dark_blur(maps: Tensor, kernel: int = 11) -> Tensor:
    """mmpose's `_gaussian_blur`: zeros outside, OpenCV's sigma for that kernel, scaled to the old maximum."""
    sigma = 0.3 * ((kernel - 1) * 0.5 - 1) + 0.8
    offsets = torch.arange(kernel, dtype=maps.dtype, device=maps.device) - (kernel - 1) / 2
    weights = torch.exp(-(offsets**2) / (2 * sigma**2))
    weights = weights / weights.sum()
    pad = kernel // 2
    blurred = F.conv2d(maps[:, None], weights.view(1, 1, 1, -1), padding=(0, pad))
    blurred = F.conv2d(blurred, weights.view(1, 1, -1, 1), padding=(pad, 0))[:, 0]
    old, new = maps.amax(dim=(1, 2), keepdim=True), blurred.amax(dim=(1, 2), keepdim=True)
    return blurred * (old / torch.where(new == 0, torch.ones_like(new), new))


def dark(maps: Tensor, sigma: float) -> Tensor:
    """One Newton step on the logarithm of the blurred map, from the arg max of the map itself.

    Only where 1 < x < W - 2 and 1 < y < H - 2, hence never on a 4x4 map.
    """
    height, width = maps.shape[-2:]
    points = one_hot(maps, sigma)
    x, y = points.long().unbind(1)
    log = dark_blur(maps).clamp(min=1e-10).log()

    def at(dx: int, dy: int) -> Tensor:
        return value(log, x + dx, y + dy)

    gx, gy = 0.5 * (at(1, 0) - at(-1, 0)), 0.5 * (at(0, 1) - at(0, -1))
    xx = 0.25 * (at(2, 0) - 2 * at(0, 0) + at(-2, 0))
    yy = 0.25 * (at(0, 2) - 2 * at(0, 0) + at(0, -2))
    xy = 0.25 * (at(1, 1) - at(1, -1) - at(-1, 1) + at(-1, -1))
    determinant = xx * yy - xy * xy
    step = -torch.stack([yy * gx - xy * gy, xx * gy - xy * gx], dim=1)
    inside = (x > 1) & (x < width - 2) & (y > 1) & (y < height - 2) & (determinant != 0)
    safe = torch.where(inside, determinant, torch.ones_like(determinant))
    return points + torch.where(inside[:, None], step / safe[:, None], torch.zeros_like(step))
