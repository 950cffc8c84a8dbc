"""predict --coco: valid COCO keypoints, which come back by prepare-data as the points that were found."""

from __future__ import annotations

import json
import shutil

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from turns import TURNS, saved

from popos_cli.core.schemes import SCHEMES
from popos_cli.data.index import read_index


@pytest.fixture
def photos(tmp_path, astronaut, hopper, empty_picture):
    """Both photos, one of them in a sub-folder, a picture of nobody, and a torn one."""
    folder = tmp_path / "photos"
    (folder / "navy").mkdir(parents=True)
    shutil.copy(astronaut, folder / "a.jpg")
    shutil.copy(hopper, folder / "navy/ä b.jpg")
    shutil.copy(empty_picture, folder / "nobody.jpg")
    (folder / "torn.jpg").write_bytes(astronaut.read_bytes()[:3000])
    return folder


def predict(popos, photos, file):
    """The exit code is 1, for the torn picture."""
    result = popos("predict", photos, "--coco", file, "--weights", "small", "--no-turn", "--json")
    assert result.code == 1 and len(result.errors) == 1
    return {image["source"]: image for image in result.json["images"]}


def assert_come_back(popos, labels, found, *flags):
    """prepare-data gives the points that were printed."""
    popos("prepare-data", "custom", labels, "--name", "back", *flags).ok()
    index = read_index("back")
    assert index.scheme == SCHEMES["300w"]
    points = {
        str((index.root / name).resolve()): face for name, face in zip(index.image, index.points, strict=True)
    }
    assert points.keys() == found.keys() and len(found) == 2
    for name, expected in found.items():
        np.testing.assert_allclose(points[name], expected, atol=0.01, rtol=0)
    assert (index.visible == 2).all()


def faces_of(images):
    return {name: image["faces"][0]["landmarks"] for name, image in images.items() if image["faces"]}


def test_predictions_come_back_as_labels(popos, photos):
    images = predict(popos, photos, photos / "faces.json")
    assert_come_back(popos, photos, faces_of(images))


def test_a_file_beside_the_pictures_folder(popos, photos, tmp_path):
    images = predict(popos, photos, tmp_path / "labels/faces.json")
    names = [
        image["file_name"] for image in json.loads((tmp_path / "labels/faces.json").read_text())["images"]
    ]
    assert names == ["../photos/a.jpg", "../photos/navy/ä b.jpg", "../photos/nobody.jpg"]
    assert_come_back(popos, tmp_path / "labels/faces.json", faces_of(images))


def test_photos_that_exif_turns(popos, tmp_path, astronaut, hopper):
    for name, photo, orientation in (("a.png", astronaut, 6), ("b.png", hopper, 3)):
        upright = cv2.imread(str(photo))[..., ::-1]
        inverse = {6: 8, 3: 3}[orientation]
        (tmp_path / "photos").mkdir(exist_ok=True)
        stored = np.ascontiguousarray(TURNS[inverse](upright))
        (tmp_path / "photos" / name).write_bytes(saved(stored, orientation, "png"))
    file = tmp_path / "photos/faces.json"
    document = popos("predict", tmp_path / "photos", "--coco", file, "--weights", "small", "--json").ok().json
    found = {image["source"]: image["faces"][0]["landmarks"] for image in document["images"]}
    assert_come_back(popos, file, found, "--orientation", "upright")


def test_it_is_valid_coco(popos, photos, capsys):
    found = predict(popos, photos, photos / "faces.json")
    coco = COCO(str(photos / "faces.json"))
    assert [image["file_name"] for image in coco.loadImgs([1, 2, 3])] == [
        "a.jpg",
        "navy/ä b.jpg",
        "nobody.jpg",
    ]
    assert [(image["width"], image["height"]) for image in coco.loadImgs([1, 3])] == [(512, 512), (200, 160)]
    assert coco.getAnnIds(imgIds=3) == []
    (category,) = coco.loadCats(coco.getCatIds())
    assert category["keypoints"][8] == "jaw 8" and len(set(category["keypoints"])) == 68
    assert [37, 38] in category["skeleton"] and np.min(category["skeleton"]) == 1
    for annotation, face in zip(coco.loadAnns(coco.getAnnIds()), faces_of(found).values(), strict=True):
        x, y, width, height = annotation["bbox"]
        np.testing.assert_allclose([x, y], np.min(face, axis=0), atol=1e-3)
        np.testing.assert_allclose([width, height], np.ptp(face, axis=0), atol=2e-3)
        assert annotation["num_keypoints"] == 68 and 0.9 < annotation["score"] <= 1
    evaluation = COCOeval(coco, coco.loadRes(coco.loadAnns(coco.getAnnIds())), "keypoints")
    evaluation.params.kpt_oks_sigmas = np.full(68, 0.05)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == 1


def test_corrections_are_never_replaced(popos, photos, tmp_path):
    (tmp_path / "faces.json").write_text("corrected")
    result = popos("predict", photos, "--coco", "faces.json")
    assert result.code == 1 and "exists already" in result.errors[0]
    assert (tmp_path / "faces.json").read_text() == "corrected"
