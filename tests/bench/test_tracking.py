"""What `popos bench tracking` measures, on landmarks of known faults."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from popos_cli.bench.tracking import PATHS, RATE, SHIFTS, film, measure, place, shrunk
from popos_cli.core.geometry import transform
from popos_cli.core.schemes import W300
from popos_cli.prepare.synthetic_face import canonical_points

POINTS = canonical_points(W300) * 150 + 200
FRAMES = 60


def truth(path, late=0.0):
    times = np.arange(FRAMES) / RATE - late / RATE
    return np.array([transform(POINTS, place(path, POINTS, max(time, 0))) for time in times])


def lag(found, path):
    return SHIFTS[np.argmin(measure(found, POINTS, 100.0, path)["off"])]


@pytest.mark.parametrize("path", PATHS)
def test_the_truth_is_without_fault(path):
    found = measure(truth(path), POINTS, 100.0, path)
    assert found["nme"] == pytest.approx(0, abs=1e-9)
    assert found["jitter"] == pytest.approx(0, abs=1e-9)
    assert found["missed"] == 0


@pytest.mark.parametrize("path", [path for path in PATHS if path != "at rest"])
def test_points_that_come_late(path):
    for late in (0.0, 0.5, 1.0):
        assert lag(truth(path, late), path) == pytest.approx(late, abs=0.051)


def test_an_error_that_stays_is_neither_jitter_nor_lag():
    """Three pixels of the photo to the right, everywhere on the path."""
    for path in ("shaken", "turned"):
        times = np.arange(FRAMES) / RATE
        found = np.array([transform(POINTS + [3, 0], place(path, POINTS, time)) for time in times])
        result = measure(found, POINTS, 100.0, path)
        assert result["nme"] == pytest.approx(0.03)
        assert result["jitter"] == pytest.approx(0, abs=1e-9)
        assert lag(found, path) == pytest.approx(0, abs=0.051)


def test_noise_is_jitter_and_lost_frames_are_counted():
    scale = np.sqrt(np.linalg.det(place("at rest", POINTS, 0)[:, :2]))  # frame pixels to one of the photo
    noise = np.random.default_rng(0).normal(0, 2 * scale, (FRAMES, 68, 2))
    found = truth("at rest") + noise
    found[20:23] = np.nan
    result = measure(found, POINTS, 100.0, "at rest")
    assert result["jitter"] == pytest.approx(2 * np.sqrt(2) * np.sqrt(2) / 100, rel=0.05)
    assert result["missed"] == 3


def test_the_frames_show_the_photo_where_the_points_are():
    photo = np.full((600, 450, 3), 60, np.uint8)
    eye = POINTS[36]
    cv2.circle(photo, tuple(np.round(eye).astype(int).tolist()), 8, (250, 250, 250), cv2.FILLED)
    small, points = shrunk(photo, POINTS)
    assert max(np.ptp(points, axis=0)) < max(np.ptp(POINTS, axis=0))
    for frame, time in film(small, points, "turned", 12, seed=0):
        y, x = np.nonzero(frame[..., 0] > 160)
        where = transform(points, place("turned", points, time))[36]
        assert [x.mean(), y.mean()] == pytest.approx(where.tolist(), abs=0.7)
