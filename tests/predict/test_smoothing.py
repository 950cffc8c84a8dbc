"""The filter alone, against faces that move along known paths: jitter, delay, and what uncertainty does."""

from __future__ import annotations

import numpy as np
import pytest

from popos_cli.core.schemes import W300
from popos_cli.predict.smoothing import CHANGE, LONGEST_GAP, Smoother, smooth_backwards
from popos_cli.prepare.synthetic_face import canonical_points

FACE = canonical_points(W300) * 60  # 68 landmarks, 120 pixels wide
UNCERTAINTY = np.full(68, 4.0)  # a calibrated network's on such a face
NOISE = 0.06 * 4.0 / np.sqrt(2)  # what changes from frame to frame, on an axis
RATE = 30


def film(shift=lambda t: (0, 0), degrees=lambda t: 0, growth=lambda t: 1, frames=90, rate=RATE):
    """The face (T, 68, 2) along a path, and the times."""
    times = np.arange(frames) / rate
    truth = []
    for t in times:
        angle = np.deg2rad(degrees(t))
        turn = growth(t) * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        truth.append(FACE @ turn + np.array([320, 240]) + shift(t))
    return np.array(truth), times


def seen(truth, noise=NOISE, seed=0):
    return truth + np.random.default_rng(seed).normal(0, noise, truth.shape)


def smoothed(points, times, uncertainty=UNCERTAINTY):
    smoother = Smoother()
    return np.array([smoother(p, uncertainty, t) for p, t in zip(points, times, strict=True)])


def jitter(points):
    """RMS change from frame to frame, pixels; the first frames, when the filter is new, do not count."""
    return np.sqrt((np.diff(points[10:], axis=0) ** 2).sum(-1).mean())


def delay(points, truth):
    """The shift of `truth` in frames that fits best."""

    def error(frames):
        place = np.arange(len(truth)) - frames
        low = np.clip(np.floor(place).astype(int), 0, len(truth) - 2)
        part = (place - low)[:, None, None]
        late = truth[low] * (1 - part) + truth[low + 1] * part
        return ((points - late)[10:-10] ** 2).mean()

    shifts = np.arange(-1, 2, 0.05)
    return shifts[np.argmin([error(shift) for shift in shifts])]


PATHS = {
    "shaken": {"shift": lambda t: (50 * np.sin(2 * np.pi * t), 10 * np.sin(4 * np.pi * t))},
    "turned": {"degrees": lambda t: 20 * np.sin(2 * np.pi * t)},
    "zoomed": {"growth": lambda t: np.exp(0.3 * np.sin(2 * np.pi * 0.7 * t))},
    "walking": {"shift": lambda t: (40 * t, 5 * np.sin(9 * t))},
}


def test_a_still_face_jitters_less_than_half_and_stays_in_its_place():
    truth, times = film()
    points = seen(truth)
    result = smoothed(points, times)
    assert jitter(result) < 0.4 * jitter(points)
    assert np.abs(result.mean(0) - points.mean(0)).max() < NOISE / 3


@pytest.mark.parametrize("path", PATHS)
def test_a_moving_face_is_followed_without_delay(path):
    truth, times = film(**PATHS[path])
    points = seen(truth)
    result = smoothed(points, times)
    assert abs(delay(result, truth)) <= 0.3
    error = np.abs(result - truth)[10:].mean()
    assert error < 0.4 * np.abs(np.diff(truth, axis=0)).mean() + NOISE


def test_a_jump_is_there_at_once_and_does_not_overshoot():
    truth, times = film(shift=lambda t: (0 if t < 1 else 60, 0))
    result = smoothed(seen(truth), times)
    off = (result - truth)[29:, :, 0].mean(1)
    assert np.abs(off[:2]).max() < 6  # a tenth of the jump
    assert np.abs(off[5:]).max() < 3
    assert np.abs(off[30:]).max() < 1


def test_lids_and_lips_move_on_their_own():
    truth, times = film()
    blink = np.exp(-(((np.arange(90) % 30 - 15) / 1.5) ** 2))
    speech = np.sin(2 * np.pi * 4 * times)
    lids, lips = [37, 38, 43, 44], list(range(55, 60))
    truth[:, lids, 1] += 6 * blink[:, None]
    truth[:, lips, 1] += 4 * speech[:, None]
    result = smoothed(seen(truth), times)
    for part in (lids, lips):
        assert abs(delay(result[:, part], truth[:, part])) <= 0.5
    rest = [k for k in range(68) if k not in lids + lips]
    assert np.abs(result - truth)[10:, rest].mean() < NOISE  # and the rest of the face does not move along


def test_a_frame_counts_as_far_as_its_uncertainty_says():
    """The same error of one landmark in one frame, sure and not sure."""
    truth, times = film(frames=40)
    error = 3 * CHANGE * UNCERTAINTY[30]
    moved = []
    for factor in (1.0, 5.0):
        points, smoother = seen(truth), Smoother()
        points[30, 30, 0] = truth[30, 30, 0] + error
        uncertainty = np.tile(UNCERTAINTY, (40, 1))
        uncertainty[30, 30] *= factor
        results = [smoother(*frame) for frame in zip(points, uncertainty, times, strict=True)]
        moved.append(results[30][30, 0] - results[29][30, 0])
    assert moved[1] < 0.25 * moved[0]


@pytest.mark.parametrize("rate", [10, 60])
def test_other_rates_and_frames_left_out(rate):
    truth, times = film(**PATHS["walking"], rate=rate)
    kept = np.flatnonzero(np.random.default_rng(1).random(90) < 0.7)
    truth, times = truth[kept], times[kept]
    result = smoothed(seen(truth), times)
    assert np.abs(result - truth)[10:].mean() < 2 * NOISE


def test_after_a_gap_it_begins_anew():
    truth, times = film()
    smoother = Smoother()
    for frame in zip(seen(truth), [UNCERTAINTY] * 90, times, strict=True):
        smoother(*frame)
    elsewhere = FACE + [100, 100]
    late = times[-1] + LONGEST_GAP + 0.1
    np.testing.assert_allclose(smoother(elsewhere, UNCERTAINTY, late), elsewhere)


def test_the_next_frame_is_expected_where_the_face_moves():
    truth, times = film(shift=lambda t: (90 * t, 0), degrees=lambda t: 30 * t)
    smoother = Smoother()
    for points, time in zip(seen(truth[:60]), times[:60], strict=True):
        smoother(points, UNCERTAINTY, time)
    assert np.abs(smoother.at(times[60]) - truth[60]).mean() < 0.5
    assert np.abs(truth[60] - truth[59]).mean() > 1


def test_backwards_too_halves_the_delay_and_the_jitter_is_no_larger():
    truth, times = film(**PATHS["zoomed"])
    points, uncertainty = seen(truth), np.tile(UNCERTAINTY, (90, 1))
    live, both = smoothed(points, times), smooth_backwards(points, uncertainty, times)
    assert both.shape == points.shape
    assert np.abs(both - truth)[10:-10].mean() < np.abs(live - truth)[10:-10].mean()
    assert abs(delay(both, truth)) <= 0.05
    still = seen(film()[0])
    assert jitter(smooth_backwards(still, uncertainty, times)) < jitter(smoothed(still, times))


def test_one_landmark_and_an_uncertainty_of_nothing():
    """Finite whatever a network says."""
    for points in (FACE[:1], FACE[:2], np.zeros((3, 2))):
        smoother = Smoother()
        for frame in range(5):
            result = smoother(points + frame, np.zeros(len(points)), frame / 30)
        assert np.isfinite(result).all()
        np.testing.assert_allclose(result, points + 4, atol=0.5)
