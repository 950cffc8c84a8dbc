"""300W's folders of .pts files: 1-based, one name in two folders, names with spaces, copies, mirrors."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from trees.common import assert_faces
from trees.w300 import (
    GREY,
    OUTSIDE,
    PALETTE,
    PICTURES,
    TURNED,
    build_w300,
    build_w300_archives,
    pts,
    w300_truth,
)  # fmt: skip

from popos_cli.data.pictures import read_image
from popos_cli.home import extracted_folder
from popos_cli.prepare import w300
from popos_cli.prepare.archives import unpack_missing
from popos_cli.prepare.assemble import build_index, find_labels
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


def test_labels_are_the_truth(tmp_path, truth):
    labels = read(tmp_path)
    assert (labels.kind, labels.base, labels.crop, labels.bad) == ("raw", 1, "tight", [])
    assert_faces(labels.faces, truth)
    assert all(face.square is None and face.rect is None for face in labels.faces)
    found = {}
    for face in labels.faces:
        found.setdefault(face.split, {}).setdefault(face.part, set()).add(face.image.name)
    assert found == {
        split: {part: set(names) for part, names in parts.items()} for split, parts in PICTURES.items()
    }
    sources = [face.source for face in labels.faces]
    assert "lfpw/trainset/image_0198.pts" in sources and "lfpw/testset/image_0198.pts" in sources
    assert "01_Indoor/indoor_001.pts" in sources and "ibug/image_092 _01.pts" in sources


def test_each_face_lies_on_its_own_picture(tmp_path, truth):
    """By the file and its size: one name in two folders, one stem twice in a folder, a space, EXIF."""
    labels = read(tmp_path)
    expected = {tmp_path / path: face for path, face in zip(paths(truth), truth, strict=True)}
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


def test_the_traps_are_in_the_files(tmp_path, truth):
    """Grey, palette, a point outside, and two blanks in most heads."""
    from PIL import Image

    assert Image.open(tmp_path / GREY).mode == "L"
    assert all(
        Image.open(p).mode == "P" for name in PALETTE for p in tmp_path.rglob(name) if "crop" not in str(p)
    )
    outside = by_source(read(tmp_path))[OUTSIDE.replace("jpg", "pts")]
    assert outside.points[:, 0].max() > read_image(outside.image, upright=False).shape[1]
    assert (tmp_path / "ibug/image_092.pts").read_bytes().startswith(b"version: 1\nn_points:  68\n{\n")
    private = (tmp_path / "300W/02_Outdoor/outdoor_001.pts").read_bytes()
    assert private.startswith(b"version: 1\nn_points: 68\n{\n") and private.count(b"\n") == 72
    assert (tmp_path / "afw/1051618982_1.pts").read_bytes().startswith(b"version: 1.0 \r\n")


def test_copies_mirrors_and_the_cropped_set_are_left_out_and_said(tmp_path, truth):
    remarks = read(tmp_path).remarks
    assert len(remarks) == 2
    assert remarks[0].startswith(f"{tmp_path / 'ibug'}: 2 .pts files were left out (image_003_1_mirror.pts)")
    assert "300w_cropped" in remarks[1]


def test_only_the_cropped_private_set(tmp_path, truth):
    shutil.rmtree(tmp_path / "300W")
    labels = read(tmp_path)
    assert not any(face.split == "private" for face in labels.faces)
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


def test_a_missing_picture_is_named_where_it_should_be(tmp_path, truth):
    (tmp_path / "ibug/image_092 _01.jpg").unlink()
    (tmp_path / "lfpw/testset/image_0198.png").unlink()
    labels = read(tmp_path)
    assert_faces(labels.faces, truth)
    missing = {face.image for face in labels.faces if not face.image.is_file()}
    assert missing == {tmp_path / "ibug/image_092 _01.jpg", tmp_path / "lfpw/testset/image_0198.png"}


def test_another_ending_is_found(tmp_path, truth):
    (tmp_path / "afw/134212_1.jpg").rename(tmp_path / "afw/134212_1.JPEG")
    assert by_source(read(tmp_path))["afw/134212_1.pts"].image == tmp_path / "afw/134212_1.JPEG"


@pytest.mark.parametrize(
    "edit, where, reason",
    [
        (lambda lines: lines[:10] + ["12.5 abc"] + lines[11:], ":11", "'abc' is not a number"),
        (lambda lines: lines[:10] + ["nan 3.0"] + lines[11:], ":11", "'nan' is NaN or infinite"),
        (lambda lines: lines[:10] + ["1.0"] + lines[11:], ":11", "1 values instead of x and y"),
        (lambda lines: lines[:10] + ["1.0 2.0 3.0"] + lines[11:], ":11", "3 values"),
        (lambda lines: lines[:10] + lines[11:], "", "67 points instead of 68"),
        (lambda lines: lines[:10] + lines[9:], "", "69 points instead of 68"),
        (lambda lines: lines[:50], "", "no { } block"),
        (lambda lines: [], "", "no { } block"),
        (lambda lines: lines[:3] + ["5.0 5.0"] * 68 + ["}"], "", "its points coincide"),
        (lambda lines: ["\u00e9\udcff"], "", "cannot be read"),
    ],
)
def test_malformed(tmp_path, truth, edit, where, reason):
    path = tmp_path / "helen/trainset/100032540_1.pts"
    lines = edit(path.read_text().splitlines())
    path.write_text("\n".join(lines) + "\n", errors="surrogateescape")
    labels = read(tmp_path)
    (bad,) = labels.bad
    assert bad.source == f"helen/trainset/100032540_1.pts{where}"
    assert reason in bad.reason
    assert len(labels.faces) == len(truth) - 1


def test_nothing_of_300w(tmp_path):
    (tmp_path / "afw").mkdir()
    (tmp_path / "afw/1.jpg").write_bytes(b"")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/1.pts").write_bytes(pts(w300_truth()[0].points))
    assert read(tmp_path) is None


def test_part_of_it_is_read(tmp_path, truth):
    for name in ("helen", "lfpw", "afw", "300W"):
        shutil.rmtree(tmp_path / name)
    labels = read(tmp_path)
    assert_faces(labels.faces, [face for face in truth if face.image.startswith("ibug")])
    assert {face.subsets for face in labels.faces} == {("challenging",)}


def test_archives(tmp_path, monkeypatch):
    monkeypatch.setenv("POPOS_HOME", str(tmp_path / "home"))
    truth = build_w300_archives(tmp_path / "raw")
    told = []
    tree = unpack_missing(w300.ARCHIVES, Tree.below(tmp_path / "raw"), extracted_folder("300w"), told.append)
    assert told == ["afw.zip", "helen.zip", "ibug.zip", "lfpw.zip", "300w.zip"]
    labels = w300.read_raw(tree)
    assert_faces(labels.faces, truth)
    assert all(face.image.is_file() for face in labels.faces)


def test_what_lies_unpacked_is_not_unpacked_again(tmp_path, monkeypatch, truth):
    monkeypatch.setenv("POPOS_HOME", str(tmp_path / "home"))
    build_w300_archives(tmp_path)
    shutil.rmtree(tmp_path / "helen/testset")
    told = []
    unpack_missing(w300.ARCHIVES, Tree.below(tmp_path), extracted_folder("300w"), told.append)
    assert told == ["helen.zip"]


def test_the_index_counts_stored_pixels(tmp_path, monkeypatch, truth):
    """Sizes without EXIF rotation, squares by the tight rule in the points' own frame."""
    monkeypatch.setenv("POPOS_HOME", str(tmp_path / "home"))
    labels, counts = find_labels("300w", tmp_path)
    assert {line.name: line.found for line in counts if line.depth == 0} == {
        "train": 6,
        "test": 6,
        "private": 4,
    }
    index, undecodable, *_ = build_index("300w", labels, name="300w", skip_bad=False, partial=True)
    assert not undecodable
    size = {image: tuple(size) for image, size in zip(index.image.tolist(), index.size.tolist(), strict=True)}
    for path, face in zip(paths(truth), truth, strict=True):
        assert size[path] == face.picture.shape[1::-1]
    low = np.floor(index.points.min(1))
    high = np.ceil(index.points.max(1))
    np.testing.assert_array_equal(index.center, (low + high) / 2)
    np.testing.assert_array_equal(index.side, (high - low).max(1))
    assert index.outside().any(1).sum() == 1
