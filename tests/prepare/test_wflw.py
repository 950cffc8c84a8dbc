"""WFLW's lists: 207 fields a line, several faces a picture, subsets by attribute."""

from __future__ import annotations

import shutil

import pytest
from trees.common import assert_faces
from trees.wflw import OUTSIDE, PHOTOS, SUBSETS, build_wflw

from popos_cli.errors import PoposError
from popos_cli.prepare import wflw
from popos_cli.prepare.assemble import assemble
from popos_cli.prepare.benchmarks import find_benchmark
from popos_cli.prepare.tree import Tree

ATTRIBUTES = "WFLW_annotations/list_98pt_rect_attr_train_test"
LISTS = "WFLW_annotations/list_98pt_test"
TRAIN = f"{ATTRIBUTES}/list_98pt_rect_attr_train.txt"


@pytest.fixture
def truth(tmp_path):
    return build_wflw(tmp_path)


def read(folder):
    return wflw.read_raw(Tree.below(folder))


def test_subsets_are_the_tests_alone_and_overlap(tmp_path, truth):
    faces = read(tmp_path).faces
    assert not any(face.subsets for face in faces if face.split == "train")
    test = [face.subsets for face in faces if face.split == "test"]
    assert {subset for subsets in test for subset in subsets} == set(SUBSETS)
    assert {len(subsets) for subsets in test} == {0, 1, 2}


def test_points_outside_their_picture_are_kept(tmp_path, monkeypatch, truth):
    monkeypatch.setenv("POPOS_HOME", str(tmp_path / "home"))
    index = assemble("wflw", find_benchmark("wflw", tmp_path, True, print), "stored").index
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


def test_without_pictures_they_are_named_where_they_should_be(tmp_path, truth):
    shutil.rmtree(tmp_path / "WFLW_images")
    assert all(face.image.is_relative_to(tmp_path / "WFLW_images") for face in read(tmp_path).faces)


def test_a_list_that_is_no_text(tmp_path, truth):
    (tmp_path / TRAIN).write_bytes(b"\x1f\x8b\xff\x00")
    with pytest.raises(PoposError, match=r"list_98pt_rect_attr_train\.txt: cannot be read as text"):
        read(tmp_path)


def test_part_of_it(tmp_path, truth):
    (tmp_path / TRAIN).unlink()
    assert_faces(read(tmp_path).faces, [face for face in truth if face.split == "test"])
    shutil.rmtree(tmp_path / "WFLW_annotations")
    assert read(tmp_path) is None
