"""Whether a scheme's flip pairs agree with labels: the mean face, mirrored, should land on itself.

Shapes are complex, x + iy: a mirror image is -conj(z), and a rotation is a factor of length 1.
"""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .geometry import Floats
from .schemes import Scheme

MOST_FACES = 1000
LEAST_FACES = 12
ROUNDS = 4
# Distances in units of the mean face's root mean square radius, which is half the width of a 68-point face.
REACH = 0.25  # farther than this, a point is not the mirror image of another
LOPSIDED = 0.05  # median distance of the best pairs beyond which faces are taken to look to one side
SLACK = 0.04  # by which the scheme's pairs may fit worse than the best ones: no face is symmetric

Complex = NDArray[np.complex128]
Order = NDArray[np.int64]


class MirrorCheck(NamedTuple):
    """wrong: landmarks whose mirror image lies elsewhere than the scheme says. lone: those whose mirror image
    is no landmark. pairs: the flip pairs that fit the labels best."""

    wrong: tuple[int, ...]
    lone: tuple[int, ...]
    pairs: tuple[tuple[int, int], ...]


class _Mirror(NamedTuple):
    """The reflection z -> shift - turn * conj(z), the order (K,) in which it best maps a shape to itself, and
    the cost of that."""

    turn: Any
    shift: Any
    order: Order
    cost: float = 0.0

    def of(self, shape: Complex) -> Complex:
        moved: Complex = self.shift - self.turn * shape.conj()
        return moved


def check_mirror(points: Floats, scheme: Scheme) -> MirrorCheck | None:
    """Compare `scheme.flip_pairs` with labelled faces (F, K, 2), NaN where a point is not labelled.

    None where it cannot be decided: too few faces, or all seen from one side.
    """
    labelled = np.isfinite(points).all(2)
    faces = points[labelled.sum(1) >= max(2, (scheme.landmarks + 1) // 2)]
    if len(faces) < LEAST_FACES or scheme.landmarks < 2:
        return None
    faces = faces[np.linspace(0, len(faces) - 1, min(len(faces), MOST_FACES)).astype(np.int64)]
    shapes, flip_index = faces[..., 0] + 1j * faces[..., 1], scheme.flip_index
    with warnings.catch_warnings(action="ignore"):  # a landmark that no face has
        mean, aligned = _mean_shape(shapes)
        if not np.isfinite(mean).all():
            return None
        mirror = _best_mirror(mean, flip_index)
        # Keep the more symmetric half of the faces: heads that look to one side would shift the nose.
        asymmetry = np.nanmean(np.abs(mirror.of(aligned) - aligned[:, mirror.order]), axis=1)
        mean, _ = _mean_shape(shapes[asymmetry <= np.median(asymmetry)], mean)
    if not np.isfinite(mean).all():
        return None
    mirror = _best_mirror(mean, flip_index)
    apart, least = (np.abs(mirror.of(mean) - mean[order]) for order in (flip_index, mirror.order))
    if np.median(least) > LOPSIDED:
        return None
    wrong = np.flatnonzero((apart > least + SLACK) & (apart > 2 * least)).tolist()
    pairs = [(a, b) for a, b in enumerate(mirror.order.tolist()) if a < b and mirror.order[b] == a]
    return MirrorCheck(tuple(wrong), tuple(np.flatnonzero(least > REACH).tolist()), tuple(pairs))


def _mean_shape(shapes: Complex, mean: Complex | None = None) -> tuple[Complex, Complex]:
    """The median shape (K,), centred and of radius 1, as upright as the faces are on average; and the shapes
    (F, K), NaN where a point is missing, aligned to it by similarity transforms (Procrustes)."""
    centred = shapes - np.nanmean(shapes, axis=1, keepdims=True)
    energy = np.nansum(np.abs(centred) ** 2, axis=1, keepdims=True)
    aligned = centred / np.sqrt(energy / np.isfinite(shapes).sum(1, keepdims=True))
    mean = _median_shape(aligned) if mean is None else mean
    for _ in range(ROUNDS):
        target = np.where(np.isfinite(shapes), mean, np.nan)
        middle = np.nanmean(target, axis=1, keepdims=True)
        turn = np.nansum((target - middle) * centred.conj(), axis=1, keepdims=True) / energy
        aligned = centred * turn + middle
        mean = _median_shape(aligned)
    return mean, aligned


def _median_shape(aligned: Complex) -> Complex:
    median: Complex = np.nanmedian(aligned.real, axis=0) + 1j * np.nanmedian(aligned.imag, axis=0)
    median -= median.mean()
    median /= np.sqrt(np.mean(np.abs(median) ** 2))
    return median


def _best_mirror(mean: Complex, flip_index: Order) -> _Mirror:
    """The cheaper of two searches: from the upright mirror, and from the one that the scheme's pairs make,
    because faces may lie on their side."""
    starts = [_Mirror(1.0, 0.0, flip_index)]
    if (flip_index != np.arange(len(flip_index))).any():
        starts.append(_fit_mirror(mean, flip_index, np.full(len(mean), True)))
    return min((_search(mean, start) for start in starts), key=lambda mirror: mirror.cost)


def _search(mean: Complex, mirror: _Mirror) -> _Mirror:
    """Assign landmarks to mirrored ones and fit the mirror to the pairs, in turn, within shrinking reach."""
    from scipy.optimize import linear_sum_assignment

    everyone = np.arange(len(mean))
    for reach in (4 * REACH, 2 * REACH, REACH, REACH):
        squares = np.abs(mirror.of(mean)[:, None] - mean) ** 2
        # Landmarks with nothing near stay where they are.
        cost = np.minimum(squares, reach**2) - 1e-6 * np.eye(len(mean))
        _, order = linear_sum_assignment(cost)
        near = squares[everyone, order] < reach**2
        mirror = _fit_mirror(mean, order, near) if near.sum() > 1 else mirror._replace(order=order)
        mirror = mirror._replace(cost=float(cost[everyone, order].sum()))
    return mirror


def _fit_mirror(mean: Complex, order: Order, chosen: NDArray[np.bool_]) -> _Mirror:
    """The reflection that moves the chosen landmarks nearest to those that `order` gives them."""
    mirrored, target = -mean.conj()[chosen], mean[order][chosen]
    turn = np.vdot(mirrored - mirrored.mean(), target - target.mean())
    turn = turn / abs(turn) if abs(turn) > 1e-9 else 1.0
    return _Mirror(turn, target.mean() - turn * mirrored.mean(), order)
