"""Which detector a name stands for; Haar on the two sample photos; what YuNet's rows become."""

import hashlib
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

from popos_cli.core.geometry import rotation
from popos_cli.data.pictures import read_image
from popos_cli.errors import PoposError
from popos_cli.predict import detect
from popos_cli.predict.detect import (
    Detection,
    Haar,
    YuNet,
    load_detector,
    search_scale,
    without_overlaps,
    yunet_detections,
)
from popos_cli.weights.catalog import load_catalog
from popos_cli.weights.download import find_here

PHOTOS = Path(__file__).parents[2] / "docs" / "assets"
# Nose tips, read off the photos.
NOSES = {"astronaut.jpg": (224, 122), "grace_hopper.jpg": (254, 235)}


@pytest.fixture(scope="module")
def haar():
    return Haar()


def real_yunet():
    """The model that `popos download-weights yunet` brings, where this machine has it."""
    try:
        return find_here(load_catalog()["yunet"])
    except PoposError:
        return None


needs_yunet = pytest.mark.skipif(real_yunet() is None, reason="popos download-weights yunet has not been run")


@pytest.fixture
def empty_home(tmp_path, monkeypatch):
    """A POPOS_HOME, and a Hub cache, without anything."""
    monkeypatch.setenv("POPOS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def test_without_yunets_file(empty_home):
    assert isinstance(load_detector("haar"), Haar)
    assert isinstance(load_detector("auto"), Haar)
    with pytest.raises(PoposError, match="yunet is not here") as caught:
        load_detector("yunet")
    assert "popos download-weights yunet" in caught.value.hint


def test_yunet_is_taken_once_it_is_here(empty_home, tmp_path, monkeypatch):
    """A user's catalog may name a file of their own. The network itself is not on every machine."""
    file = tmp_path / "my yunet.onnx"
    file.write_bytes(b"a model")
    sha256 = hashlib.sha256(b"a model").hexdigest()
    (empty_home / "catalog.toml").write_text(
        f'[yunet]\nkind = "detector"\nformat = "onnx"\nsource = "{file}"\nsha256 = "{sha256}"\n'
    )
    monkeypatch.setattr(detect, "YuNet", lambda model: ("yunet", model))
    assert load_detector("auto") == load_detector("yunet") == ("yunet", file)
    assert isinstance(load_detector("haar"), Haar)
    file.write_bytes(b"another")  # its hash is another: not used
    assert isinstance(load_detector("auto"), Haar)


@pytest.mark.parametrize(("photo", "nose"), NOSES.items())
def test_finds_the_one_face_and_promises_a_square_around_its_landmarks(haar, photo, nose):
    (found,) = haar(read_image(PHOTOS / photo, upright=True))
    assert found.score >= 3  # windows
    # The landmarks' square reaches from the brows to the chin: its middle is close to the nose tip.
    assert np.abs(found.center - nose).max() < 0.15 * found.side
    assert found.center[1] > found.box[1] + found.box[3] / 2 - 0.5  # below the box's own middle


def test_a_large_picture_is_searched_at_a_smaller_scale(haar):
    photo = read_image(PHOTOS / "grace_hopper.jpg", upright=True)
    (small,) = haar(photo)
    (large,) = haar(cv2.resize(photo, None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC))
    assert large.box / 4 == pytest.approx(small.box, abs=0.1 * small.box[2])
    assert large.side / 4 == pytest.approx(small.side, rel=0.1)


@pytest.mark.parametrize("name", ["haar", pytest.param("yunet", marks=needs_yunet)])
def test_threads_share_a_detector_and_processes_get_it(name):
    """Pictures of many sizes at the same time: as one after another, to the bit."""
    detector = YuNet(real_yunet()) if name == "yunet" else Haar()
    photos = [read_image(PHOTOS / photo, upright=True) for photo in NOSES]
    pictures = [cv2.resize(p, (size, size + 7)) for p in photos for size in (120, 150, 190, 230)]
    pictures.append(np.full((80, 60, 3), 127, np.uint8))

    def rows(found):
        return [(*d.box, d.score, *d.center, d.side) for d in found]

    alone = [rows(detector(picture)) for picture in pictures]
    assert sum(map(len, alone)) >= 6
    numbers = [n % len(pictures) for n in range(400)]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda n: rows(detector(pictures[n])), numbers))
    assert together == [alone[n] for n in numbers]
    again = pickle.loads(pickle.dumps(detector))
    assert [rows(again(picture)) for picture in pictures] == alone


def test_haar_weighs_red_more_than_blue(haar):
    """A face in red over its negative in blue: the faces of its brightness are found."""
    grey = cv2.cvtColor(read_image(PHOTOS / "astronaut.jpg", upright=True), cv2.COLOR_RGB2GRAY)
    image = np.dstack([grey, np.zeros_like(grey), 255 - grey])
    bright = np.round(0.299 * image[..., 0] + 0.114 * image[..., 2]).astype(np.uint8)
    (expected,) = haar(np.dstack([bright] * 3))
    assert [d.box.tolist() for d in haar(image)] == [expected.box.tolist()]


def test_nothing_in_an_even_picture_or_a_tiny_one(haar):
    assert haar(np.full((200, 300, 3), 127, np.uint8)) == []
    assert haar(np.zeros((1, 1, 3), np.uint8)) == []


def test_boxes_inside_or_over_a_larger_one_go_and_the_rest_are_sorted_by_area():
    face, mouth, twin, other = [0, 0, 100, 100], [30, 60, 30, 30], [10, 10, 95, 95], [200, 0, 120, 120]
    assert without_overlaps(np.array([mouth, twin, face, other], dtype=float)) == [3, 2]
    # Whatever the order in which threads find them.
    same = [[200, 90, 50, 50], [0, 90, 50, 50], [100, 0, 50, 50], [99, 0, 50, 50]]
    for boxes in (same, same[::-1]):
        kept = without_overlaps(np.array(boxes, float))
        assert [boxes[n] for n in kept] == [same[n] for n in (3, 1, 0)]
    assert without_overlaps(np.zeros((0, 4))) == []


BOX = [100.0, 50.0, 80.0, 125.0]
# Eyes, nose, corners of the mouth.
FIVE = np.array([[122.0, 100], [158, 100], [140, 125], [127, 140], [153, 140]])


def test_yunets_boxes_become_faces_of_the_whole_picture():
    (one,) = yunet_detections(np.array([BOX]), np.array([0.9]), FIVE[None])
    assert one.box.tolist() == BOX
    assert one.score == pytest.approx(0.9)
    size = 100  # sqrt(80 * 125); the box is centred on (140, 112.5) in pixel edges
    assert one.center == pytest.approx([139.5, 112 + YuNet.RULE.shift[1] * size])
    assert one.side == pytest.approx(YuNet.RULE.side * size)
    assert one.tilt == 0


@pytest.mark.parametrize(("degrees", "expected"), [(10, 0), (-19, 0), (35, 35), (-100, -100), (180, 180)])
def test_yunets_five_points_tell_the_tilt(degrees, expected):
    """degrees: by which the face is turned clockwise as seen on the screen. The square lies below the box's
    middle as the face sees it."""
    middle = np.array([140.0, 112.5])
    turned = (FIVE - middle) @ rotation(degrees) + middle
    (one,) = yunet_detections(np.array([BOX]), np.array([0.9]), turned[None])
    assert (one.tilt - expected + 180) % 360 - 180 == pytest.approx(0, abs=1)
    down = rotation(expected).T @ [0, YuNet.RULE.shift[1] * 100]
    assert one.center == pytest.approx(middle - 0.5 + down, abs=0.5)


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_detection_in_a_turned_picture_is_turned_back(quarters):
    """A picture of one white pixel, its box and centre."""
    image = np.zeros((5, 9), np.uint8)
    image[1, 6] = 1
    ((row, column),) = np.argwhere(np.rot90(image, quarters))
    found = Detection(np.array([column, row, 1, 1]), 0.9, np.array([column, row]), 3.0, 2, tilt=25.0)
    back = found.turned_back(quarters, 9, 5)
    assert back.box.tolist() == [6, 1, 1, 1]
    assert back.center.tolist() == [6, 1]
    assert back.tilt == 25 + 90 * quarters


def test_yunets_faces_are_sorted_by_area_and_odd_boxes_left_out():
    small, large, flat, broken = [1, 1, 20, 30], [1, 1, 300, 200], [1, 1, 0, 30], [np.nan, 1, 20, 30]
    scores = np.array([0.9, 0.9, 1.0000001, 0.9])  # of a float32
    five = np.stack([FIVE] * 4)
    found = yunet_detections(np.array([small, flat, large, broken], dtype=float), scores, five)
    assert [d.box[2] for d in found] == [300, 20]
    assert found[0].score == 1
    assert yunet_detections(np.zeros((0, 4)), np.zeros(0), np.zeros((0, 5, 2))) == []


class FakeSession:
    """In ONNX Runtime's place: YuNet finds one face of 64 pixels in a picture of one of the `sizes`."""

    def __init__(self, sizes):
        self.asked, self.sizes = [], sizes
        self.detector = YuNet.__new__(YuNet)
        self.detector.session = self

    def run(self, names, feeds):
        (pixels,) = feeds["input"]
        height, width = pixels.shape[1:]
        self.asked.append((width, height))
        assert not pixels[1:].any()  # the tests' pictures are blue, which comes first in OpenCV's order
        outputs = []
        for name in names:
            kind, stride = name.split("_")
            cells = (height // int(stride)) * (width // int(stride))
            values = np.zeros((1, cells, {"bbox": 4, "kps": 10}.get(kind, 1)), np.float32)
            if stride == "32" and self.asked[-1] in self.sizes:
                values[0, 0] = {"bbox": np.log(2), "kps": (0, 0, 1, 0, 0.5, 0.5, 0, 1, 1, 1)}.get(kind, 1)
            outputs.append(values)
        return outputs


@pytest.mark.parametrize(
    ("picture", "sizes"),
    [
        ((300, 200), [(224, 320), (224, 320)]),  # filled up to whole cells of 32 pixels
        ((600, 900), [(640, 448), (320, 224)]),
        ((400, 3600), [(1440, 160), (736, 96)]),  # a panorama: as many pixels as one of 640 x 360
        ((1, 5000), [(5024, 32), (5024, 32)]),
    ],
)
def test_a_picture_without_a_large_face_is_searched_again_at_a_smaller_scale(picture, sizes):
    image = np.full((*picture, 3), (0, 0, 200), np.uint8)
    nothing, first, second = (FakeSession(found) for found in ([], sizes[:1], sizes[1:]))
    assert nothing.detector(image) == []
    assert nothing.asked == sizes
    (one,) = first.detector(image)
    assert first.asked == sizes
    assert one.score == 1
    (other,) = second.detector(image)
    scales = [search_scale(image, size) for size in YuNet.SEARCH_SIZES]
    assert other.box[2] / one.box[2] == pytest.approx(scales[0] / scales[1])


def test_a_large_face_ends_the_search():
    session = FakeSession([(224, 224)])
    (one,) = session.detector(np.full((200, 200, 3), (0, 0, 200), np.uint8))
    assert session.asked == [(224, 224)]
    assert one.box[2] >= YuNet.LARGE * 200


@pytest.mark.parametrize("data", [b"", b"no network", b"\x08\x07\x12\x07pytorch"])
def test_a_file_that_is_no_yunet(tmp_path, data):
    path = tmp_path / "yunet.onnx"
    path.write_bytes(data)
    with pytest.raises(PoposError, match=r"yunet\.onnx: not a YuNet"):
        YuNet(path)


@needs_yunet
def test_the_real_yunet_finds_nothing_in_thin_pictures():
    """Whatever was searched before."""
    detector = YuNet(real_yunet())
    noise = np.random.default_rng(0).integers(0, 255, (640, 640, 3), np.uint8)
    for side in (1, 10, 32):
        for long in (32, 320, 700):
            for grey in (0, 127, 255):
                detector(noise)
                assert detector(np.full((long, side, 3), grey, np.uint8)) == []
                assert detector(np.full((side, long, 3), grey, np.uint8)) == []


@needs_yunet
@pytest.mark.parametrize(("photo", "nose"), NOSES.items())
def test_the_real_yunet(photo, nose):
    image = read_image(PHOTOS / photo, upright=True)
    for scale in (0.5, 1, 4):
        (found,) = YuNet(real_yunet())(cv2.resize(image, None, fx=scale, fy=scale))
        assert found.score > 0.8
        assert np.abs((found.center + 0.5) / scale - 0.5 - nose).max() < 0.2 * found.side / scale
