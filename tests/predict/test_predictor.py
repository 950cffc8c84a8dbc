"""The Predictor in Python: threads, processes, boxes, arrays; the sample photos' landmarks."""

from __future__ import annotations

import copy
import json
import multiprocessing
import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import FrozenInstanceError
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from popos_cli.core.codec import Codec
from popos_cli.core.geometry import transform
from popos_cli.data.pictures import read_image
from popos_cli.errors import PoposError
from popos_cli.predict.detect import Detection, Haar
from popos_cli.predict.face import Face
from popos_cli.predict.predictor import Predictor
from popos_cli.weights.catalog import load_catalog
from popos_cli.weights.download import find_here
from popos_cli.weights.find import load

ROOT = Path(__file__).parents[2]
PHOTOS = ("astronaut.jpg", "grace_hopper.jpg")
GOLDEN = {
    name: np.array(points)
    for name, points in json.loads((ROOT / "tests/golden_landmarks.json").read_text()).items()
}
BOX = [183.0, 85.0, 84.0, 90.0]


def photo(name):
    return read_image(ROOT / "docs/assets" / name, upright=True)


def mixed_pictures():
    """One face, none, one, two, one; other sizes: results of a neighbour, or for its size, would show."""
    first, second = map(photo, PHOTOS)
    return [
        first[40:260, 100:330].copy(),
        np.full((90, 130, 3), 127, np.uint8),
        second[100:400, 100:400].copy(),
        np.hstack([first[:260, 80:340], np.full((260, 60, 3), 127, np.uint8), second[100:360, 120:400]]),
        cv2.resize(first, (300, 300), interpolation=cv2.INTER_AREA),
    ]


def assert_same(face, other, tolerance=0.0):
    for name in ("box", "points", "scores", "uncertainty"):
        np.testing.assert_allclose(
            getattr(face, name), getattr(other, name), rtol=0, atol=tolerance, err_msg=name
        )
    assert face.score == pytest.approx(other.score, abs=tolerance)


def assert_identical(faces, others):
    assert len(faces) == len(others)
    for face, other in zip(faces, others, strict=True):
        assert_same(face, other)


def available(detector):
    """The detector, or a skip where its file has not been downloaded."""
    try:
        here = detector == "haar" or find_here(load_catalog()[detector])
    except PoposError:
        here = False
    if not here:
        pytest.skip("popos download-weights yunet has not been run here")
    return detector


@pytest.mark.parametrize("detector", ["haar", "yunet"])
@pytest.mark.parametrize(
    ("weights", "calls"), [("small", 3), pytest.param("default", 50, marks=pytest.mark.slow)]
)
def test_threads_that_share_a_predictor_get_their_own_faces(detector, weights, calls):
    """`calls` in each of eight threads, against calls one after another."""
    predictor = Predictor(weights, "cpu", available(detector))
    pictures = mixed_pictures()
    alone = [predictor(picture) for picture in pictures]
    assert [len(faces) for faces in alone][:4] == [1, 0, 1, 2]
    numbers = [n % len(pictures) for n in range(8 * calls)]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda n: predictor(pictures[n]), numbers))
    for number, faces in zip(numbers, together, strict=True):
        assert_identical(faces, alone[number])


def test_a_pickled_predictor_gives_the_same():
    predictor = Predictor("small", "cpu", "haar", flip_test=True)
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


def test_frozen_faces_of_float32(predictor):
    (face,) = predictor(photo(PHOTOS[0]))
    assert isinstance(face, Face)
    shapes = {"box": (4,), "points": (68, 2), "scores": (68,), "uncertainty": (68,)}
    for name, shape in shapes.items():
        value = getattr(face, name)
        assert (value.shape, value.dtype) == (shape, np.float32)
    assert 0.9 < face.score <= 1
    with pytest.raises(FrozenInstanceError):
        face.score = 1.0


def test_a_list_gives_lists_and_batches_change_nothing(predictor, monkeypatch):
    pictures = [photo(PHOTOS[0]), np.full((90, 130, 3), 127, np.uint8), photo(PHOTOS[1])]
    assert predictor([]) == []
    together = predictor(pictures)
    assert [len(faces) for faces in together] == [1, 0, 1]
    for image, faces in zip(pictures, together, strict=True):
        for face, alone in zip(faces, predictor(image), strict=True):
            assert_same(face, alone, 0.01)  # the order of a sum of floats depends on the batch
    first, none, third = predictor(pictures, boxes=[[BOX], np.zeros((0, 4)), None])
    assert_same(first[0], predictor(pictures[0], [BOX])[0], 0.01)
    assert_same(third[0], together[2][0], 0.01)
    assert none == []
    boxes = np.array([[170 + 3 * n, 80 - n, 90 + n, 95] for n in range(5)], float)
    whole = predictor(pictures[0], boxes)
    monkeypatch.setattr("popos_cli.predict.predictor.BATCH", 2)
    for face, other, box in zip(predictor(pictures[0], boxes), whole, boxes, strict=True):
        assert_same(face, other, 0.01)
        np.testing.assert_allclose(face.box, box)


@pytest.mark.parametrize(
    "turn", [lambda p: p[..., ::-1].copy()[..., ::-1], np.asfortranarray, lambda p: p[::-1][::-1]]
)
def test_arrays_in_any_memory_order(predictor, turn):
    image = photo(PHOTOS[0])
    assert_identical(predictor(turn(image)), predictor(image))


@pytest.mark.parametrize(
    "boxes",
    [
        [[*BOX, 0.9]],  # a score behind
        [[*BOX, 0.9]] * 4,  # 20 numbers: five boxes, if one only counted them
        BOX,
        [BOX[:2], BOX[2:]],  # two corners
        np.zeros((2, 0)),
        np.zeros((0, 5)),
        7.0,
        [{"x": 1}],
        "1,2,3,4",
        [[1, 2, 3, 4], [1, 2, 3]],
    ],
    ids=str,
)
def test_boxes_of_another_shape_are_refused(predictor, boxes):
    with pytest.raises(ValueError, match=r"boxes must be .*shape \(M, 4\)"):
        predictor(photo(PHOTOS[0]), boxes)


@pytest.mark.parametrize(
    "box",
    [
        [600, 80, 90, 90],
        [512, 80, 90, 90],
        [-91, 80, 90, 90],
        [80, -5000, 90, 90],
        [80, 512, 90, 90],
        [0.35, 0.16, 0.17, 0.18],
        [-0.05, -0.02, 1.1, 1.05],
        [0, 0, 1e7, 1e7],
        [100, 100, 1e7, 50],
        [10, 10, 0, 5],
        [10, 10, 5, -5],
        [10, np.nan, 5, 5],
        [10, 10, np.inf, 5],
    ],
)
def test_a_box_that_can_be_around_no_face_is_named(predictor, box):
    expected = r"box 2 \(.*\) is around no face.*in pixels.*picture of 512 x 512 pixels.*10 times as large"
    with pytest.raises(ValueError, match=expected):
        predictor(photo(PHOTOS[0]), [BOX, box])
    with pytest.raises(ValueError, match=expected):
        predictor([photo(PHOTOS[0])], [[BOX, box]])


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
    (corner,) = predictor(image, [[-39.0, 511.0, 40.0, 40.0]])
    assert np.isfinite(corner.points).all() and np.isfinite(corner.uncertainty).all()


def test_each_image_of_a_list_needs_its_boxes(predictor):
    images = [photo(name) for name in PHOTOS]
    with pytest.raises(ValueError, match="2 images, but boxes for 1"):
        predictor(images, [[BOX]])
    with pytest.raises(ValueError, match="shape"):  # one array for both
        predictor(images, np.array([BOX, BOX]))


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((0, 9, 3), np.uint8), np.zeros((50, 50), np.uint8), np.zeros((50, 50, 4), np.uint8),
        np.zeros((50, 50, 3), np.float32), None, b"photo.jpg", {1: 2}, 7,
    ],
)  # fmt: skip
def test_what_is_no_image_is_refused(predictor, image):
    """None is what cv2.imread gives for a file that it cannot read."""
    with pytest.raises(ValueError, match="an image must be"):
        predictor(image)
    with pytest.raises(ValueError, match="an image must be"):
        predictor([image])


def test_numbers_that_are_not_finite_are_never_returned():
    broken = Predictor(flip_test=True)  # which runs in torch
    for values in broken.runtime.model.parameters():
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


@pytest.mark.parametrize("name", ["default", "small"])
def test_load_gives_what_a_training_framework_needs(name):
    model, codec = load(name)
    assert isinstance(codec, Codec)
    assert not model.training
    images = torch.rand(2, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        heatmaps = model(images)
    assert heatmaps.shape == (2, 68, codec.height, codec.width)
    decoded = codec.decode(heatmaps)
    assert decoded.points.shape == (2, 68, 2)
    assert isinstance(codec.decode(heatmaps.numpy()).points, np.ndarray)


@pytest.fixture
def three_found(predictor):
    """A predictor whose detector gives one face three times, seen in some windows, another place without a
    face, and last the other's face, as the largest."""
    windows = [4.0, 50.0, 20.0, 3.0, 30.0]
    boxes = [np.array([160.0 + n, 70, 120 - 5 * n, 120 - 5 * n]) for n in range(3)]
    boxes += [np.array([20.0, 20, 60, 60]), np.array([680.0, 120, 220, 220])]
    changed = copy.copy(predictor)
    changed.detector = lambda image: [
        Detection.from_box(box, own, Haar.RULE, passes=1) for box, own in zip(boxes, windows, strict=True)
    ]
    return changed


def two_people():
    first, second = map(photo, PHOTOS)
    return np.hstack([first[:512], second[:512]])


@pytest.mark.parametrize("most", [None, 1])
def test_each_face_once_by_its_surest_box_and_no_other_things(three_found, most):
    three_found.max_faces = most
    faces = three_found(two_people())
    assert [face.box.tolist()[0] for face in faces] == [680, 161][:most]
    assert all(face.score > 0.9 for face in faces)


def test_a_least_score_of_0_keeps_what_is_found(three_found):
    three_found.min_score = 0.0
    faces = three_found(two_people())
    assert len(faces) == 3 and min(face.score for face in faces) < 0.1


def within(face, points, photo_points, most=0.05):
    """Whether the landmarks are as near to `points` as `most` of the distance between the eyes' corners."""
    apart = np.linalg.norm(photo_points[36] - photo_points[45])
    assert np.linalg.norm(face.points - points, axis=1).mean() < most * apart


@pytest.mark.parametrize("quarters", [1, 2, 3])
@pytest.mark.parametrize("name", PHOTOS)
@pytest.mark.parametrize("detector", ["haar", "yunet"])
def test_a_turned_photo(detector, name, quarters):
    predictor = Predictor("small", "cpu", available(detector))
    image = photo(name)
    (upright,) = predictor(image)
    turned = np.ascontiguousarray(np.rot90(image, quarters))
    height, width = image.shape[:2]
    x, y = upright.points.T
    points = {1: (y, width - 1 - x), 2: (width - 1 - x, height - 1 - y), 3: (height - 1 - y, x)}[quarters]
    (face,) = predictor(turned)
    within(face, np.stack(points, 1), upright.points)
    low, high = face.box[:2], face.box[:2] + face.box[2:]
    assert (low <= face.points.mean(0)).all() and (face.points.mean(0) <= high).all()
    assert len(Predictor("small", "cpu", detector, turn=False)(turned)) <= 1


def rotated(image, degrees):
    """Counter-clockwise about the middle, and the matrix."""
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1)
    return cv2.warpAffine(image, matrix, (width, height)), matrix


@pytest.mark.parametrize("degrees", [35, -35])
@pytest.mark.parametrize("name", PHOTOS)
def test_a_tilted_face_is_looked_at_upright(predictor, name, degrees):
    """In a box of the caller's, whose one pass becomes two."""
    image = photo(name)
    (upright,) = predictor(image)
    tilted, matrix = rotated(image, degrees)
    points = transform(upright.points, matrix)
    box = np.append(points.min(0), np.ptp(points, axis=0))
    (face,) = predictor(tilted, [box])
    within(face, points, upright.points)


def test_yunet_finds_a_tilted_face():
    predictor = Predictor("default", "cpu", available("yunet"))
    for name in PHOTOS:
        (upright,) = predictor(photo(name))
        tilted, matrix = rotated(photo(name), 35)
        (face,) = predictor(tilted)
        within(face, transform(upright.points, matrix), upright.points)


def test_boxes_of_the_caller_are_all_used(predictor):
    one = Predictor("default", "cpu", "haar", min_score=0.9, max_faces=1)
    assert len(one(photo(PHOTOS[0]), [BOX, BOX])) == 2
    pair = mixed_pictures()[3]
    assert [len(p(pair)) for p in (predictor, one)] == [2, 1]
    assert_same(one(pair)[0], predictor(pair)[0], 0.01)


@pytest.mark.parametrize("most", [0, -1])
def test_fewer_faces_than_one_are_refused(most):
    with pytest.raises(ValueError, match="max_faces must be at least 1"):
        Predictor("default", "cpu", "haar", max_faces=most)


def test_a_list_of_arrays_paths_and_pil_images(predictor, monkeypatch):
    """More than are held in memory at once; each gives what it gives alone."""
    monkeypatch.setattr("popos_cli.predict.predictor.PICTURES", 2)
    paths = [ROOT / "docs/assets" / name for name in PHOTOS]
    nobody = np.full((90, 130, 3), 127, np.uint8)
    with Image.open(paths[0]) as opened:
        together = predictor([str(paths[0]), nobody, paths[1], opened, photo(PHOTOS[1])])
    assert [len(faces) for faces in together] == [1, 0, 1, 1, 1]
    astronaut, hopper = (predictor(path)[0] for path in paths)
    assert_same(together[0][0], astronaut, 0.01)
    assert_same(together[2][0], hopper, 0.01)
    assert_same(together[4][0], hopper, 0.01)
    assert np.abs(together[3][0].points - astronaut.points).max() < 1  # two JPEG decoders
    assert predictor(tuple(paths)) == predictor(list(paths))
