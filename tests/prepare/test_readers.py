"""What every benchmark's reader does with its official download."""

from __future__ import annotations

import shutil

import pytest
from trees.common import assert_faces
from trees.sources import build

from popos_cli.data.pictures import read_image
from popos_cli.home import extracted_folder
from popos_cli.prepare.archives import unpack_missing
from popos_cli.prepare.benchmarks import BENCHMARKS
from popos_cli.prepare.tree import Tree

# Base of the labels, a source, and the archives.
DOWNLOADS = {
    "300w": (
        1, "ibug/image_092 _01.pts", ["afw.zip", "helen.zip", "ibug.zip", "lfpw.zip", "300w.zip"]
    ),
    "wflw": (
        0, "list_98pt_rect_attr_test.txt:1", ["WFLW_annotations.tar.gz", "WFLW_images.tar.gz"]
    ),
    "cofw": (1, "COFW_test_color.mat:1", ["COFW_color.zip"]),
    "aflw": (0, "AFLWinfo_release.mat:16", [f"aflw-images-{n}.tar.gz" for n in "023"]),
    "coco-face": (0, "coco_wholebody_val_v1.0.json#425226", ["train2017.zip", "val2017.zip"]),
}  # fmt: skip


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch):
    monkeypatch.setenv("POPOS_HOME", str(tmp_path / "home"))


def unpacked(name, folder):
    """The tree with the content of the archives, and which these were."""
    announced = []
    tree = unpack_missing(
        BENCHMARKS[name].archives, Tree.below(folder), extracted_folder(name), announced.append
    )
    return tree, announced


@pytest.mark.parametrize("name", DOWNLOADS)
def test_labels_are_the_truth(tmp_path, name):
    base, source, _ = DOWNLOADS[name]
    truth = build(name, "raw", tmp_path / "raw")
    labels = BENCHMARKS[name].read_raw(Tree.below(tmp_path / "raw"))
    assert (labels.kind, labels.base, labels.bad) == ("raw", base, [])
    assert_faces(labels.faces, truth)
    assert source in {face.source for face in labels.faces}
    pictures = {face.points.tobytes(): face.picture for face in truth}
    for face in labels.faces:
        if face.points.tobytes() in pictures:  # 1-based ones differ in the last digit
            stored = read_image(face.image, upright=False)
            assert stored.shape == pictures[face.points.tobytes()].shape


@pytest.mark.parametrize("name", DOWNLOADS)
def test_archives_give_the_same(tmp_path, name):
    truth = build(name, "archives", tmp_path / "raw")
    tree, announced = unpacked(name, tmp_path / "raw")
    assert announced == DOWNLOADS[name][-1]
    faces = BENCHMARKS[name].read_raw(tree).faces
    assert_faces(faces, truth)
    assert all(face.image.is_file() for face in faces)
    assert unpacked(name, tmp_path / "raw")[1] == []


@pytest.mark.parametrize("name", DOWNLOADS)
def test_what_lies_unpacked_is_not_unpacked_again(tmp_path, name):
    build(name, "archives", tmp_path)
    build(name, "raw", tmp_path)
    assert unpacked(name, tmp_path)[1] == []


@pytest.mark.parametrize(
    "name, gone, archive",
    [
        ("300w", "helen/testset", "helen.zip"),
        ("wflw", "WFLW_annotations/list_98pt_rect_attr_train_test", "WFLW_annotations.tar.gz"),
        ("aflw", "aflw/data/flickr/3", "aflw-images-3.tar.gz"),
        ("coco-face", "val2017", "val2017.zip"),
    ],
)
def test_an_archive_is_unpacked_for_a_part_that_is_missing(tmp_path, name, gone, archive):
    build(name, "archives", tmp_path)
    build(name, "raw", tmp_path)
    shutil.rmtree(tmp_path / gone)
    assert unpacked(name, tmp_path)[1] == [archive]


def test_pictures_without_labels_are_not_unpacked(tmp_path):
    """19 GB of COCO's training pictures are of no use without their labels."""
    build("coco-face", "archives", tmp_path)
    (tmp_path / "annotations/coco_wholebody_train_v1.0.json").unlink()
    tree, announced = unpacked("coco-face", tmp_path)
    assert announced == ["val2017.zip"]
    assert {face.split for face in BENCHMARKS["coco-face"].read_raw(tree).faces} == {"test"}


@pytest.mark.parametrize("name", DOWNLOADS)
def test_nothing_there(tmp_path, name):
    assert BENCHMARKS[name].read_raw(Tree.below(tmp_path)) is None
    assert not extracted_folder(name).exists()


@pytest.mark.parametrize(
    "name, gone",
    [
        ("300w", "ibug/image_092 _01.jpg"),
        ("wflw", "WFLW_images/7--Cheering/7_Cheering_Cheering_7_426.jpg"),
        ("aflw", "aflw/data/flickr/0/image00002.jpg"),
        ("coco-face", "val2017/000000000139.jpg"),
    ],
)
def test_a_missing_picture_is_named_where_it_should_be(tmp_path, name, gone):
    truth = build(name, "raw", tmp_path)
    (tmp_path / gone).unlink()
    faces = BENCHMARKS[name].read_raw(Tree.below(tmp_path)).faces
    assert len(faces) == len(truth)
    assert {face.image for face in faces if not face.image.is_file()} == {tmp_path / gone}
