"""Whether a scheme's flip pairs agree with labels: the mean face, mirrored, should land on itself.

Shapes are complex, x + iy; a mirror is then -conj(z), and a turn a factor of length 1.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .geometry import Floats
from .schemes import Scheme

MOST_FACES = 1000
LEAST_FACES = 12
ROUNDS = 4
# Distances in units of the mean face's root mean square radius: half the width of a 68-point face.
REACH = 0.25  # beyond it a point is not the mirror image of another
LOPSIDED = 0.05  # the median landmark's distance where no pairs do better: the faces are turned
SLACK = 0.04  # by which pairs may fit worse than the best ones: neither faces nor labels are symmetric

Complex = NDArray[np.complex128]
Order = NDArray[np.int64]


@dataclass(frozen=True)
class MirrorCheck:
    """wrong: landmarks whose mirror image lies elsewhere than the scheme says. lone: those with no mirror
    image among the landmarks, themselves included. pairs: the flip pairs that fit the labels best."""

    wrong: tuple[int, ...]
    lone: tuple[int, ...]
    pairs: tuple[tuple[int, int], ...]


def check_mirror(points: Floats, scheme: Scheme) -> MirrorCheck | None:
    """Compare `scheme.flip_pairs` with labelled faces (F, K, 2), NaN where a point is not labelled.

    None where nobody can tell: too few faces, or all seen from one side.
    """
    labelled = np.isfinite(points).all(2)
    faces = points[labelled.sum(1) >= max(2, (scheme.landmarks + 1) // 2)]
    if len(faces) < LEAST_FACES or scheme.landmarks < 2:
        return None
    faces = faces[np.linspace(0, len(faces) - 1, min(len(faces), MOST_FACES)).astype(np.int64)]
    shapes, given = faces[..., 0] + 1j * faces[..., 1], scheme.flip_index
    with warnings.catch_warnings(action="ignore"):  # a landmark that no face has
        mean, aligned = _mean_shape(shapes)
        if not np.isfinite(mean).all():
            return None
        mirror = _best_mirror(mean, given)
        # The more symmetric half of the faces: heads that all look to one side would shift the nose.
        lopsided = np.nanmean(np.abs(mirror.of(aligned) - aligned[:, mirror.order]), axis=1)
        mean, _ = _mean_shape(shapes[lopsided <= np.median(lopsided)], mean)
    if not np.isfinite(mean).all():
        return None
    mirror = _best_mirror(mean, given)
    apart, least = (np.abs(mirror.of(mean) - mean[order]) for order in (given, mirror.order))
    if np.median(least) > LOPSIDED:
        return None
    wrong = np.flatnonzero((apart > least + SLACK) & (apart > 2 * least)).tolist()
    pairs = [(a, b) for a, b in enumerate(mirror.order.tolist()) if a < b and mirror.order[b] == a]
    return MirrorCheck(tuple(wrong), tuple(np.flatnonzero(least > REACH).tolist()), tuple(pairs))


def _mean_shape(shapes: Complex, mean: Complex | None = None) -> tuple[Complex, Complex]:
    """The median shape (K,), centred and of radius 1, as upright as the faces are on average, and the shapes
    (F, K), NaN where a point is missing, moved on to it by similarities."""
    centred = shapes - np.nanmean(shapes, axis=1, keepdims=True)
    aligned = centred / np.sqrt(np.nanmean(np.abs(centred) ** 2, axis=1, keepdims=True))
    for _ in range(ROUNDS):
        if mean is None:
            mean = _standard(aligned)
        target = np.where(np.isfinite(shapes), mean, np.nan)
        middle = np.nanmean(target, axis=1, keepdims=True)
        turn = np.nansum((target - middle) * centred.conj(), axis=1) / np.nansum(np.abs(centred) ** 2, axis=1)
        aligned = centred * turn[:, None] + middle
        mean = _standard(aligned)
    assert mean is not None
    return mean, aligned


def _standard(aligned: Complex) -> Complex:
    middle: Complex = np.nanmedian(aligned.real, axis=0) + 1j * np.nanmedian(aligned.imag, axis=0)
    middle -= middle.mean()
    middle /= np.sqrt(np.mean(np.abs(middle) ** 2))
    return middle


@dataclass(frozen=True)
class _Mirror:
    """A reflection, and the order (K,) in which it best maps a shape on to itself, at this cost."""

    turn: Any
    shift: Any
    order: Order
    cost: float = 0.0

    def of(self, shape: Complex) -> Complex:
        moved: Complex = -shape.conj() * self.turn + self.shift
        return moved


def _best_mirror(mean: Complex, given: Order) -> _Mirror:
    """Sought from the upright mirror, and from the one that the given pairs make: faces may lie on a side."""
    starts = [_Mirror(1.0, 0.0, given)]
    if (given != np.arange(len(given))).any():
        starts.append(_fitted(mean, given, np.full(len(given), True)))
    return min((_sought(mean, start) for start in starts), key=lambda mirror: mirror.cost)


def _sought(mean: Complex, mirror: _Mirror) -> _Mirror:
    """Landmarks assigned to mirrored ones and the mirror fitted to them, in turn, of ever shorter reach."""
    from scipy.optimize import linear_sum_assignment

    everyone = np.arange(len(mean))
    for reach in (4 * REACH, 2 * REACH, REACH, REACH):
        squares = np.abs(mirror.of(mean)[:, None] - mean) ** 2
        cost = np.minimum(squares, reach**2) - 1e-6 * np.eye(len(mean))  # with nothing near, a point stays
        _, order = linear_sum_assignment(cost)
        chosen = squares[everyone, order] < reach**2
        mirror = replace(
            _fitted(mean, order, chosen) if chosen.sum() > 1 else replace(mirror, order=order),
            cost=float(cost[everyone, order].sum()),
        )
    return mirror


def _fitted(mean: Complex, order: Order, chosen: NDArray[np.bool_]) -> _Mirror:
    """The reflection that moves the chosen landmarks nearest to those that `order` gives them."""
    mirrored, target = -mean.conj()[chosen], mean[order][chosen]
    turn = np.vdot(mirrored - mirrored.mean(), target - target.mean())
    turn = turn / abs(turn) if abs(turn) > 1e-9 else 1.0
    return _Mirror(turn, target.mean() - turn * mirrored.mean(), order)
