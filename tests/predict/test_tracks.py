"""Who is who over time: two photos' faces moved over a grey picture, with the real detector and network."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from popos_cli.core.geometry import transform
from popos_cli.data.pictures import read_image
from popos_cli.predict import tracks
from popos_cli.predict.predictor import Predictor
from popos_cli.predict.tracks import LOST_FOR, SEARCH_AGAIN, SEARCH_EVERY, Tracker

PHOTOS = Path(__file__).parents[2] / "docs/assets"
SIDE = 120  # of a face's patch; its eyes lie about 35 pixels apart
RATE = 30
SIZE = (180, 400)


def patch(name, rows, columns):
    photo = read_image(PHOTOS / name, upright=True)[rows, columns]
    return cv2.resize(photo, (SIDE, SIDE), interpolation=cv2.INTER_AREA)


WOMAN = patch("astronaut.jpg", slice(20, 220), slice(120, 320))
MAN = patch("grace_hopper.jpg", slice(130, 350), slice(150, 370))
y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
OVAL = ((x / (0.4 * SIDE)) ** 2 + (y / (0.48 * SIDE)) ** 2 < 1)[..., None]


def picture(*faces, ground=127, size=SIZE):
    """Each of `faces` is a patch and its middle x; the later ones lie in front."""
    edge = SIDE
    image = np.full((size[0], size[1] + 2 * edge, 3), ground, np.uint8)
    for face, middle in faces:
        left = round(middle - SIDE / 2) + edge
        if 0 <= left <= size[1] + edge:
            part = image[30 : 30 + SIDE, left : left + SIDE]
            part[:] = np.where(OVAL, face, part)
    return np.ascontiguousarray(image[:, edge:-edge])


class Counted:
    """Calls of a predictor's detector, and crops that its network sees; both do their work."""

    def __init__(self, predictor, monkeypatch):
        self.searches = self.crops = 0
        detector, look = predictor.detector, predictor._pass

        def search(image):
            self.searches += 1
            return detector(image)

        def count_crops(pictures, centers, sides, tilts):
            self.crops += len(centers)
            return look(pictures, centers, sides, tilts)

        monkeypatch.setattr(predictor, "detector", search)
        monkeypatch.setattr(predictor, "_pass", count_crops)


@pytest.fixture(scope="module")
def predictor():
    return Predictor("small", "cpu", "haar")


def middles(faces):
    """Face's number -> x of its landmarks' middle."""
    return {face.id: float(face.points[:, 0].mean()) for face in faces}


def play(tracker, pictures, start=0.0, rate=RATE):
    return [tracker(image, start + n / rate) for n, image in enumerate(pictures)]


def test_a_moving_face_keeps_its_number_for_one_pass_a_frame(predictor, monkeypatch):
    counted = Counted(predictor, monkeypatch)
    path = 100 + 5.0 * np.arange(40)
    found = play(Tracker(predictor, smooth=False), [picture((WOMAN, x)) for x in path])
    assert [[face.id for face in faces] for faces in found] == [[0]] * 40
    assert counted.searches == 3  # at 0, 0.5 and 1 second
    assert counted.crops == 40 + 1  # more passes for the first, until its crop rests
    (still,) = predictor(picture((WOMAN, 200)))
    off = np.array([faces[0].points - [x - 200, 0] for faces, x in zip(found, path, strict=True)])
    eyes = np.linalg.norm(still.points[36] - still.points[45])
    assert np.linalg.norm(off - still.points, axis=-1).mean() < 0.05 * eyes  # as good as without tracking
    boxes = np.array([faces[0].box for faces in found])
    assert np.abs(boxes[:, 0] + boxes[:, 2] / 2 - path).max() < 0.1 * boxes[0, 2]  # the box moves along
    assert all(faces[0].score > 0.9 for faces in found)


def test_smoothing_halves_the_jitter_of_a_still_face(predictor):
    rng = np.random.default_rng(0)
    still = picture((WOMAN, 200)).astype(float)
    noisy = [np.clip(still + rng.normal(0, 6, still.shape), 0, 255).astype(np.uint8) for _ in range(30)]
    jitter = []
    for smooth in (False, True):
        points = np.array([faces[0].points for faces in play(Tracker(predictor, smooth), noisy)])
        jitter.append(np.sqrt((np.diff(points[10:], axis=0) ** 2).sum(-1).mean()))
    assert jitter[1] < 0.5 * jitter[0]


@pytest.mark.parametrize(("behind", "before"), [(WOMAN, MAN), (MAN, WOMAN)])
def test_two_that_cross_keep_their_numbers(predictor, behind, before):
    paths = np.linspace(80, 320, 40), np.linspace(320, 80, 40)
    found = play(Tracker(predictor), [picture((behind, a), (before, b)) for a, b in zip(*paths, strict=True)])
    first, last = middles(found[0]), middles(found[-1])
    assert set(first) == set(last) == {0, 1}
    assert [last[n] for n in (0, 1)] == pytest.approx([first[n] for n in (1, 0)], abs=15)
    assert all(set(middles(faces)) <= {0, 1} for faces in found)


def test_hidden_for_a_while_and_back(predictor):
    tracker = Tracker(predictor)
    here, nobody = [picture((WOMAN, 200))], [picture()]
    assert middles(play(tracker, here * 6)[-1]).keys() == {0}
    # Once it is gone, so is its entry, in the first frame without it.
    assert not any(play(tracker, nobody * 20, start=0.2))
    back = play(tracker, here * 10, start=0.2 + 20 / RATE)
    assert back[-1][0].id == 0
    assert len([faces for faces in back if not faces]) <= SEARCH_AGAIN * RATE + 1
    # Away for longer, it is somebody new.
    assert not any(play(tracker, nobody * 2, start=2.0))
    assert play(tracker, here * 3, start=2.1 + LOST_FOR)[-1][0].id == 1


def test_another_scene_has_other_faces(predictor):
    """In the same place, in the next frame."""
    tracker = Tracker(predictor)
    play(tracker, [picture((WOMAN, 200))] * 3)
    field = np.indices(SIZE).sum(0) % 100 < 50  # what differs is not the face alone
    other = np.where(field[..., None], 30, 220).astype(np.uint8).repeat(3, axis=2)
    other[30 : 30 + SIDE, 140 : 140 + SIDE] = picture((WOMAN, 200))[30 : 30 + SIDE, 140 : 140 + SIDE]
    assert [face.id for face in tracker(other, 3 / RATE)] == [1]
    assert [face.id for face in tracker(picture((WOMAN, 200)), 4 / RATE)] == [2]


def test_who_appears_is_found_within_half_a_second(predictor, monkeypatch):
    tracker, counted = Tracker(predictor), Counted(predictor, monkeypatch)
    assert not any(play(tracker, [picture()] * 30))
    assert counted.searches <= 2 * (1 + 1 / SEARCH_AGAIN)  # not in every frame; each time turned once, too
    assert not tracker(picture(), 1.0)
    one = play(tracker, [picture((WOMAN, 100))] * 15, start=31 / RATE)
    assert set(middles(one[-1])) == {0}
    both = play(tracker, [picture((WOMAN, 100), (MAN, 300))] * 20, start=46 / RATE)
    soon = round(SEARCH_EVERY * RATE) + 1
    assert all(set(middles(faces)) == {0, 1} for faces in both[soon:])
    assert middles(both[-1])[1] > 250


@pytest.mark.parametrize("step", [0.1, 1.0, 10.0])
def test_frames_far_apart_in_time(predictor, step):
    """One in three frames, or one in 300: numbers stay, and landmarks are those of the frame."""
    tracker = Tracker(predictor)
    for n in range(4):
        place = 150 + 20 * n
        (face,) = tracker(picture((MAN, place)), n * step)
        assert face.id == 0
        assert face.points[:, 0].mean() == pytest.approx(place, abs=8)


def test_a_time_that_repeats(predictor):
    """As some files and cameras give it."""
    found = play(Tracker(predictor), [picture((WOMAN, 200))] * 4, rate=np.inf)
    assert [faces[0].id for faces in found] == [0] * 4
    assert all(np.isfinite(faces[0].points).all() for faces in found)


def test_two_boxes_on_one_face_and_one_on_none(predictor, monkeypatch):
    """Such as Haar finds: one track comes of them."""
    detector = predictor.detector

    def generous(image):
        (found,) = detector(image)
        moved = [
            tracks.Detection(found.box, found.score, found.center + shift, found.side, found.passes)
            for shift in ([8.0, 4.0], [150.0, 0.0])
        ]
        return [found, *moved]

    monkeypatch.setattr(predictor, "detector", generous)
    found = play(Tracker(predictor), [picture((WOMAN, 100))] * 20)
    assert [[face.id for face in faces] for faces in found] == [[0]] * 20


def test_a_face_that_tilts_is_followed_upright(predictor):
    """Haar finds none that is tilted by more than 20 degrees."""
    (start,) = predictor(picture((WOMAN, 200)))
    tracker = Tracker(predictor, smooth=False)
    middle = 200.0, 30 + SIDE / 2
    for n in range(31):
        matrix = cv2.getRotationMatrix2D(middle, 3 * n, 1)
        image = cv2.warpAffine(picture((WOMAN, 200)), matrix, SIZE[::-1], borderValue=(127,) * 3)
        (face,) = tracker(image, n / RATE)
        assert face.id == 0
    expected = transform(start.points, matrix)
    apart = np.linalg.norm(start.points[36] - start.points[45])
    assert np.linalg.norm(face.points - expected, axis=1).mean() < 0.08 * apart


def test_a_film_on_its_side(predictor):
    """Found within three searches, and followed."""
    image = np.ascontiguousarray(np.rot90(picture((WOMAN, 200), (MAN, 330))))
    tracker = Tracker(predictor)
    found = play(tracker, [image] * 25)
    assert [len(faces) for faces in found[-5:]] == [2] * 5
    eyes = found[-1][0]["left eye"].mean(0) - found[-1][0]["right eye"].mean(0)
    assert abs(eyes[1]) > 3 * abs(eyes[0])


def test_the_largest_comes_first(predictor):
    small = cv2.resize(WOMAN, None, fx=0.8, fy=0.8, interpolation=cv2.INTER_AREA)
    image = picture((WOMAN, 300))
    image[50 : 50 + len(small), 30 : 30 + len(small)] = small
    faces = Tracker(predictor)(image, 0.0)
    assert [round(float(face.points[:, 0].mean()), -2) for face in faces] == [300, 100]
    assert {face.id for face in faces} == {0, 1}
