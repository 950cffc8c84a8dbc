"""COCO-WholeBody's JSON, streamed: which annotations are faces, and where their pictures lie."""

from __future__ import annotations

import json
import tracemalloc

import cv2
import numpy as np
import pytest
from trees.coco import GREY, OUTSIDE, TURNED, WORDS, build_coco
from trees.common import assert_faces

from popos_cli.data.pictures import read_image
from popos_cli.errors import PoposError
from popos_cli.prepare import coco_face
from popos_cli.prepare.tree import Tree


@pytest.fixture
def truth(tmp_path):
    return build_coco(tmp_path)


def read(folder):
    return coco_face.read_raw(Tree.below(folder))


def label_file(folder, word="val"):
    return folder / f"annotations/coco_wholebody_{word}_v1.0.json"


def change(folder, edit):
    """Write the JSON of val anew; `edit` changes or returns the document."""
    document = json.loads(label_file(folder).read_text())
    label_file(folder).write_text(json.dumps(edit(document) or document))


def test_points_and_sources(tmp_path, truth):
    annotations = {}
    for word in WORDS.values():
        path = label_file(tmp_path, word)
        for annotation in json.loads(path.read_text())["annotations"]:
            annotations[f"{path.name}#{annotation['id']}"] = annotation
    faces = read(tmp_path).faces
    for face in faces:
        assert annotations[face.source]["face_box"] == face.rect.tolist()
        assert np.isnan(face.points[face.visible == 0]).all()
    assert sum((face.visible == 0).any() for face in faces) == 2
    assert next(f for f in faces if int(f.image.stem) == OUTSIDE).points[:, 0].min() < -1


def test_pictures_hold_the_stored_pixels(tmp_path, truth):
    """An EXIF orientation does not turn a picture away from its labels."""
    for face, true in zip(read(tmp_path).faces, truth, strict=True):
        picture = read_image(face.image, upright=False)[..., ::-1]
        assert np.abs(picture.astype(float) - true.picture).mean() < 6
        if int(face.image.stem) == TURNED:
            assert read_image(face.image, upright=True).shape[:2] == true.picture.shape[1::-1]
        if int(face.image.stem) == GREY:
            assert cv2.imread(str(face.image), cv2.IMREAD_UNCHANGED).ndim == 2


def test_pictures_are_found_in_a_nested_folder(tmp_path, truth):
    (tmp_path / "val2017").rename(tmp_path / "inner")
    (tmp_path / "images/val2017").mkdir(parents=True)
    (tmp_path / "inner").rename(tmp_path / "images/val2017/val2017")
    assert all(face.image.is_file() for face in read(tmp_path).faces)


@pytest.mark.parametrize(
    "order", [["annotations", "images", "info"], ["images", "annotations"], ["annotations"]]
)
def test_keys_in_any_order_and_images_left_out(tmp_path, truth, order):
    change(tmp_path, lambda document: {key: document[key] for key in order})
    assert_faces(read(tmp_path).faces, truth)


def test_images_give_the_names(tmp_path, truth):
    """Those of a subset that somebody renamed; a folder in front does not matter."""

    def rename(document):
        for image in document["images"]:
            image["file_name"] = f"val2017/photo_{image['id']}.jpg"

    change(tmp_path, rename)
    names = {face.image.name for face in read(tmp_path).faces if face.split == "test"}
    assert names == {f"photo_{image}.jpg" for image in (139, 285, 632, 724)}


def first(**values):
    def edit(document):
        document["annotations"][0].update(values)

    return edit


def test_what_is_wrong_with_no_face_does_not_matter(tmp_path, truth):
    change(tmp_path, first(face_valid=False, face_kpts=[1.0], face_box=None))
    labels = read(tmp_path)
    assert not labels.bad and len(labels.faces) == len(truth) - 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (lambda text: text[: len(text) // 2], "not JSON near byte"),
        (lambda text: text.replace("[", "[,", 1), "not JSON near byte"),
        (lambda text: "<!doctype html>", "not JSON near byte"),
        (lambda text: "", "not JSON"),
        (lambda text: text.replace('"annotations"', '"persons"'), "no annotations"),
        (lambda text: text.replace('"face_kpts"', '"face"'), "no face_kpts"),
        (lambda text: "[]", "no annotations"),
    ],
)
def test_a_file_that_is_not_coco_is_named(tmp_path, truth, text, message):
    path = label_file(tmp_path)
    path.write_text(text(path.read_text()))
    with pytest.raises(PoposError, match=message) as caught:
        read(tmp_path)
    assert str(path) in caught.value.message and caught.value.hint
    assert "\n" not in caught.value.message


def test_memory_is_that_of_the_faces_not_of_the_file(tmp_path, truth):
    """The training file has 3.2 GB, most of it of people without a face."""
    document = json.loads(label_file(tmp_path).read_text())
    people = [one for one in document["annotations"] if not one["face_valid"]]
    document["annotations"] += people * (20_000_000 // len(json.dumps(people)))
    label_file(tmp_path).write_text(json.dumps(document))
    tracemalloc.start()
    try:
        faces = read(tmp_path).faces
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(faces) == len(truth) and peak < 2_000_000
