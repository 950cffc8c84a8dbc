"""A Predictor that threads share, and that other processes get; boxes; the sample photos' landmarks."""

from __future__ import annotations

import json
import multiprocessing
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from popos_cli.data.pictures import read_image
from popos_cli.errors import PoposError
from popos_cli.predict.predictor import Predictor
from popos_cli.weights.catalog import load_catalog
from popos_cli.weights.download import find_here

ROOT = Path(__file__).parents[2]
PHOTOS = ("astronaut.jpg", "grace_hopper.jpg")
GOLDEN = {
    name: np.array(points)
    for name, points in json.loads((ROOT / "tests/golden_landmarks.json").read_text()).items()
}


def photo(name):
    return read_image(ROOT / "docs/assets" / name, upright=True)


def mixed_pictures():
    """One face, none, two, other sizes: whoever takes a neighbour's faces, or its size, is seen."""
    first, second = map(photo, PHOTOS)
    return [
        first[40:260, 100:330].copy(),
        np.full((90, 130, 3), 127, np.uint8),
        second[100:400, 100:400].copy(),
        np.hstack([first[:260, 80:340], np.full((260, 60, 3), 127, np.uint8), second[100:360, 120:400]]),
        cv2.resize(first, (300, 300), interpolation=cv2.INTER_AREA),
    ]


def assert_identical(faces, others):
    assert len(faces) == len(others)
    for face, other in zip(faces, others, strict=True):
        for name in ("box", "points", "scores", "uncertainty"):
            np.testing.assert_array_equal(getattr(face, name), getattr(other, name), err_msg=name)
        assert face.score == other.score


def available(detector):
    """The detector, or a skip where its file has not been downloaded."""
    try:
        here = detector == "haar" or find_here(load_catalog()[detector])
    except PoposError:
        here = False
    if not here:
        pytest.skip("popos download-weights yunet has not been run here")
    return detector


def hammer(predictor, threads, calls):
    """`calls` in each of the threads, on the mixed pictures in turn, against calls one after another."""
    pictures = mixed_pictures()
    alone = [predictor(picture) for picture in pictures]
    assert [len(faces) for faces in alone][:4] == [1, 0, 1, 2]
    with ThreadPoolExecutor(threads) as pool:
        numbers = [n % len(pictures) for n in range(threads * calls)]
        together = list(pool.map(lambda n: predictor(pictures[n]), numbers))
    for number, faces in zip(numbers, together, strict=True):
        assert_identical(faces, alone[number])


@pytest.mark.parametrize("detector", ["haar", "yunet"])
def test_threads_that_share_a_predictor_get_their_own_faces(detector):
    hammer(Predictor("small", "cpu", available(detector)), threads=8, calls=3)


@pytest.mark.slow
@pytest.mark.parametrize("detector", ["haar", "yunet"])
def test_eight_threads_of_fifty_calls(detector):
    hammer(Predictor("default", "cpu", available(detector)), threads=8, calls=50)


@pytest.mark.parametrize("flip_test", [False, True])
def test_a_pickled_predictor_gives_the_same(flip_test):
    predictor = Predictor("small", "cpu", "haar", flip_test)
    again = pickle.loads(pickle.dumps(predictor))
    picture = mixed_pictures()[0]
    assert_identical(again(picture), predictor(picture))


@pytest.mark.slow
@pytest.mark.parametrize("detector", ["haar", "yunet"])
def test_spawned_processes_get_a_predictor(detector):
    predictor = Predictor("small", "cpu", available(detector))
    pictures = mixed_pictures()
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        for faces, picture in zip(pool.map(predictor, pictures), pictures, strict=True):
            assert_identical(faces, predictor(picture))


@pytest.fixture(scope="module")
def predictor():
    return Predictor("default", "cpu", "haar")


@pytest.mark.parametrize("name", PHOTOS)
def test_the_sample_photos_landmarks(predictor, name):
    """To be renewed where the weights change, or the rule from box to crop: `predictor(photo(name))`."""
    (face,) = predictor(photo(name))
    assert np.abs(face.points - GOLDEN[name]).max() < 0.3


@pytest.mark.parametrize(
    "turn", [lambda p: p[..., ::-1].copy()[..., ::-1], np.asfortranarray, lambda p: p[::-1][::-1]]
)
def test_arrays_in_any_memory_order(predictor, turn):
    image = photo(PHOTOS[0])
    assert_identical(predictor(turn(image)), predictor(image))


BOX = [183.0, 85.0, 84.0, 90.0]


@pytest.mark.parametrize(
    "boxes",
    [
        [[*BOX, 0.9]],  # a score behind
        [[*BOX, 0.9]] * 4,  # 20 numbers: five boxes, if one only counted them
        BOX,
        [BOX[:2], BOX[2:]],  # two corners
        [[BOX]],
        np.zeros((2, 0)),
        np.zeros((0, 5)),
        7.0,
    ],
)
def test_boxes_of_another_shape_are_refused(predictor, boxes):
    with pytest.raises(ValueError, match=r"shape \(M, 4\), x, y, w, h of each face, not"):
        predictor(photo(PHOTOS[0]), np.array(boxes))


@pytest.mark.parametrize(
    ("box", "wrong"),
    [
        ([600, 80, 90, 90], "outside the picture of 512 x 512"),
        ([512, 80, 90, 90], "outside the picture"),
        ([-91, 80, 90, 90], "outside the picture"),
        ([80, -5000, 90, 90], "outside the picture"),
        ([80, 512, 90, 90], "outside the picture"),
        ([0.35, 0.16, 0.17, 0.18], r"in pixels; multiply boxes in 0\.\.1"),
        ([0, 0, 1, 1], "in pixels"),
        ([-0.05, -0.02, 1.1, 1.05], "in pixels"),
        ([0, 0, 1e7, 1e7], "more than 10 times as large as the picture"),
        ([100, 100, 1e7, 50], "more than 10 times"),
        ([10, 10, 0, 5], "finite"),
        ([10, 10, 5, -5], "finite"),
        ([10, np.nan, 5, 5], "finite"),
        ([10, 10, np.inf, 5], "finite"),
    ],
)
def test_a_box_that_can_be_around_no_face_is_named(predictor, box, wrong):
    with pytest.raises(ValueError, match=rf"box 2 \(.*\) .*{wrong}"):
        predictor(photo(PHOTOS[0]), [BOX, box])
    with pytest.raises(ValueError, match=wrong):
        predictor([photo(PHOTOS[0])], [[BOX, box]])


@pytest.mark.parametrize("boxes", [[{"x": 1}], "1,2,3,4", [[1, 2, 3, 4], [1, 2, 3]], [["a", 1, 2, 3]]])
def test_boxes_that_are_no_numbers_are_refused(predictor, boxes):
    with pytest.raises(ValueError, match=r"boxes must be numbers, of shape \(M, 4\)"):
        predictor(photo(PHOTOS[0]), boxes)


def test_no_boxes_are_no_faces(predictor):
    assert predictor(photo(PHOTOS[0]), []) == []
    assert predictor(photo(PHOTOS[0]), np.zeros((0, 4))) == []


def test_a_box_that_reaches_over_the_border_is_taken(predictor):
    """A face at the border is there in part: its landmarks are where they are in the whole picture."""
    image = photo(PHOTOS[0])
    (whole,) = predictor(image, [BOX])
    cut = 195  # through the right eye
    (part,) = predictor(image[:, cut:].copy(), [[BOX[0] - cut, *BOX[1:]]])
    left_eye = slice(42, 48)
    assert np.abs(part.points + [cut, 0] - whole.points)[left_eye].max() < 3


def test_each_image_of_a_list_needs_its_boxes(predictor):
    images = [photo(name) for name in PHOTOS]
    with pytest.raises(ValueError, match="2 images, but boxes for 1"):
        predictor(images, [[BOX]])
    with pytest.raises(ValueError, match="shape"):  # one array for both
        predictor(images, np.array([BOX, BOX]))


@pytest.mark.parametrize("image", [np.zeros((0, 9, 3), np.uint8), [[1, 2], [3, 4]], "photo.jpg"])
def test_what_is_no_image_is_refused(predictor, image):
    with pytest.raises(ValueError, match="an image must be"):
        predictor([image])


@pytest.mark.parametrize("image", [None, Path("photo.jpg"), Image.new("RGB", (9, 9)), {1: 2}, 7])
def test_a_single_thing_that_is_no_image_is_refused(predictor, image):
    """None is what cv2.imread gives for a file that it cannot read."""
    with pytest.raises(ValueError, match=f"an image must be an array.*not {type(image).__name__}"):
        predictor(image)


def test_numbers_that_are_not_finite_are_never_returned(predictor):
    broken = pickle.loads(pickle.dumps(predictor))
    for values in broken.model.parameters():
        values.data.fill_(np.nan)
    with pytest.raises(PoposError, match="not finite"):
        broken(photo(PHOTOS[0]))


@pytest.mark.parametrize("place", [0, 39_400])
def test_a_picture_wider_than_opencv_warps(predictor, place):
    """Found by the detector, and by a box; the landmarks are the photo's own, moved."""
    image = photo(PHOTOS[1])
    wide = np.full((600, 40_000, 3), 127, np.uint8)
    wide[:, place : place + 512] = image
    (alone,) = predictor(image)
    (found,) = predictor(wide)
    assert np.abs(found.points - [place, 0] - alone.points).mean() < 0.02 * np.ptp(alone.points[:, 0])
    box = np.array([[150.0, 150, 190, 200]])
    (by_box,) = predictor(image, box)
    (moved,) = predictor(wide, box + [place, 0, 0, 0])
    # float32 steps by 1/256 of a pixel there.
    np.testing.assert_allclose(moved.points - [place, 0], by_box.points, atol=0.01)
