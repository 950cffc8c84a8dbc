"""Pictures and videos through the pipeline: as one by one, in order, whatever fails."""

from __future__ import annotations

import itertools
import threading
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import pytest
from clips import cut, moving_face, write_clip

from popos_cli.data.pictures import read_image
from popos_cli.errors import PoposError, PoposWarning
from popos_cli.predict.pipeline import predict_sources
from popos_cli.predict.predictor import Predictor
from popos_cli.predict.sources import expand

ASSETS = Path(__file__).parents[2] / "docs/assets"


@pytest.fixture(scope="module")
def predictor():
    return Predictor("small", "cpu", "haar")


@pytest.fixture(scope="module")
def shots(tmp_path_factory):
    """A folder: pictures of one face, none, two; a torn one; and a clip of six frames."""
    folder = tmp_path_factory.mktemp("shots")
    first, second = (cv2.imread(str(ASSETS / name)) for name in ("astronaut.jpg", "grace_hopper.jpg"))
    first, second = first[20:260, 80:340], second[90:420, 90:400]
    grey = np.full((330, 60, 3), 127, np.uint8)
    both = np.hstack([cv2.copyMakeBorder(first, 0, 90, 0, 0, cv2.BORDER_CONSTANT), grey, second])
    for number, picture in enumerate([first, grey, both, second, first]):
        cv2.imwrite(str(folder / f"{number}.jpg"), picture)
    cut(folder / "3.jpg", 0.5)
    write_clip(folder / "clip.avi", moving_face(ASSETS / "astronaut.jpg", 6), codec="MJPG")
    return folder


def pictures_of(folder):
    return [source for source in expand([str(folder)]) if not source.moving]


def assert_same(faces, alone):
    assert len(faces) == len(alone)
    for face, other in zip(faces, alone, strict=True):
        np.testing.assert_array_equal(face.box, other.box)
        np.testing.assert_allclose(face.points, other.points, atol=0.01)  # the order of a sum of floats
        np.testing.assert_allclose(face.uncertainty, other.uncertainty, atol=0.01)


@pytest.mark.parametrize("batch", [8, 2])
def test_pictures_together_are_as_one_by_one(predictor, shots, monkeypatch, batch):
    """In one batch that uses every core, and in several, each on one of them."""
    monkeypatch.setattr("popos_cli.predict.pipeline.BATCH", batch)
    found = list(predict_sources(predictor, pictures_of(shots)))
    assert [Path(r.source.name).name for r in found] == [f"{n}.jpg" for n in range(5)]
    assert [len(r.faces) for r in found] == [1, 0, 2, 0, 1]
    assert [bool(r.error) for r in found] == [False, False, False, True, False]
    assert "truncated" in found[3].error and found[3].frame is None
    for result in found[:3] + found[4:]:
        image = read_image(Path(result.source.name), upright=True)
        np.testing.assert_array_equal(result.frame.image, image)
        assert_same(result.faces, predictor(image))


def test_a_face_at_which_the_network_fails_spoils_no_other(predictor, shots, monkeypatch):
    def locate(images, detections, threads=None):
        if any(image.shape[0] == 330 for image in images):
            raise RuntimeError("out of memory\nat some place")
        return Predictor.locate(predictor, images, detections, threads)

    monkeypatch.setattr(predictor, "locate", locate)
    found = list(predict_sources(predictor, pictures_of(shots)))
    assert [len(r.faces) for r in found] == [1, 0, 0, 0, 1]
    assert found[2].error.startswith(f"{shots / '2.jpg'}: RuntimeError: out of memory (")
    assert found[2].frame is not None
    monkeypatch.setenv("POPOS_DEBUG", "1")
    with pytest.raises(RuntimeError):
        list(predict_sources(predictor, pictures_of(shots)))


def test_large_pictures_do_not_pile_up(predictor, tmp_path, monkeypatch):
    """One of 5 MB is a batch of its own: one on each core, and one that waits to be written."""
    for number in range(8):
        with (tmp_path / f"{number}.png").open("wb") as file:
            file.truncate(5_000_000)
    made, most, done = [], 0, 0

    def read(path, upright):
        made.append(path)
        return np.zeros((5000, 8000, 3), np.uint8)

    monkeypatch.setattr("popos_cli.predict.frames.read_image", read)
    monkeypatch.setattr(predictor, "detect", lambda image, boxes=None: [])
    for result in predict_sources(predictor, pictures_of(tmp_path)):
        done += result.error is None
        threading.Event().wait(0.02)  # the reader is quicker
        most = max(most, len(made) - done + 1)
    assert done == 8 and most <= predictor.runtime.threads + 2


def test_a_videos_frames(predictor, shots):
    found = list(predict_sources(predictor, expand([str(shots / "clip.avi")]), smooth=False))
    assert [r.frame.number for r in found] == list(range(6))
    assert [r.frame.time for r in found] == pytest.approx([n / 25 for n in range(6)])
    noses = np.array([r.faces[0].points[30] for r in found])
    assert np.diff(noses[:, 0]) == pytest.approx([-2] * 5, abs=1.5)


def test_a_torn_video_keeps_its_frames(predictor, shots, tmp_path):
    path = tmp_path / "torn.avi"
    path.write_bytes((shots / "clip.avi").read_bytes())
    whole, last = [], None
    for result in predict_sources(predictor, expand([str(cut(path, 0.6)), str(shots / "0.jpg")])):
        whole.append(result)
    *frames, last, picture = whole
    assert len(frames) >= 2 and not any(r.error for r in frames)
    assert last.frame is None and "truncated" in last.error and last.number == len(frames)
    assert len(picture.faces) == 1


def test_stream(predictor, shots):
    found = list(predictor.stream(shots / "clip.avi", every=2, start=0.04, end=0.2))
    assert [frame.number for frame, _ in found] == [1, 3]
    for frame, faces in found:
        assert frame.image.shape == (240, 320, 3) and frame.time == pytest.approx(frame.number / 25)
        assert len(faces) >= 1
    with pytest.warns(PoposWarning, match="truncated"):
        found = list(predictor.stream(shots))
    names = [Path(frame.source).name for frame, _ in found]
    assert names == ["0.jpg", "1.jpg", "2.jpg", "4.jpg", *["clip.avi"] * 6]
    with pytest.raises(PoposError, match="truncated"):
        next(predictor.stream(shots / "3.jpg"))
    with pytest.raises(PoposError, match="camera 97"):
        next(predictor.stream(97))
    with pytest.raises(ValueError, match="every"):
        next(predictor.stream(0, every=0))


def test_who_stops_early_leaves_no_thread(predictor, shots):
    for source in (shots, shots / "clip.avi"):
        with closing(predictor.stream(source)) as stream:
            assert len(list(itertools.islice(stream, 1))) == 1
    assert not [thread for thread in threading.enumerate() if thread.name == "ahead"]
