"""COCO keypoints of schemes and faces that no bundled weights give, and names of pictures."""

import json
import os
from pathlib import Path, PurePath

import numpy as np
import pytest

from popos_cli.core.schemes import Scheme
from popos_cli.predict.coco_file import CocoFile, file_name
from popos_cli.predict.face import Face, Faces
from popos_cli.predict.frames import Frame, PictureFile
from popos_cli.predict.pipeline import Result
from popos_cli.prepare.custom import find_own
from popos_cli.prepare.options import PrepareOptions

HEAD = {"weights": "w", "scheme": "own", "groups": {}}


def face(points):
    ones = np.ones(len(points), np.float32)
    return Face(np.array([1, 2, 30, 40], np.float32), None, np.float32(points), ones, ones / 2)


def write(path, scheme, *pictures):
    """A file of (name, faces) pairs."""
    file = CocoFile(path, HEAD, scheme)
    for name, faces in pictures:
        source = PictureFile(Path(name), PurePath(name))
        frame = Frame(name, 0, None, np.zeros((40, 60, 3), np.uint8))
        file.write(Result(source, frame, Faces(faces, scheme)))
    file.close()


@pytest.mark.parametrize("groups", [{"eye": (3, 1), "tip": (0,)}, {}], ids=["some named", "none named"])
def test_landmarks_without_a_name_come_back(tmp_path, groups):
    scheme = Scheme("own", 5, groups)
    points = np.random.default_rng(0).uniform(0, 40, (2, 5, 2))
    write(tmp_path / "own.json", scheme, (str(tmp_path / "a.png"), map(face, points)))
    (tmp_path / "a.png").touch()
    source = find_own(tmp_path / "own.json", scheme, PrepareOptions())
    assert source.scheme == scheme and not source.labels.bad and source.labels.base == 0
    found = [label.points for label in source.labels.faces]
    np.testing.assert_allclose(found, points, atol=0.001)


def test_a_score_that_is_not_known_is_left_out(tmp_path):
    write(tmp_path / "own.json", Scheme("own", 2), ("a.png", [face([[1, 2], [3, 5]])]))
    (annotation,) = json.loads((tmp_path / "own.json").read_text())["annotations"]
    assert annotation == {
        "id": 1, "image_id": 1, "category_id": 1, "keypoints": [1, 2, 2, 3, 5, 2], "num_keypoints": 2,
        "bbox": [1, 2, 2, 3], "area": 6, "iscrowd": 0, "segmentation": [],
    }  # fmt: skip


def test_no_picture_no_file(tmp_path):
    write(tmp_path / "new/own.json", Scheme("own", 2))
    assert list((tmp_path / "new").iterdir()) == []
    write(tmp_path / "own.json", Scheme("own", 2), ("a.png", []), ("b.png", []))
    document = json.loads((tmp_path / "own.json").read_text())
    assert [image["id"] for image in document["images"]] == [1, 2] and document["annotations"] == []


def test_pictures_are_named_from_the_files_folder(tmp_path, monkeypatch):
    (tmp_path / "real/sub").mkdir(parents=True)
    (tmp_path / "real/sub/a.jpg").touch()
    os.symlink(tmp_path / "real/sub/a.jpg", tmp_path / "real/link.jpg")
    os.symlink(tmp_path / "real/sub", tmp_path / "linked")
    monkeypatch.chdir(tmp_path / "real")
    assert file_name("sub/a.jpg", Path(".")) == "sub/a.jpg"
    assert file_name("link.jpg", tmp_path / "real") == "link.jpg"  # not where it points to
    assert file_name("sub/a.jpg", Path("other")) == "../sub/a.jpg"
    assert file_name("link.jpg", tmp_path / "linked") == "a.jpg"
