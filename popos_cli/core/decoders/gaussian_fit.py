"""The least-squares fit of one Gaussian of free height: the default decoder, `ml`, and where every decoder's
score and uncertainty come from.

The model is h(a) = A exp(-|a - p|^2 / (2 sigma^2)); under white noise least squares is maximum likelihood.
The model factorises into x and y, so the Schur complement of the normal equations is diagonal: a Gauss-Newton
step costs a few dot products and no linear solve. Windows are laid out (h, w, M), maps last, so that every
sum over a window adds whole vectors: three times as fast on a CPU as a batch of small matrices.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from .peak import peak

EPSILON = 1e-12
FAR = 1e4  # hm px: so far off that exp(-d^2) underflows to 0
STEPS = 2  # of Gauss-Newton, after a first guess that is exact on a clean map


@dataclass(frozen=True)
class Window:
    """A window of each map. Points in a window are (2, M), x then y, in hm px from its first pixel.

    values: (h, w, M), float32 or float64, 0 where the map is not finite. corner: (2, M), first column and
    row in hm px. size: (2, 1), width and height of the whole map. finite: (M,), False where the map has a
    NaN or +infinity.
    """

    values: Tensor
    corner: Tensor
    size: Tensor
    finite: Tensor

    def pixels(self) -> Tensor:
        """Column and row numbers (2, n, 1), n the longer side; the shorter side is filled up with FAR."""
        h, w, _ = self.values.shape
        numbers = torch.arange(max(h, w), dtype=self.values.dtype, device=self.values.device)
        if h == w:
            return numbers.expand(2, -1)[..., None]
        return torch.stack([torch.where(numbers < side, numbers, FAR) for side in (w, h)])[..., None]


def window_around(maps: Tensor, column: Tensor, row: Tensor, finite: Tensor, size: int) -> Window:
    """Cut at most size x size pixels of maps (M, H, W) around whole pixels (M,), moved inwards at the border;
    half precision becomes float32."""
    count, height, width = maps.shape
    h, w = min(size, height), min(size, width)
    left = (column - w // 2).clamp(0, width - w)
    top = (row - h // 2).clamp(0, height - h)
    if (h, w) == (height, width):
        values = maps.flatten(1).t().contiguous()
    else:
        first = torch.arange(count, device=maps.device) * (height * width) + top * width + left
        rows, columns = torch.arange(h, device=maps.device), torch.arange(w, device=maps.device)
        pixels = (rows[:, None] * width + columns).view(-1, 1) + first
        values = maps.flatten().index_select(0, pixels.flatten())  # `take` is half as fast
    values = (values if values.dtype == torch.float64 else values.float()).view(h, w, count)
    return Window(
        values.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0),
        torch.stack([left, top]).to(values.dtype),
        torch.stack([values.new_full((1,), width), values.new_full((1,), height)]),
        finite,
    )


class GaussianProfile(NamedTuple):
    """The model along x and y: g = exp(-d^2 / (2 sigma^2)) and u = g d, both (2, n, M), for the distance d of
    each pixel from the point."""

    g: Tensor
    u: Tensor


def gaussian_profile(window: Window, points: Tensor, sigma: float) -> GaussianProfile:
    distance = window.pixels() - points[:, None]
    g = torch.exp(distance.square() * (-0.5 / sigma**2))
    return GaussianProfile(g, g * distance)


def match(values: Tensor, along_x: Tensor, along_y: Tensor) -> Tensor:
    """sum_ij values[i, j] along_y[i] along_x[j], (M,)."""
    h, w, _ = values.shape
    return ((values * along_x[:w]).sum(1) * along_y[:h]).sum(0)


def normal_equations(profile: GaussianProfile) -> tuple[Tensor, Tensor, Tensor]:
    """Sums over each axis, (2, M): energy = sum g^2, shift = sum(g u) / energy,
    spread = sum(u^2) / energy - shift^2."""
    energy = profile.g.square().sum(1).clamp(min=EPSILON)
    shift = (profile.g * profile.u).sum(1) / energy
    spread = profile.u.square().sum(1) / energy - shift.square()
    return energy, shift, spread.clamp(min=EPSILON)


def newton_step(values: Tensor, profile: GaussianProfile, sigma: float) -> Tensor:
    """Gauss-Newton's step (2, M) in hm px, at most 2 sigma in each axis.

    With P the values: q0 = g_y' P g_x, q_x = g_y' P u_x; the step in x is sigma^2 (q_x / q0 - shift) /
    spread. No step where q0 is not positive.
    """
    h, w, _ = values.shape
    (gx, gy), (ux, uy) = profile.g, profile.u
    _, shift, spread = normal_equations(profile)
    by_row = (values * gx[:w]).sum(1)
    q0 = (by_row * gy[:h]).sum(0)
    q = torch.stack([match(values, ux, gy), (by_row * uy[:h]).sum(0)])
    positive = q0 > EPSILON
    step = (q / torch.where(positive, q0, 1.0) - shift) / spread * sigma**2
    step = torch.where(positive, step, 0.0).nan_to_num(nan=0.0)  # float32 overflows on huge values
    return step.clamp(-2 * sigma, 2 * sigma)


def refine(window: Window, points: Tensor, sigma: float, steps: int = STEPS) -> Tensor:
    """Points (2, M) after some Gauss-Newton steps, kept within sigma of the outermost pixel centres of the
    map: farther out the slopes are too small to measure."""
    lowest, highest = -sigma - window.corner, window.size - 1 + sigma - window.corner
    for _ in range(steps):
        step = newton_step(window.values, gaussian_profile(window, points, sigma), sigma)
        points = (points + step).clamp(lowest, highest)
    return points


@dataclass(frozen=True)
class Fit:
    """How well a Gaussian at `points` (2, M) fits the window. `variance` is (2, M), the other fields (M,).

    amplitude: least-squares peak height A. explained: share 0..1 of the window's variation that the Gaussian
    explains, 0 for a flat map and one that is not finite. variance: of x and y in hm px^2: residual variance
    times the inverse normal matrix, infinite where A is not positive. misfit: rms residual over A.
    """

    window: Window
    points: Tensor
    amplitude: Tensor
    explained: Tensor
    variance: Tensor
    misfit: Tensor

    def widening(self, sigma: float) -> Tensor:
        """By how much a wider Gaussian would fit better, in log sigma along x and y, (2, M): the
        least-squares weight of dh / d log sigma, made orthogonal to h, over A."""
        g, u = gaussian_profile(self.window, self.points, sigma)
        energy = g.square().sum(1).clamp(min=EPSILON)
        wider = u * (self.window.pixels() - self.points[:, None]) / sigma**2
        wider = wider - ((wider * g).sum(1) / energy)[:, None] * g
        values = self.window.values
        found = torch.stack([match(values, wider[0], g[1]), match(values, g[0], wider[1])])
        scale = (wider.square().sum(1) * energy.flip(0)).clamp(min=EPSILON)
        return found / scale / torch.where(self.amplitude > EPSILON, self.amplitude, 1.0)

    def edge(self) -> Tensor:
        """Distance (M,) to the map's outermost pixel centres in hm px, negative outside."""
        points = self.points + self.window.corner
        return torch.minimum(points, self.window.size - 1 - points).amin(0)


def assess(window: Window, points: Tensor, sigma: float) -> Fit:
    """The fit at given points (2, M)."""
    values = window.values
    count = values.shape[0] * values.shape[1]
    profile = gaussian_profile(window, points, sigma)
    energy, _, spread = normal_equations(profile)
    q0 = match(values, profile.g[0], profile.g[1])
    amplitude = q0 / energy.prod(0)
    power = values.square().sum((0, 1))
    residual = (power - amplitude * q0).clamp(min=0)
    variation = (power - values.sum((0, 1)).square() / count).clamp(min=EPSILON)
    positive = amplitude > EPSILON
    height = torch.where(positive, amplitude, 1.0)
    # Three parameters, and two more because error / deviation is a Student's t: so E (error / deviation)^2 =
    # 1.
    noise = residual / max(count - 5, 1) * sigma**4 / (height.square() * energy.prod(0))
    explained = torch.where(positive & window.finite, 1 - residual / variation, 0.0)
    return Fit(
        window,
        points,
        amplitude,
        explained.clamp(min=0),
        torch.where(positive, noise / spread, torch.inf),
        torch.where(positive, (residual / count).sqrt() / height, torch.inf),
    )


def window_size(maps: Tensor, sigma: float) -> int:
    """Side of the window in hm px. On a fine map it holds the Gaussian's core and keeps other modes out; on
    maps of 8 and 4 pixels every pixel is needed. From 32 pixels on it ends at 2 sigma: a wider one takes a
    quarter more time, most of it to fetch the pixels."""
    size = max(maps.shape[-2:])
    if size < 16:
        return size
    return 2 * round((2.0 if size >= 32 else 2.5) * sigma) + 1


def first_guess(window: Window, peaks: Tensor, sigma: float) -> Tensor:
    """Points (2, M) from the logarithms of the neighbours of whole pixels (2, M): exact on a clean map, at
    the border too.

    ln h(c + 1) - ln h(c - 1) = 2 (p - c) / sigma^2, with c the peak, or its inner neighbour where the peak
    lies on the window's border.
    """
    h, w, _ = window.values.shape
    if min(h, w) < 3:
        return peaks.to(window.values.dtype)
    column, row = peaks[0].clamp(1, w - 2), peaks[1].clamp(1, h - 2)
    pixel = row * w + column
    around = torch.stack([pixel, pixel + 1, pixel - 1, pixel + w, pixel - w])
    heights = window.values.flatten(0, 1).gather(0, around)
    share = (heights[1:] / heights[0].clamp(min=EPSILON)).nan_to_num(nan=0.0).clamp(0.01, 100.0)
    right, left, below, above = share.log()
    shift = torch.stack([right - left, below - above]) * (sigma**2 / 2)
    return torch.stack([column, row]) + shift.clamp(-3, 3)


def locate(maps: Tensor, sigma: float) -> tuple[Window, Tensor]:
    """The window around each map's maximum and the fitted point (2, M) in it; differentiable."""
    column, row, finite = peak(maps)
    window = window_around(maps, column, row, finite, window_size(maps, sigma))
    peaks = torch.stack([column, row]) - window.corner.long()
    return window, refine(window, first_guess(window, peaks, sigma), sigma)


def maximum_likelihood(maps: Tensor, sigma: float) -> Tensor:
    """Points (M, 2) in hm px of maps of any floating type; NaN and infinities count as 0. Differentiable."""
    window, points = locate(maps, sigma)
    return (points + window.corner).t()


def locate_and_assess(maps: Tensor, sigma: float) -> tuple[Tensor, Fit]:
    """The points of `maximum_likelihood`, and the fit there, in one go."""
    window, points = locate(maps, sigma)
    return (points + window.corner).t(), assess(window, points.detach(), sigma)


def assess_points(maps: Tensor, points: Tensor, sigma: float) -> Fit:
    """The fit at points (M, 2) in hm px that another decoder found."""
    points = points.detach()
    column, row = points.nan_to_num(nan=0.0).round().long().unbind(1)
    finite = maps.amax(dim=(1, 2)).isfinite()
    window = window_around(maps, column, row, finite, window_size(maps, sigma))
    return assess(window, points.t() - window.corner, sigma)
