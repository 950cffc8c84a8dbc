"""The default rule: one Gaussian of free height, and a second look at maps that are not one.

White noise leaves a residual without pattern. Where the residual is large and neighbouring pixels
agree about it, two other explanations are tried: a map that was smoothed, and a map with a second,
rival mode. The better one is believed if it explains most of what one Gaussian could not.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .gaussian_fit import (
    EPSILON,
    Bells,
    Fit,
    Model,
    Window,
    assess,
    bells,
    bells_at,
    locate,
    match,
    normal,
    outer,
    refine,
)  # fmt: skip

# What is believed instead leaves at most this share of the residual variance. At .1 a young network's
# broad 32-pixel maps were taken for two modes now and then, which cost 0.6 % of its NME; at .05 no
# real heatmap's point is moved for the worse.
BELIEVED = 0.05
SMOOTHED_STEPS, RIVAL_ROUNDS = 2, 8


def _limits(pixels: int) -> tuple[float, float]:
    """From where on a window of that many pixels is looked at again: rms residual over the peak,
    and correlation of neighbouring residuals. White noise of .05 passes both in fewer than 1 of
    1000 maps, at any size; a fit leaves less pattern in fewer pixels."""
    return 0.04 * (1 + 16 / pixels), 0.4 - 3.2 / pixels


def maximum_likelihood(maps: Tensor, sigma: float) -> Tensor:
    """Points (M, 2) in hm px; see `fit_maps`."""
    return fit_maps(maps, sigma)[0]


def fit_maps(maps: Tensor, sigma: float) -> tuple[Tensor, Fit]:
    """Points (M, 2) in hm px, differentiable, and the fit of one Gaussian, before the second look:
    a map that was looked at again fits one Gaussian badly, and keeps the uncertainty of that.

    maps: (M, H, W) of any floating type; NaN and infinities count as 0.
    """
    window, points = locate(maps, sigma)
    fit = assess(window, points.detach(), sigma)
    again = _suspects(window, points.detach(), fit.misfit, sigma)
    if len(again):
        better = reconsider(window.select(again), points[:, again], sigma)
        points = points.index_copy(1, again, better)
    return (points + window.corner).t(), fit


def _suspects(window: Window, points: Tensor, misfit: Tensor, sigma: float) -> Tensor:
    """Numbers (m,) of the maps to look at again. A GPU looks at all: counting would make it wait."""
    if misfit.is_cuda or torch.compiler.is_compiling():
        return torch.arange(len(misfit), device=misfit.device)
    rough = (misfit > _limits(window.area)[0]).nonzero()[:, 0]
    if not len(rough):
        return rough
    part = window.select(rough)
    height, model = _fitted(part, points[:, rough], sigma)
    return rough[_patterned(height, part.values - model)]


def _patterned(height: Tensor, residual: Tensor) -> Tensor:
    """Whether a Gaussian of `height` (M,) leaves something large and connected (h, w, M); (M,)."""
    misfit, pattern = _limits(residual.shape[0] * residual.shape[1])
    large = residual.square().mean((0, 1)).sqrt() > misfit * height
    return large & (neighbour_correlation(residual) > pattern)


def reconsider(window: Window, points: Tensor, sigma: float) -> Tensor:
    """Points (2, M) by the explanation that each map deserves."""
    height, model = _fitted(window, points, sigma)
    residual = window.values - model
    smoothed, smoothed_left = smoothed_map(window, points, sigma)
    double, double_left = two_modes(window, points, sigma)
    other = torch.where(smoothed_left < double_left, smoothed, double)
    believed = torch.minimum(smoothed_left, double_left) < BELIEVED * _variance(residual, 3)
    return torch.where(believed & _patterned(height, residual), other, points)


def neighbour_correlation(residual: Tensor) -> Tensor:
    """Correlation (M,) of residuals (h, w, M) with those one pixel to the right and below."""
    right = (residual[:, 1:] * residual[:, :-1]).sum((0, 1))
    below = (residual[1:] * residual[:-1]).sum((0, 1))
    return (right + below) / (2 * residual.square().sum((0, 1))).clamp(min=EPSILON)


def _fitted(window: Window, points: Tensor, sigma: float, model: Model = bells) -> tuple[Tensor, Tensor]:
    """The model at `points` (2, M): least-squares height (M,), not below 0, and values (h, w, M)."""
    shape = model(window, points, sigma)
    energy = normal(shape).energy.prod(0)
    height = (match(window.values, shape.g[0], shape.g[1]) / energy).clamp(min=0)
    return height, height * outer(shape.g, window.values.shape)


def _variance(residual: Tensor, parameters: int) -> Tensor:
    """Residual variance (M,) of values (h, w, M) after a fit of that many parameters."""
    count = residual.shape[0] * residual.shape[1] - parameters
    return residual.square().sum((0, 1)) / max(count, 1)


def smoothed_map(window: Window, points: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
    """The fit of a Gaussian that went through a 3x3 mean, mirrored at the map's border (OpenCV's
    default): points (2, M) and residual variance (M,)."""
    points = refine(window, points, sigma, SMOOTHED_STEPS, _smoothed_bells)
    _, model = _fitted(window, points, sigma, _smoothed_bells)
    return points, _variance(window.values - model, 3)


def _smoothed_bells(window: Window, points: Tensor, sigma: float) -> Bells:
    """`bells`, averaged over each pixel and its two neighbours."""
    corner, last = window.corner[:, None], window.size[:, None] - 1
    here = window.pixels() + corner
    before, after = (here - 1).abs(), last - (last - (here + 1)).abs()
    parts = [bells_at(place - corner, points, sigma) for place in (before, here, after)]
    return Bells(torch.stack([p.g for p in parts]).mean(0), torch.stack([p.u for p in parts]).mean(0))


def two_modes(window: Window, points: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
    """The higher of two Gaussians, each fitted in turn to what the other leaves: points (2, M) and
    residual variance (M,). The rival starts at the highest residual."""
    values, width = window.values, window.values.shape[1]
    height, first = _fitted(window, points, sigma)
    highest = (values - first).detach().flatten(0, 1).argmax(dim=0)
    rival = torch.stack([highest % width, highest // width]).to(points.dtype)
    second = torch.zeros_like(first)
    for _ in range(RIVAL_ROUNDS):
        rest = window.holding(values - first)
        rival = refine(rest, rival, sigma, 1)
        rival_height, second = _fitted(rest, rival, sigma)
        # The landmark is the higher mode: a rival above it would take its place.
        second = second * (height / rival_height.clamp(min=EPSILON)).clamp(max=1)
        rest = window.holding(values - second)
        points = refine(rest, points, sigma, 1)
        height, first = _fitted(rest, points, sigma)
    return points, _variance(values - first - second, 6)
