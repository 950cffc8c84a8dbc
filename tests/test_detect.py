"""The Haar detector on the two sample photos, and its rule from box to square."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from popos_cli.detect import Haar, find_detector, without_overlaps
from popos_cli.sources import read_image

PHOTOS = Path(__file__).parents[1] / "docs" / "assets"
# Nose tips, read off the photos.
NOSES = {"astronaut.jpg": (224, 122), "grace_hopper.jpg": (254, 235)}


@pytest.fixture(scope="module")
def haar():
    return Haar()


@pytest.mark.parametrize(("photo", "nose"), NOSES.items())
def test_finds_the_one_face_and_promises_a_square_around_its_landmarks(haar, photo, nose):
    (found,) = haar(read_image(PHOTOS / photo, upright=True))
    assert found.score is None
    # The landmarks' square reaches from the brows to the chin: its middle is close to the nose tip.
    assert np.abs(found.center - nose).max() < 0.15 * found.side
    assert found.center[1] > found.box[1] + found.box[3] / 2 - 0.5  # below the box's own middle


def test_a_large_picture_is_searched_at_a_smaller_scale(haar):
    photo = read_image(PHOTOS / "grace_hopper.jpg", upright=True)
    (small,) = haar(photo)
    (large,) = haar(cv2.resize(photo, None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC))
    assert large.box / 4 == pytest.approx(small.box, abs=0.1 * small.box[2])
    assert large.side / 4 == pytest.approx(small.side, rel=0.1)


def test_nothing_in_an_even_picture_or_a_tiny_one(haar):
    assert haar(np.full((200, 300, 3), 127, np.uint8)) == []
    assert haar(np.zeros((1, 1, 3), np.uint8)) == []


def test_boxes_inside_or_over_a_larger_one_go_and_the_rest_are_sorted_by_area():
    face, mouth, twin, other = [0, 0, 100, 100], [30, 60, 30, 30], [10, 10, 95, 95], [200, 0, 120, 120]
    kept = without_overlaps(np.array([mouth, twin, face, other], dtype=float))
    assert kept.tolist() == [other, face]
    assert without_overlaps(np.zeros((0, 4))).shape == (0, 4)


def test_auto_is_a_detector_that_is_here():
    assert isinstance(find_detector("auto"), Haar)
