"""What a face and the faces of a picture offer: names, equality, tables, overlays, other libraries."""

from __future__ import annotations

import csv
import io
import json
import pickle
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from popos_cli import Faces
from popos_cli.core.geometry import transform
from popos_cli.core.schemes import SCHEMES
from popos_cli.data.pictures import read_image
from popos_cli.errors import PoposError
from popos_cli.predict.csv_rows import csv_header, csv_rows
from popos_cli.predict.face import Face
from popos_cli.prepare.synthetic_face import canonical_points

SCHEME = SCHEMES["300w"]
PHOTO = Path(__file__).parents[2] / "docs/assets/astronaut.jpg"


def make_face(x=100.0, score=0.9, track=None):
    points = (canonical_points(SCHEME) * 50 + [x, 100]).astype(np.float32)
    box = np.array([x - 60, 40, 120, 140], np.float32)
    scores, uncertainty = np.full(68, 0.8, np.float32), np.linspace(1, 3, 68, dtype=np.float32)
    return Face(box, score, points, scores, uncertainty, track, SCHEME)


@pytest.fixture
def faces():
    return Faces([make_face(), make_face(300.0, None)], SCHEME)


def test_landmarks_by_name(faces):
    np.testing.assert_array_equal(faces[0]["left eye"], faces[0].points[36:42])
    with pytest.raises(KeyError, match=r"no group 'eye'; there are: jaw, left brow, .*inner lip"):
        faces[0]["eye"]


def test_equal_numbers_are_equal_faces(faces):
    again = pickle.loads(pickle.dumps(faces))
    assert again == faces and isinstance(again, Faces) and again.scheme == SCHEME
    assert again[1]["jaw"].shape == (17, 2)
    face = faces[0]
    changed = face.points.copy()
    changed[7] += 1
    others = [replace(face, points=changed), replace(face, score=0.8), replace(face, id=1), faces[1], "face"]
    assert all(face != other for other in others)
    assert face in again and replace(face, points=changed) not in again


def test_plain_data_for_json(faces):
    plain = json.loads(json.dumps(faces.to_dict()))
    assert plain["faces"] == [json.loads(json.dumps(face.to_dict())) for face in faces]
    assert (plain["scheme"], plain["groups"]["left eye"]) == ("300w", [36, 37, 38, 39, 40, 41])


def test_rows_in_the_columns_of_openface(faces):
    """A row has the numbers of the JSON face, each below its name."""
    header = csv_header(SCHEME)
    assert header[:8] == ["source", "frame", "face_id", "timestamp", "confidence", "success", "x_0", "x_1"]
    assert (header[6 + 68], header[6 + 2 * 68], header[-1]) == ("y_0", "u_0", "u_67")
    rows = csv_rows(faces, "a.mp4", 12, 0.48)
    for number, (row, face) in enumerate(zip(rows, faces, strict=True)):
        named = dict(zip(header, row, strict=True))
        plain = face.to_dict()
        assert [named["source"], named["frame"], named["face_id"], named["timestamp"]] == [
            "a.mp4", 12, number, 0.48,
        ]  # fmt: skip
        assert named["confidence"] == ("" if face.score is None else face.score) and named["success"] == 1
        for k in (0, 30, 67):
            assert [named[f"x_{k}"], named[f"y_{k}"]] == plain["landmarks"][k]
            assert named[f"u_{k}"] == plain["uncertainty"][k]
    assert csv_rows([make_face(track=7)])[0][2] == 7


def test_a_table_as_text_and_as_a_file(faces, tmp_path):
    text = faces.to_csv()
    assert faces.to_csv(tmp_path / "faces.csv") == text == (tmp_path / "faces.csv").read_text()
    first, second = csv.DictReader(io.StringIO(text))
    assert float(first["x_30"]) == pytest.approx(faces[0].points[30, 0], abs=6e-4)
    assert (second["face_id"], second["confidence"]) == ("1", "")
    assert Faces([], SCHEME).to_csv().count("\n") == 1


def test_overlays_of_an_image_or_its_file(faces):
    image = read_image(PHOTO, upright=True)
    before = image.copy()
    drawn = faces.plot(image)
    np.testing.assert_array_equal(image, before)
    np.testing.assert_array_equal(faces.plot(PHOTO), drawn)
    changed = (drawn != image).any(axis=2)
    assert changed[90:200, 40:160].any() and not changed[300:].any()
    assert (faces.plot(image, uncertainty=True) != drawn).any()


def test_an_aligned_crop(faces):
    face = faces[0]
    crop, matrix = face.align(PHOTO, 128)
    assert crop.shape == (128, 128, 3) and crop.any()
    left, right = (transform(face[name].astype(float), matrix).mean(0) for name in ("left eye", "right eye"))
    np.testing.assert_allclose([left, right], [[45.58, 50.7], [81.42, 50.7]], atol=2)
    again, _ = replace(face, scheme=None).align(PHOTO, 128)  # a face made by hand
    assert again.shape == (128, 128, 3)


def test_key_points_of_supervision(faces):
    supervision = pytest.importorskip("supervision")
    found = faces.to_supervision()
    assert isinstance(found, supervision.KeyPoints) and len(found) == 2
    np.testing.assert_array_equal(found.xy, [face.points for face in faces])
    np.testing.assert_array_equal(found.data["box"], [face.box for face in faces])
    image = read_image(PHOTO, upright=True)
    drawn = supervision.VertexAnnotator(radius=2).annotate(image.copy(), found)
    assert (drawn != image).any()
    assert len(found[:1]) == 1 and len(Faces([], SCHEME).to_supervision()) == 0


def test_without_supervision_it_is_said_how_to_get_it(faces, monkeypatch):
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(PoposError, match="needs supervision") as caught:
        faces.to_supervision()
    assert caught.value.hint == "Run: pip install supervision"
