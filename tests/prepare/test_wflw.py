"""WFLW's lists: 207 or 197 fields a line, several faces a picture, subsets by attribute or by list."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from trees.common import assert_faces
from trees.wflw import OUTSIDE, PHOTOS, SUBSETS, build_wflw, build_wflw_archives, line

from popos_cli.errors import PoposError
from popos_cli.home import extracted_folder
from popos_cli.prepare import wflw
from popos_cli.prepare.archives import unpack_missing
from popos_cli.prepare.assemble import build_index, find_labels
from popos_cli.prepare.tree import Tree

ATTRIBUTES = "WFLW_annotations/list_98pt_rect_attr_train_test"
LISTS = "WFLW_annotations/list_98pt_test"
TRAIN = f"{ATTRIBUTES}/list_98pt_rect_attr_train.txt"


@pytest.fixture
def truth(tmp_path):
    return build_wflw(tmp_path)


@pytest.fixture
def plain(tmp_path, truth):
    """The folder where the test faces are in the lists without attributes alone."""
    (tmp_path / f"{ATTRIBUTES}/list_98pt_rect_attr_test.txt").unlink()
    return tmp_path


def read(folder):
    return wflw.read_raw(Tree.below(folder))


def test_labels_are_the_truth(tmp_path, truth):
    labels = read(tmp_path)
    assert (labels.kind, labels.base, labels.crop, labels.bad) == ("raw", 0, "tight", [])
    assert_faces(labels.faces, truth)
    rects = {face.points.tobytes(): face.rect for face in truth}
    for face in labels.faces:
        assert face.square is None
        np.testing.assert_array_equal(face.rect, rects[face.points.tobytes()])
    first = next(face for face in labels.faces if face.split == "test")
    assert first.source == "list_98pt_rect_attr_test.txt:1"


def test_several_faces_of_one_picture(tmp_path, truth):
    counts = {}
    for face in read(tmp_path).faces:
        assert face.image.is_file()
        name = face.image.relative_to(tmp_path / "WFLW_images").as_posix()
        counts[name] = counts.get(name, 0) + 1
    assert counts == {n: len(f) for photos in PHOTOS.values() for n, f in photos.items()}


def test_subsets_are_the_tests_alone_and_overlap(tmp_path, truth):
    faces = read(tmp_path).faces
    assert not any(face.subsets for face in faces if face.split == "train")
    test = [face.subsets for face in faces if face.split == "test"]
    assert {subset for subsets in test for subset in subsets} == set(SUBSETS)
    assert {len(subsets) for subsets in test} == {0, 1, 2}


def test_the_lists_of_the_subsets_say_the_same_as_the_attributes(plain, truth):
    """Two faces of one picture begin with the same number, and only one is in a subset."""
    labels = read(plain)
    assert not labels.bad
    assert_faces(labels.faces, truth)
    assert {face.rect is None for face in labels.faces if face.split == "test"} == {True}
    twins = [face for face in labels.faces if "7_426" in face.image.name]
    same = {}
    for face in twins:
        same.setdefault(face.points[0, 0], []).append(face.subsets)
    assert sorted(map(len, same.values())) == [1, 2]


def test_a_subset_without_its_list_is_empty(plain, truth):
    (plain / f"{LISTS}/list_98pt_test_blur.txt").unlink()
    labels = read(plain)
    assert not labels.bad
    assert {s for face in labels.faces for s in face.subsets} == set(SUBSETS) - {"blur"}


def test_a_face_that_is_in_a_subset_but_not_in_the_test(plain, truth):
    path = plain / f"{LISTS}/list_98pt_test_blur.txt"
    stranger = line(next(face for face in truth if face.split == "train"))
    path.write_text(path.read_text() + stranger)
    (bad,) = read(plain).bad
    assert bad.source == "list_98pt_test_blur.txt:3"
    assert "not in list_98pt_test.txt" in bad.reason


def test_points_outside_their_picture_are_kept(tmp_path, monkeypatch, truth):
    monkeypatch.setenv("POPOS_HOME", str(tmp_path / "home"))
    labels, _ = find_labels("wflw", tmp_path)
    index, *_ = build_index("wflw", labels, name="wflw", skip_bad=False, partial=True)
    outside = index.outside().any(1)
    assert {image for image, out in zip(index.image.tolist(), outside, strict=True) if out} == set(OUTSIDE)
    assert (index.points[outside].min(axis=(1, 2)) < -0.5).all()
    assert len(index) == len(truth) and len(set(index.image.tolist())) == sum(map(len, PHOTOS.values()))


@pytest.mark.parametrize("layout", ["WFLW_images/WFLW_images", "wflw/images", "down/wflw_IMAGES", "anything"])
def test_where_the_pictures_lie(tmp_path, truth, layout):
    (tmp_path / "WFLW_images").rename(tmp_path / "aside")
    (tmp_path / layout).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "aside").rename(tmp_path / layout)
    other = tmp_path / "WIDER_train/images/0--Parade"  # where WFLW's pictures come from
    other.mkdir(parents=True)
    (other / "0_Parade_marchingband_1_1015.jpg").write_bytes(b"")
    for face in read(tmp_path).faces:
        assert face.image.is_relative_to(tmp_path / layout) and face.image.is_file()


def test_of_two_copies_the_one_of_that_name_is_taken(tmp_path, truth):
    shutil.copytree(tmp_path / "WFLW_images", tmp_path / "a")
    (tmp_path / "deep").mkdir()
    (tmp_path / "WFLW_images").rename(tmp_path / "deep/WFLW_images")
    assert all(face.image.is_relative_to(tmp_path / "deep") for face in read(tmp_path).faces)


def test_missing_pictures_are_named_where_they_should_be(tmp_path, truth):
    gone = "7--Cheering/7_Cheering_Cheering_7_426.jpg"
    (tmp_path / "WFLW_images" / gone).unlink()
    missing = [face.image for face in read(tmp_path).faces if not face.image.is_file()]
    assert missing == [tmp_path / "WFLW_images" / gone] * 3
    shutil.rmtree(tmp_path / "WFLW_images")
    assert all(face.image.is_relative_to(tmp_path / "WFLW_images") for face in read(tmp_path).faces)


@pytest.mark.parametrize(
    "edit, reason",
    [
        (lambda cells: cells[1:], "206 fields instead of 207"),
        (lambda cells: [*cells[:-1], "a", "b.jpg"], "208 fields instead of 207"),
        (lambda cells: [*cells[:5], "x7", *cells[6:]], "column 6: 'x7' is not a number"),
        (lambda cells: [*cells[:5], "inf", *cells[6:]], "column 6: 'inf' is NaN or infinite"),
        (lambda cells: [*cells[:201], "2", *cells[202:]], "not each 0 or 1"),
        (lambda cells: ["5.0"] * 196 + cells[196:], "its points coincide"),
        (lambda cells: [*cells[:-1], "../../secret.jpg"], "not the name of a picture"),
        (lambda cells: [*cells[:-1], "/etc/passwd"], "not the name of a picture"),
    ],
)
def test_malformed_lines(tmp_path, truth, edit, reason):
    path = tmp_path / TRAIN
    lines = path.read_text().splitlines()
    lines[2] = " ".join(edit(lines[2].split()))
    path.write_text("\r\n".join([*lines, "", ""]))
    labels = read(tmp_path)
    (bad,) = labels.bad
    assert bad.source == "list_98pt_rect_attr_train.txt:3"
    assert reason in bad.reason
    assert len(labels.faces) == len(truth) - 1


def test_a_list_that_is_no_text(tmp_path, truth):
    (tmp_path / TRAIN).write_bytes(b"\x1f\x8b\xff\x00")
    with pytest.raises(PoposError, match=r"list_98pt_rect_attr_train\.txt: cannot be read as text"):
        read(tmp_path)


def test_part_of_it(tmp_path, truth):
    (tmp_path / TRAIN).unlink()
    assert_faces(read(tmp_path).faces, [face for face in truth if face.split == "test"])
    shutil.rmtree(tmp_path / "WFLW_annotations")
    assert read(tmp_path) is None


def test_archives(tmp_path, monkeypatch):
    monkeypatch.setenv("POPOS_HOME", str(tmp_path / "home"))
    truth = build_wflw_archives(tmp_path / "raw")
    told = []
    tree = unpack_missing(wflw.ARCHIVES, Tree.below(tmp_path / "raw"), extracted_folder("wflw"), told.append)
    assert told == ["WFLW_annotations.tar.gz", "WFLW_images.tar.gz"]
    labels = wflw.read_raw(tree)
    assert_faces(labels.faces, truth)
    assert all(face.image.is_file() for face in labels.faces)


def test_what_lies_unpacked_is_not_unpacked_again(tmp_path, monkeypatch, truth):
    monkeypatch.setenv("POPOS_HOME", str(tmp_path / "home"))
    build_wflw_archives(tmp_path)
    (tmp_path / TRAIN).unlink()
    told = []
    unpack_missing(wflw.ARCHIVES, Tree.below(tmp_path), extracted_folder("wflw"), told.append)
    assert told == ["WFLW_annotations.tar.gz"]
