"""Every benchmark in every form: the same faces, archives unpacked once, missing pictures named."""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from trees.sources import SOURCES, build

from popos_cli.core.choices import BENCHMARK_NAMES
from popos_cli.core.geometry import tight_square
from popos_cli.home import extracted_folder
from popos_cli.prepare.archives import unpack_missing
from popos_cli.prepare.assemble import assemble
from popos_cli.prepare.benchmarks import BENCHMARKS, find_benchmark
from popos_cli.prepare.splits import hold_back_photos
from popos_cli.prepare.tree import Tree

# What `source` is for one face of the raw download, and the archives.
DOWNLOADS = {
    "300w": ("ibug/image_092 _01.pts", ["afw.zip", "helen.zip", "ibug.zip", "lfpw.zip", "300w.zip"]),
    "wflw": ("list_98pt_rect_attr_test.txt:1", ["WFLW_annotations.tar.gz", "WFLW_images.tar.gz"]),
    "cofw": ("COFW_test_color.mat:1", ["COFW_color.zip"]),
    "aflw": ("AFLWinfo_release.mat:16", [f"aflw-images-{n}.tar.gz" for n in "023"]),
    "coco-face": ("coco_wholebody_val_v1.0.json#425226", ["train2017.zip", "val2017.zip"]),
}


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch):
    monkeypatch.setenv("POPOS_HOME", str(tmp_path / "home"))


def unpacked(name, folder):
    """The tree with the content of the archives, and which these were."""
    announced = []
    archives, target = BENCHMARKS[name].archives, extracted_folder(name)
    return unpack_missing(archives, Tree.below(folder), target, announced.append), announced


def test_the_names_of_benchmarks_are_those_that_a_user_may_choose():
    assert tuple(BENCHMARKS) == BENCHMARK_NAMES == tuple(DOWNLOADS)


@pytest.mark.parametrize(("name", "kind"), SOURCES)
def test_all_sources_give_the_truth(tmp_path, name, kind):
    truth = build(name, kind, tmp_path / "data")
    benchmark = BENCHMARKS[name]
    found = assemble(name, find_benchmark(name, tmp_path / "data", True, print), "stored")
    index = found.index
    assert found.bad == found.left_out == []
    assert (index.scheme, index.subsets) == (benchmark.scheme, tuple(benchmark.subsets))
    assert index.notes["benchmark"] == name
    assert index.notes["importer"] == ("raw" if kind == "archives" else kind)
    assert index.notes["partial"] is (name != "coco-face")  # whose counts are published nowhere
    base = name == "300w" or (name == "cofw" and kind != "mmpose")
    assert index.notes["coordinate_base"] == base
    splits = Counter(face.split for face in truth)
    assert {split: int((index.split == split).sum()) for split in splits} == splits
    assert len(index) == len(truth)
    if kind == "raw":
        assert DOWNLOADS[name][0] in index.source

    def order(points):
        return np.nan_to_num(points).ravel().round(2).tolist()

    rows = sorted(range(len(index)), key=lambda row: order(index.points[row]))
    faces = sorted(truth, key=lambda face: order(face.points))
    clamped = kind == "mmpose" and name == "cofw"  # mmpose moved what lay outside to the border
    for row, face in zip(rows, faces, strict=True):
        height, width = face.picture.shape[:2]
        points = face.points.clip(0) if clamped else face.points
        np.testing.assert_allclose(index.points[row], points, atol=1e-6, rtol=0)
        np.testing.assert_array_equal(index.size[row], (width, height))
        assert tuple(np.array(index.subsets)[index.subset[row]]) == face.subsets
        center, side = face.square or tight_square(face.points)
        if not clamped or (face.rect[:2] >= -1).all():
            np.testing.assert_allclose(index.center[row], center, atol=1e-6)
            assert index.side[row] == pytest.approx(side)
        if face.rect is not None and np.isfinite(index.rect[row]).all() and not clamped:
            np.testing.assert_allclose(index.rect[row], face.rect, atol=1e-6)
        if kind in ("raw", "archives") or (name, kind) == ("cofw", "mmpose"):
            np.testing.assert_array_equal(index.visible[row], face.visible)


@pytest.mark.parametrize("name", DOWNLOADS)
def test_archives_are_unpacked_once_and_for_what_is_missing(tmp_path, name):
    build(name, "archives", tmp_path)
    assert unpacked(name, tmp_path)[1] == DOWNLOADS[name][1]
    assert unpacked(name, tmp_path)[1] == []
    shutil.rmtree(tmp_path / "home")
    build(name, "raw", tmp_path)
    assert unpacked(name, tmp_path)[1] == []
    part, archive = {
        "300w": ("helen/testset", "helen.zip"),
        "wflw": ("WFLW_annotations/list_98pt_rect_attr_train_test", "WFLW_annotations.tar.gz"),
        "cofw": ("common", "COFW_color.zip"),
        "aflw": ("aflw/data/flickr/3", "aflw-images-3.tar.gz"),
        "coco-face": ("val2017", "val2017.zip"),
    }[name]
    shutil.rmtree(tmp_path / part)
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


def test_whole_photos_are_held_back_and_test_faces_left_alone(tmp_path):
    """At least one photo, never all. AFW has a file for each face of a photo: 134212_1.jpg, 134212_2.jpg."""
    build("coco-face", "raw", tmp_path)
    index = assemble("coco-face", find_benchmark("coco-face", tmp_path, True, print), "stored").index
    for fraction, count in ((0.05, 1), (0.7, 2), (0, 0)):
        found = hold_back_photos(index, fraction, 0)
        held, kept = (set(found.image[found.split == split]) for split in ("val", "train"))
        assert len(held) == count and kept and not held & kept
        np.testing.assert_array_equal(found.split == "test", index.split == "test")
    test = index.of_split("test")  # for those who only evaluate
    assert hold_back_photos(test, 0.5, 0).splits == ("test",)
    names = np.array([f"afw/{photo}_{n}.jpg" for photo in (134212, 7) for n in (1, 2)])
    faces = replace(index.select(np.flatnonzero(index.split == "train")[:4]), image=names)
    for seed in range(4):
        held = hold_back_photos(faces, 0.4, seed).split == "val"
        assert held.tolist() in ([True, True, False, False], [False, False, True, True])
