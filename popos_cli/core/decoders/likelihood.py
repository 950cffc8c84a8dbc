"""The separable Gaussian fit with free peak height: maximum likelihood under white noise.

The model is h(a) = A exp(-|a - p|^2 / (2 sigma^2)). Because it factorises into x and y, the Schur
complement of its normal equations is diagonal: a Gauss-Newton step costs six small dot products
and no linear solve.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .peak import peak

EPSILON = 1e-12


@dataclass(frozen=True)
class Fit:
    """The fit's terms at a point; every field (M,). `step` is (M, 2), hm px.

    amplitude: least-squares peak height A. variance: (M, 2), variances of x and y in hm px^2
    (residual variance times the inverse normal matrix), infinite where the amplitude is not
    positive.
    """

    step: Tensor
    amplitude: Tensor
    variance: Tensor


def window(maps: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """The part of each map around its arg max, moved inwards at the border.

    Returns the patches (M, h, w) and the first column and row (M,) of each, in maps' dtype.
    """
    height, width = maps.shape[-2:]
    h, w = min(size, height), min(size, width)
    column, row = peak(maps)
    left = (column - w // 2).clamp(0, width - w)
    top = (row - h // 2).clamp(0, height - h)
    if (h, w) == (height, width):
        return maps, left.to(maps.dtype), top.to(maps.dtype)
    rows = top[:, None] + torch.arange(h, device=maps.device)
    columns = left[:, None] + torch.arange(w, device=maps.device)
    index = rows[:, :, None] * width + columns[:, None, :]
    patches = maps.flatten(1).gather(1, index.flatten(1)).view(-1, h, w)
    return patches, left.to(maps.dtype), top.to(maps.dtype)


def _axis(size: int, offset: Tensor, sigma: float) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """g, u = dg/dx, and their sums gg, gu / gg, uu / gg for one axis; `offset` (M,) from pixel 0."""
    distance = torch.arange(size, dtype=offset.dtype, device=offset.device) - offset[:, None]
    g = torch.exp(-(distance**2) / (2 * sigma**2))
    u = g * distance / sigma**2
    gg = g.square().sum(1).clamp(min=EPSILON)
    return g, u, gg, (g * u).sum(1) / gg, u.square().sum(1) / gg


def fit_at(patches: Tensor, offsets: Tensor, sigma: float) -> Fit:
    """The fit's amplitude, variance and next Gauss-Newton step at `offsets` (M, 2).

    `patches` (M, h, w); offsets in hm px from the patch's first pixel.
    """
    height, width = patches.shape[-2:]
    gx, ux, xx, bx, cx = _axis(width, offsets[:, 0], sigma)
    gy, uy, yy, by, cy = _axis(height, offsets[:, 1], sigma)
    along_x = torch.bmm(gy[:, None], patches)[:, 0]  # (M, w): gy' P
    q0 = (along_x * gx).sum(1)
    qx = (along_x * ux).sum(1)
    qy = (torch.bmm(uy[:, None], patches)[:, 0] * gx).sum(1)
    amplitude = q0 / (xx * yy)
    curvature = torch.stack([cx - bx**2, cy - by**2], dim=1).clamp(min=EPSILON)
    positive = q0 > EPSILON
    safe = torch.where(positive, q0, torch.ones_like(q0))
    slope = torch.stack([qx / safe - bx, qy / safe - by], dim=1)
    step = torch.where(positive[:, None], slope / curvature, torch.zeros_like(slope))
    residual = (patches.square().sum((1, 2)) - amplitude * q0).clamp(min=0)
    noise = residual / max(height * width - 3, 1)
    information = (amplitude.square() * xx * yy)[:, None] * curvature
    variance = torch.where(
        (amplitude > EPSILON)[:, None],
        noise[:, None] / information.clamp(min=EPSILON),
        torch.full_like(curvature, torch.inf),
    )
    return Fit(step, amplitude, variance)


def window_size(size: int) -> tuple[int, int]:
    """Side of the window in hm px and Gauss-Newton steps, by the map's larger side.

    On a fine map the window holds the whole Gaussian (4.5 sigma at sigma 2) and keeps other modes
    out; on maps of 8 and 4 pixels every pixel is needed.
    """
    if size >= 32:
        return 9, 2
    return (11, 3) if size >= 16 else (size, 3)


def maximum_likelihood(maps: Tensor, sigma: float, steps: int | None = None) -> Tensor:
    """Gauss-Newton on the Gaussian with free height, from the arg max; differentiable.

    A step is at most 2 sigma, and the point stays within sigma of the map: what lies farther out
    leaves too little slope to be measured.
    """
    height, width = maps.shape[-2:]
    size, default_steps = window_size(max(height, width))
    patches, left, top = window(maps, size)
    corner = torch.stack([left, top], dim=1)
    column, row = peak(maps)
    points = torch.stack([column, row], dim=1).to(maps.dtype)
    highest = torch.tensor([width - 1, height - 1], dtype=maps.dtype, device=maps.device) + sigma
    for _ in range(default_steps if steps is None else steps):
        step = fit_at(patches, points - corner, sigma).step.nan_to_num(nan=0.0)  # overflow
        step = step.clamp(-2 * sigma, 2 * sigma)
        points = torch.minimum((points + step).clamp(min=-sigma), highest)
    return points
