"""What is drawn on a picture, where and in which colours; which names the files get; tables and videos."""

import csv
import json
import time
from dataclasses import replace
from pathlib import Path, PurePath

import cv2
import numpy as np
import pytest
from clips import number_of, numbered

from popos_cli.core.schemes import Scheme
from popos_cli.errors import PoposError
from popos_cli.predict.face import Face, Faces
from popos_cli.predict.frames import Frame, PictureFile, Video
from popos_cli.predict.names import output_names
from popos_cli.predict.overlay import BOX, EDGE, POINT, draw_box, draw_points
from popos_cli.predict.pipeline import Result
from popos_cli.predict.writers import Clip, CsvFile, Folder


def middle_of(image, color):
    """The mean place (x, y) of the pixels of about this colour."""
    y, x = np.nonzero((np.abs(image.astype(int) - color) < 50).all(axis=2))
    return np.array([x.mean(), y.mean()])


@pytest.mark.parametrize("offset", [0, 29_000, 39_000, 69_000])
def test_points_edges_and_boxes_are_where_the_face_is(offset):
    """Also far to the right."""
    image = np.zeros((200, offset + 300, 3), np.uint8)
    points = np.array([[60.0, 50.0], [210.0, 50.0], [130.0, 150.0]]) + [offset, 0]
    draw_box(image, np.array([offset + 20.5, 20.5, 250.0, 160.0]))
    draw_points(image, points, ((0, 1),))
    assert middle_of(image, BOX) == pytest.approx([offset + 145, 100], abs=1)
    assert middle_of(image, EDGE) == pytest.approx([offset + 135, 50], abs=1)
    assert middle_of(image, POINT) == pytest.approx(points.mean(0), abs=1)


def test_thousands_of_pictures_of_one_name(tmp_path):
    paths = [Path(f"{n}/face.jpg") for n in range(8000)] + [Path("face-7.jpg"), Path("FACE.png")]
    sources = [PictureFile(path, PurePath(path.stem)) for path in paths]
    began = time.process_time()
    names = output_names(sources, tmp_path)
    assert time.process_time() - began < 5
    assert str(names[sources[0]]) == "face" and str(names[sources[7999]]) == "face-8000"
    assert len({str(name).lower() for name in names.values()}) == len(paths)


def test_what_a_camera_recorded_before_is_kept(tmp_path):
    own = '{"source": "0", "weights": "default", "scheme": "300w"}\n'
    for name in ("camera-0", "clip"):
        (tmp_path / f"{name}.jsonl").write_text(own)
        (tmp_path / f"{name}_landmarks.mp4").write_text("")
    (tmp_path / "mine_landmarks.mp4").write_text("")
    places = {"camera-0": 0, "clip": Path("clip.mp4"), "mine": Path("mine.mp4")}
    sources = [Video(str(origin), origin, PurePath(place)) for place, origin in places.items()]
    assert [str(name) for name in output_names(sources, tmp_path).values()] == [
        "camera-0-2",
        "clip",
        "mine-2",
    ]


def face(track=None):
    points = np.arange(6, dtype=np.float32).reshape(3, 2)
    ones = np.ones(3, np.float32)
    return Face(np.array([1, 2, 30, 40], np.float32), None, points, ones, ones / 2, track)


SCHEME = Scheme("three", 3)
SOURCE = Video('clip, "1".mp4', Path("clip.mp4"), PurePath("clip"))


def result(number=0, time=0.0, faces=(), size=(40, 60), **fields):
    frame = Frame(SOURCE.name, number, time, np.zeros((*size, 3), np.uint8), 10.0)
    return Result(SOURCE, frame, Faces(faces, SCHEME), **fields)


def test_rows_of_a_table(tmp_path):
    table = CsvFile(tmp_path / "new/faces.csv", SCHEME)
    for one in (
        result(0, 0.0, [face(3)]),
        result(5, 0.5),
        Result(SOURCE, None, Faces([], SCHEME), "torn", 9),
    ):
        table.write(one)
    with (tmp_path / "new/faces.csv").open() as file:  # written as it comes
        rows = list(csv.DictReader(file))
    table.close()
    columns = ["source", "frame", "face_id", "timestamp", "confidence", "success"]
    assert list(rows[0]) == columns + [f"{axis}_{n}" for axis in "xyu" for n in range(3)]
    assert [[row[c] for c in columns] for row in rows] == [
        ["clip, \"1\".mp4", "0", "3", "0.0", "", "1"], ["clip, \"1\".mp4", "5", "0", "0.5", "0", "0"],
    ]  # fmt: skip
    assert [rows[0][c] for c in ("x_0", "y_0", "x_2", "y_2", "u_1")] == ["0.0", "1.0", "4.0", "5.0", "0.5"]
    assert {rows[1][c] for c in list(rows[1])[6:]} == {""}


def test_a_table_replaces_a_table_and_nothing_else(tmp_path):
    path = tmp_path / "faces.csv"
    for _ in range(2):
        CsvFile(path, SCHEME).close()
    path.write_text("image,x0\n")
    with pytest.raises(PoposError, match="exists and is no table of popos predict"):
        CsvFile(path, SCHEME)
    assert path.read_text() == "image,x0\n"


@pytest.mark.parametrize(
    ("times", "shown"),
    [
        ([0, 0.1, 0.2, 0.3], [0, 1, 2, 3]),
        ([5.0, 5.1, 5.2], [0, 1, 2]),  # from --start 5
        ([0, 0.2, 0.31], [0, 1, 1, 2]),  # a camera that is slower than it says
        ([0, 0.04, 0.1], [0, 2]),  # one that is quicker
        ([0, 0.1, 9000.0, 9000.1], [0, 1, *[2] * 10, 3]),  # a stream that paused
    ],
)
def test_an_annotated_video_is_as_long_as_its_source(tmp_path, times, shown):
    """Frame n at its time; 10 frames a second."""
    pictures = [cv2.cvtColor(p, cv2.COLOR_BGR2RGB) for p in numbered(len(times))]
    with Clip(tmp_path / "clip.mp4", replace(result(0, times[0]).frame, image=pictures[0])) as clip:
        for picture, at in zip(pictures, times, strict=True):
            clip.add(picture, at)
        assert not (tmp_path / "clip.mp4").exists()
    capture = cv2.VideoCapture(str(tmp_path / "clip.mp4"))
    assert capture.get(cv2.CAP_PROP_FPS) == 10
    found = []
    while (read := capture.read())[0]:
        found.append(number_of(read[1]))
    assert found == shown


def test_a_video_without_a_frame_leaves_nothing_and_pictures_their_files(tmp_path):
    folder = Folder(tmp_path / "out", [SOURCE], {"weights": "w", "scheme": "three"}, SCHEME)
    folder.write(Result(SOURCE, None, Faces([], SCHEME), "torn"))
    assert list((tmp_path / "out").iterdir()) == []
    for number in range(3):
        folder.write(result(number, number / 10, [face(1)]))
        lines = (tmp_path / "out/clip.jsonl").read_text().splitlines()
        assert len(lines) == number + 1  # as it comes
    folder.close()
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"clip.jsonl", "clip_landmarks.mp4"}
    last = json.loads(lines[-1])
    assert list(last) == ["source", "frame", "time", "width", "height", "faces", "weights", "scheme"]
    assert (last["frame"], last["time"], last["width"], last["faces"][0]["id"]) == (2, 0.2, 60, 1)
