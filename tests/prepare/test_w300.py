"""300W's folders of .pts files: 1-based, one name in two folders, names with spaces, copies, mirrors."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from PIL import Image
from trees.common import assert_faces
from trees.w300 import GREY, OUTSIDE, PALETTE, PICTURES, TURNED, build_w300

from popos_cli.data.pictures import read_image
from popos_cli.prepare import w300
from popos_cli.prepare.tree import Tree


@pytest.fixture
def truth(tmp_path):
    return build_w300(tmp_path)


def read(folder):
    return w300.read_raw(Tree.below(folder))


def by_source(labels):
    return {face.source: face for face in labels.faces}


def paths(truth):
    """Where the raw download has the faces' pictures."""
    odd = {"ibug/image_092_01.jpg": "ibug/image_092 _01.jpg"}
    return [odd.get(face.image, face.image.replace("Test/", "300W/")) for face in truth]


def test_folders_of_the_download(tmp_path, truth):
    """lfpw has one name in both of its folders; copies, mirrors and the cropped set are left out."""
    labels = read(tmp_path)
    found = {}
    for face in labels.faces:
        assert face.square is None and face.rect is None
        found.setdefault(face.split, {}).setdefault(face.part, set()).add(face.image.name)
    assert found == {
        split: {part: set(names) for part, names in parts.items()} for split, parts in PICTURES.items()
    }
    assert {"lfpw/trainset/image_0198.pts", "lfpw/testset/image_0198.pts"} <= by_source(labels).keys()
    copies, cropped = labels.remarks
    assert copies.startswith(f"{tmp_path / 'ibug'}: 2 .pts files were left out (image_003_1_mirror.pts)")
    assert "300w_cropped" in cropped


def test_each_face_lies_on_its_own_picture(tmp_path, truth):
    """By the file and its pixels: one name in two folders, one stem twice in a folder, a space, EXIF."""
    expected = {tmp_path / path: face for path, face in zip(paths(truth), truth, strict=True)}
    labels = read(tmp_path)
    assert {face.image for face in labels.faces} == set(expected)
    for face in labels.faces:
        true = expected[face.image]
        np.testing.assert_allclose(face.points, true.points, atol=1e-6, rtol=0)
        picture = read_image(face.image, upright=False)
        assert picture.shape == true.picture.shape
        if face.image.suffix == ".png":
            np.testing.assert_array_equal(picture, true.picture[..., ::-1])
    turned = read_image(tmp_path / TURNED, upright=True).shape
    assert turned != read_image(tmp_path / TURNED, upright=False).shape
    assert Image.open(tmp_path / GREY).mode == "L" and Image.open(tmp_path / PALETTE[0]).mode == "P"
    outside = by_source(labels)[OUTSIDE.replace("jpg", "pts")]
    assert outside.points[:, 0].max() > read_image(outside.image, upright=False).shape[1]


def test_only_the_cropped_private_set(tmp_path, truth):
    shutil.rmtree(tmp_path / "300W")
    assert not any(face.split == "private" for face in read(tmp_path).faces)
    assert read(tmp_path / "300w_cropped") is None


def test_other_layouts(tmp_path):
    """Nested folders, other capitals, CFSS' and mmpose's names, pictures once more without labels."""
    truth = build_w300(tmp_path / "built")
    built, raw = tmp_path / "built", tmp_path / "raw"
    for old, new in {
        "afw": "AFW68", "helen": "deep/down/HELEN", "ibug": "ibug/ibug", "lfpw/trainset": "x/LFPW/TrainSet",
        "lfpw/testset": "y/lfpw/testset", "300W": "Test",
    }.items():  # fmt: skip
        (raw / new).parent.mkdir(parents=True, exist_ok=True)
        (built / old).rename(raw / new)
    (raw / "afw").mkdir()
    shutil.copy(raw / "AFW68/134212_1.jpg", raw / "afw")
    labels = read(raw)
    assert_faces(labels.faces, truth)
    assert all(face.image.is_file() for face in labels.faces)


def test_of_two_copies_the_fuller_one_is_read(tmp_path, truth):
    """Whichever is shallower; of equals the shallower."""
    shutil.copytree(tmp_path / "ibug", tmp_path / "backup/ibug")
    assert {face.image.parent for face in read(tmp_path).faces if face.part == "ibug"} == {tmp_path / "ibug"}
    (tmp_path / "ibug/image_092.pts").unlink()
    labels = read(tmp_path)
    assert {face.image.parent for face in labels.faces if face.part == "ibug"} == {tmp_path / "backup/ibug"}
    assert_faces(labels.faces, truth)


def test_another_ending_is_found(tmp_path, truth):
    (tmp_path / "afw/134212_1.jpg").rename(tmp_path / "afw/134212_1.JPEG")
    assert by_source(read(tmp_path))["afw/134212_1.pts"].image == tmp_path / "afw/134212_1.JPEG"
