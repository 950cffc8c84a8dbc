"""The multilateration family: every heatmap value is a distance, the landmark is where the distances meet.

A value h at pixel a says that the landmark is d(a) = sigma * sqrt(-2 ln h) away. The decoders
reproduce the public POPoS code (`core/utils/trilateration.py`): KeyPosS (Bao et al. 2023,
"KeyPosS: Plug-and-Play Facial Landmark Detection through GPS-Inspired True-Range
Multilateration"), its Gauss-Newton variant, and POPoS (Xiang et al. 2025, "POPoS: Improving
Efficient and Robust Facial Landmark Detection with Parallel Optimal Position Search").
"""

from __future__ import annotations

import torch
from torch import Tensor

from .peak import one_hot, peak, value

# Anchors (the highest pixels) and side of POPoS's search grid in heatmap pixels, by resolution.
GAUSS_NEWTON_ANCHORS = {64: 30, 32: 30, 16: 30, 8: 15, 4: 10}
POPOS_ANCHORS = {64: 30, 32: 10, 16: 20, 8: 15, 4: 10}
POPOS_GRID_SIDE = {64: 8.0, 32: 8.0, 16: 4.0, 8: 3.0, 4: 2.0}
# Maps that POPoS searches at once on a CPU: their candidates stay in its cache.
CHUNK_MAPS = 272


def squared_distance(values: Tensor, sigma: float) -> Tensor:
    """d^2 in hm px^2 for heatmap values of any shape, clipped to [1e-9, 1] as in the reference."""
    return -2 * sigma**2 * values.clamp(1e-9, 1.0).log()


def anchor_count(size: int) -> int:
    """How many of a map's pixels POPoS takes for anchors, by the map's height."""
    return int(_for_resolution(POPOS_ANCHORS, size))


def _for_resolution(table: dict[int, int] | dict[int, float], size: int) -> float:
    """The table's row for this map size; other sizes take the nearest row (in octaves)."""
    # A list, and no `key`: torch.compile traces no generator here, and torch 2.6 no `key`.
    _, nearest = min([(max(row, size) / min(row, size), row) for row in table])
    return table[nearest]


def _anchors(maps: Tensor, count: int, sigma: float) -> tuple[Tensor, Tensor]:
    """The `count` highest pixels: positions (M, count, 2) in hm px and their d^2 (M, count)."""
    height, width = maps.shape[-2:]
    values, index = maps.flatten(1).topk(min(count, height * width), dim=1)
    positions = torch.stack([index % width, index // width], dim=2).to(maps.dtype)
    return positions, squared_distance(values, sigma)


def keyposs(maps: Tensor, sigma: float) -> Tensor:
    """Linear least squares on the brightest 2x2 block near the arg max.

    The block starts at c-2, c-1 or c in each axis, kept within [0, size - 3] (the reference never
    reaches the last row and column); of equal sums the last in row order wins. Subtracting the
    last anchor's circle equation from the other three leaves a linear system, solved here in
    closed form about that anchor; an unknown peak height cancels.
    """
    height, width = maps.shape[-2:]
    column, row, _ = peak(maps)
    best = torch.full_like(maps[:, 0, 0], -torch.inf)
    block_x, block_y = torch.zeros_like(column), torch.zeros_like(row)
    for dy in (-2, -1, 0):
        for dx in (-2, -1, 0):
            x, y = column + dx, row + dy
            allowed = (x >= 0) & (x <= max(width - 3, 0)) & (y >= 0) & (y <= max(height - 3, 0))
            total = (
                value(maps, x, y) + value(maps, x + 1, y) + value(maps, x, y + 1) + value(maps, x + 1, y + 1)
            )
            better = allowed & (total >= best)
            best = torch.where(better, total, best)
            block_x, block_y = torch.where(better, x, block_x), torch.where(better, y, block_y)
    last = squared_distance(value(maps, block_x + 1, block_y + 1), sigma)
    d00 = squared_distance(value(maps, block_x, block_y), sigma) - last
    d10 = squared_distance(value(maps, block_x + 1, block_y), sigma) - last
    d01 = squared_distance(value(maps, block_x, block_y + 1), sigma) - last
    # (X'X)^-1 X'Y with X = [(1, 1), (0, 1), (1, 0)], the anchors' offsets from the last one.
    y00, y10, y01 = (d00 - 2) / 2, (d10 - 1) / 2, (d01 - 1) / 2
    x = block_x + 1 + (y00 - y10 + 2 * y01) / 3
    y = block_y + 1 + (y00 + 2 * y10 - y01) / 3
    return torch.stack([x, y], dim=1)


def gauss_newton(maps: Tensor, sigma: float, steps: int = 20) -> Tensor:
    """Minimise the sum of (|a - p|^2 - d^2)^2 over the anchors, from the arg max.

    Stops where the cost no longer falls, as the reference does; it diverges under noise.
    """
    count = int(_for_resolution(GAUSS_NEWTON_ANCHORS, maps.shape[-2]))
    positions, squared = _anchors(maps, count, sigma)
    points = one_hot(maps, sigma)
    last_cost = torch.full_like(points[:, 0], torch.inf)
    active = torch.ones_like(last_cost, dtype=torch.bool)
    for _ in range(steps):
        offset = positions - points[:, None]
        error = offset.square().sum(dim=2) - squared
        cost = error.square().sum(dim=1)
        active = active & (cost < last_cost)
        last_cost = torch.where(active, cost, last_cost)
        normal = torch.einsum("mki,mkj->mij", offset, offset)
        right = torch.einsum("mki,mk->mi", offset, error)
        (a, b), (_, c) = normal[:, 0].unbind(1), normal[:, 1].unbind(1)
        determinant = a * c - b * b
        solvable = determinant.abs() > 1e-12
        safe = torch.where(solvable, determinant, torch.ones_like(determinant))
        # J = -2 offset: the normal matrix is 4 offset'offset, the right side 2 offset'error.
        step = torch.stack([c * right[:, 0] - b * right[:, 1], a * right[:, 1] - b * right[:, 0]], dim=1) / (
            2 * safe[:, None]
        )
        points = torch.where((active & solvable)[:, None], points + step, points)
    return points


def popos(maps: Tensor, sigma: float) -> Tensor:
    """The best candidate of a grid around the KeyPosS point: least sum of |distance - d|.

    Not differentiable. The grid has int(side / (H / 128)) points a side, end points included, and
    is shifted by -H / 256 hm px, so that it never contains its own start; of equal candidates the first in
    row order wins.
    """
    if maps.is_cuda or torch.compiler.is_exporting():  # an exported model cannot loop over parts of a batch
        return _search_grid(maps, sigma)
    return torch.cat([_search_grid(part, sigma) for part in maps.split(CHUNK_MAPS)])


def _search_grid(maps: Tensor, sigma: float) -> Tensor:
    """`popos` for as many maps as memory allows; one row of candidates is compared at a time."""
    size = maps.shape[-2]
    side, spacing = float(_for_resolution(POPOS_GRID_SIDE, size)), size / 128
    count = max(int(side / spacing), 1)
    positions, squared = _anchors(maps, anchor_count(size), sigma)
    distances = squared.sqrt()[..., None]
    start = keyposs(maps, sigma)
    line = torch.linspace(-side / 2, side / 2, count, dtype=maps.dtype, device=maps.device) - spacing / 2
    across, down = start[:, :1] + line, start[:, 1:] + line  # (M, C) candidate columns and rows
    squared_x = (across[:, None] - positions[..., :1]).square()  # (M, anchors, C)
    squared_y = (down[:, None] - positions[..., 1:]).square()
    errors = [
        (squared_x + squared_y[..., row, None]).sqrt_().sub_(distances).abs_().sum(dim=1)
        for row in range(count)
    ]
    best = torch.cat(errors, dim=1).argmin(dim=1, keepdim=True)
    return torch.cat([across.gather(1, best % count), down.gather(1, best // count)], dim=1)
