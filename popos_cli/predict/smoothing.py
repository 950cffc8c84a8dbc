"""Landmarks over time: a filter that trusts a frame as far as the frame's uncertainty says.

A face moves as one and changes its shape a little, so the two are filtered apart: the similarity (shift, turn
and growth) from the expected landmarks to those of the frame, and what it leaves of each landmark. The gain
of both is a Kalman filter's, P / (P + R): R, the variance of a frame, follows from its uncertainty; P, that
of the expectation, grows with time, and at once where a frame is farther off than its uncertainty explains.
So a face at rest is averaged over many frames, and one that moves fast is followed without delay. The
similarity has a speed (an alpha-beta filter); lids and lips have none, so that they do not overshoot.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.geometry import Floats

# Most of a landmark's error is the same in the next frame. What changes, over the calibrated uncertainty:
# 0.05 on faces at rest under noise, 0.2 on faces that move, because the heatmaps' pixels move over them.
CHANGE = 0.15
# The least noise of a landmark, in units of the face's radius: an uncertainty may be 0, or not calibrated.
LEAST = 0.003
# Standard deviation of what a second changes, in units of the face's radius: of the similarity, beyond its
# speed, and of a landmark within the face.
DRIFT = (0.05, 0.015)
SURPRISE = 9.0  # variances; the share of a squared difference beyond them is taken for motion
LONGEST_GAP = 0.5  # seconds; after a longer one the filter begins anew
SPEED_LASTS = 1.0  # seconds in which the speed of a face that is not seen falls to 1/e

Complexes = NDArray[np.complex128]  # (K,) landmarks as x + iy: a factor turns and enlarges them


class Smoother:
    """The filter of one face, live: what it gives depends on this frame and on those before it."""

    def __init__(self) -> None:
        self.time = -np.inf

    def at(self, time: float) -> Floats:
        """Where the landmarks (K, 2) are expected at a later time. Needs a first frame."""
        return _as_pairs(self._expected(time))

    def __call__(self, points: Floats, uncertainty: Floats, time: float) -> Floats:
        """The filtered points (K, 2) of the next frame.

        points (K, 2), uncertainty (K,): the network's, in pixels of the picture. time: seconds, later than
        the last frame's.
        """
        seen = np.ascontiguousarray(points, dtype=np.float64).view(np.complex128)[:, 0]
        radius = max(float(np.abs(seen - seen.mean()).mean()), 1.0)
        noise = ((CHANGE * uncertainty) ** 2 + (LEAST * radius) ** 2) / 2  # variance along an axis
        # Before those of the landmarks, those of the similarity: a shift, and growth + i angle as pixels at
        # one radius. Errors of one frame are alike, so that a mean of them is no smaller than one of them.
        noises = np.concatenate([np.full(2, 1 / np.mean(1 / noise)), noise])
        elapsed = time - self.time
        if elapsed > LONGEST_GAP:
            self.points, self.speed, self.variance = seen, np.zeros(2, complex), noises
            self.radius, self.time = radius, time
            return _as_pairs(seen)
        expected = self._expected(time)
        _, shape, offset, factor = _similarity(expected, seen, 1 / noise)
        left = np.abs(seen - expected - offset - (factor - 1) * shape) ** 2
        # Once more, with less weight on what did not move along, as lips that open.
        center, shape, offset, factor = _similarity(expected, seen, 1 / (noise + left))
        growth = np.log(factor)
        off = np.concatenate([[offset, growth * radius], seen - center - offset - factor * shape])
        drift = (radius * np.repeat(DRIFT, [2, len(seen)])) ** 2 * elapsed
        variance = np.maximum(self.variance + drift, np.abs(off) ** 2 / SURPRISE - noises)
        gain = variance / (variance + noises)
        self.variance = gain * noises
        # The speed's gain that goes best with the place's: Benedict and Bordner 1962.
        self.speed = self.speed + gain[:2] ** 2 / (2 - gain[:2]) * off[:2] / elapsed
        self.points = center + gain[0] * offset + np.exp(gain[1] * growth) * shape + gain[2:] * off[2:]
        self.radius, self.time = radius, time
        return _as_pairs(self.points)

    def _expected(self, time: float) -> Complexes:
        """The points, moved on with the speed."""
        elapsed = SPEED_LASTS * (1 - np.exp((self.time - time) / SPEED_LASTS))
        center = self.points.mean()
        factor = np.exp(self.speed[1] * elapsed / self.radius)
        expected: Complexes = center + self.speed[0] * elapsed + factor * (self.points - center)
        return expected


def smooth_backwards(points: Floats, uncertainty: Floats, times: Floats) -> Floats:
    """The smoothed points (T, K, 2) of a finished track, from the frames before and after each.

    points (T, K, 2) and uncertainty (T, K): the network's. times (T,): seconds, rising. The mean of the
    filter run forwards and the filter run backwards: what one is late, the other is early.
    """
    forwards, backwards = Smoother(), Smoother()
    frames = list(zip(points, uncertainty, times, strict=True))
    ahead = [forwards(*frame) for frame in frames]
    back = [backwards(p, u, -time) for p, u, time in reversed(frames)]
    mean: Floats = (np.array(ahead) + np.array(back[::-1])) / 2
    return mean


def _similarity(points: Complexes, seen: Complexes, weights: Floats) -> tuple[Any, Complexes, Any, Any]:
    """By weighted least squares, seen = center + offset + factor * shape: the points' center, the points
    without it, the shift, and growth and turn as one factor."""
    weights = weights / weights.sum()
    center, offset = weights @ points, weights @ (seen - points)
    shape = points - center
    inertia = max(weights @ np.abs(shape) ** 2, 1e-12)  # a scheme may have one landmark
    factor = 1 + (weights * shape.conj()) @ (seen - points - offset) / inertia
    return center, shape, offset, factor


def _as_pairs(points: Complexes) -> Floats:
    return points.view(np.float64).reshape(-1, 2)
