"""From a detector's box to the square of any scheme: measured, promised, and told from a stranger's face.

The "faces" are bright rectangles, which a detector of a few lines finds; their landmarks are five points at
fixed places of each.
"""

from pathlib import Path

import cv2
import numpy as np
import pytest

from popos_cli.core.crop_rule import RULES, SAME, CropRule, squares_around
from popos_cli.core.geometry import tight_square
from popos_cli.core.schemes import Scheme
from popos_cli.data.index import Index
from popos_cli.evaluate.detections import LEAST_FACES, detect_all, measure_crop, squares_of
from popos_cli.predict.detect import Detection

FIVE = Scheme("five", 5, {}, frozenset(), ((0, 1), (3, 4)), (0, 1))
# In units of the rectangle's width, from its middle.
PLACES = np.array([[-0.2, -0.1], [0.2, -0.1], [0, 0.1], [-0.15, 0.3], [0.15, 0.3]])
TRUE = CropRule((0.0, 0.1), 0.4)
FACES = 14


class Rectangles:
    """Finds bright rectangles, and says what Haar would say of a face there."""

    name = "haar"

    def __call__(self, image):
        _, _, stats, _ = cv2.connectedComponentsWithStats((image[..., 0] > 128).astype(np.uint8))
        boxes = stats[1:, :4].astype(float)
        return [
            Detection(box, None, *RULES["haar"].square(box[:2] + box[2:] / 2 - 0.5, box[2]), 3)
            for box in boxes
        ]


def write_faces(folder: Path, count=FACES, strangers=()) -> Index:
    """Pictures of one rectangle each, some with a stranger's beside it; the index has tight squares."""
    rng, points = np.random.default_rng(0), []
    for number in range(count):
        picture = np.zeros((300, 500), np.uint8)
        size, x, y = (int(v) for v in rng.integers([40, 5, 5], [100, 100, 100]))
        picture[y : y + size, x : x + size] = 255
        if number in strangers:
            picture[20:140, 320:440] = 255
        cv2.imwrite(str(folder / f"{number}.png"), picture)
        points.append(np.array([x, y]) + (size - 1) / 2 + PLACES * size)
    points = np.array(points)
    squares = [tight_square(p) for p in points]
    return Index(
        name="rectangles", scheme=FIVE, root=folder, points=points,
        image=np.array([f"{n}.png" for n in range(count)]),
        size=np.full((count, 2), (500, 300), np.int32), visible=np.full(points.shape[:2], 2, np.uint8),
        center=np.array([c for c, _ in squares]), side=np.array([s for _, s in squares]),
        split=np.array(["train"] * count), group=np.array([str(n) for n in range(count)]),
        source=np.array([""] * count), subset=np.zeros((count, 0), bool), rect=np.full((count, 4), np.nan),
    )  # fmt: skip


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    return write_faces(tmp_path_factory.mktemp("faces"), strangers=(2, 3))


def test_the_rule_is_measured(index):
    crop = measure_crop(index, 1.3, [Rectangles()])
    assert crop.padding == 1.3
    assert crop.detectors["haar"].side == pytest.approx(TRUE.side, abs=0.03)  # bounds are whole pixels
    np.testing.assert_allclose(crop.detectors["haar"].shift, TRUE.shift, atol=0.02)
    assert crop.landmarks == SAME


def test_squares_that_are_not_tight_are_known_as_such(index):
    """Benchmarks' boxes: the crop after a detection, and the one after a pass of the network."""
    about = CropRule((0.0, -0.25), 1.5)
    squares = [about.square(c, s) for c, s in zip(index.center, index.side, strict=True)]
    index = index.select(np.arange(len(index)))
    index.center[:], index.side[:] = [c for c, _ in squares], [s for _, s in squares]
    crop = measure_crop(index, 1.25, [Rectangles()])
    assert crop.landmarks.side == pytest.approx(1.5)
    np.testing.assert_allclose(crop.landmarks.shift, about.shift, atol=1e-9)
    assert crop.detectors["haar"].side == pytest.approx(1.5 * TRUE.side, abs=0.05)
    centers, sides = squares_around(index.points, index.center, index.side, crop.landmarks)
    np.testing.assert_allclose(centers, index.center)
    np.testing.assert_allclose(sides, index.side)


def test_too_few_faces_or_a_torn_picture_leave_the_rule_out(index, tmp_path):
    assert measure_crop(index.select(np.arange(LEAST_FACES - 1)), 1.25, [Rectangles()]).detectors == {}

    def blind(image):
        return []

    blind.name = "haar"
    assert measure_crop(index, 1.25, [blind]).detectors == {}
    broken = write_faces(tmp_path)
    (tmp_path / "3.png").write_bytes(b"\x89PNG")
    assert measure_crop(broken, 1.25, [Rectangles()]).detectors == {}


def promised(index, rule):
    return squares_of(index, detect_all(index, Rectangles()), rule)


def test_faces_of_a_small_scheme_are_found_and_strangers_are_not_taken_for_them(index):
    rule = RULES["haar"].inverse().then(TRUE)
    rows, (centers, sides) = promised(index, rule)
    assert rows.tolist() == list(range(FACES))
    assert np.abs(centers - index.center).max() < 0.1 * index.side.min()
    np.testing.assert_allclose(sides, index.side, rtol=0.1)


def test_where_no_rule_is_known_faces_are_found_but_cropped_as_predict_does(index):
    rows, (_, sides) = promised(index, None)
    assert rows.tolist() == list(range(FACES))
    np.testing.assert_allclose(sides / index.side, RULES["haar"].side / TRUE.side, rtol=0.1)


def test_a_face_that_is_not_detected_is_missed_however_many_strangers_there_are(index, tmp_path):
    alone = write_faces(tmp_path, strangers=(0, 1, 2))
    for n in (0, 1, 5):  # cover the face itself
        picture = cv2.imread(str(tmp_path / f"{n}.png"))
        picture[:, :300] = 0
        cv2.imwrite(str(tmp_path / f"{n}.png"), picture)
    rows, _ = promised(alone, RULES["haar"].inverse().then(TRUE))
    assert rows.tolist() == [n for n in range(FACES) if n not in (0, 1, 5)]
