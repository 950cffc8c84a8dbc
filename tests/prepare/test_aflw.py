"""AFLWinfo_release.mat: the split that `ra` gives, planar columns, photos wherever they lie."""

from __future__ import annotations

import shutil

import cv2
import numpy as np
import pytest
from scipy.io import loadmat, savemat
from trees.aflw import FACES, HIDDEN, OTHERWISE, PHOTOS, TRAIN, build_aflw, build_aflw_archives, photos
from trees.converted import write_hrnet, write_mmpose

from popos_cli.core.schemes import AFLW
from popos_cli.errors import PoposError
from popos_cli.home import extracted_folder
from popos_cli.prepare import aflw
from popos_cli.prepare.archives import unpack_missing
from popos_cli.prepare.converted import read_hrnet, read_mmpose
from popos_cli.prepare.protocol import BENCHMARKS
from popos_cli.prepare.tree import Tree


@pytest.fixture
def truth(tmp_path):
    return build_aflw(tmp_path)


def read(folder):
    return aflw.read_raw(Tree.below(folder))


def change(folder, **edits):
    """Write the label file anew with other arrays; an edit is a function of the old one."""
    path = folder / "AFLWinfo_release.mat"
    arrays = {key: value for key, value in loadmat(path).items() if not key.startswith("__")}
    for key, edit in edits.items():
        arrays[key] = edit(arrays[key])
        if arrays[key] is None:
            del arrays[key]
    savemat(path, arrays)


def assert_true(faces, truth):
    for face, true in zip(faces, truth, strict=True):
        np.testing.assert_array_equal(face.points, true.points)
        np.testing.assert_array_equal(face.visible, true.visible)
        np.testing.assert_array_equal(face.square[0], true.square[0])
        assert face.square[1] == true.square[1]
        np.testing.assert_array_equal(face.rect, true.rect)
        assert (face.split, face.subsets) == (true.split, true.subsets)


def test_labels_are_the_truth(tmp_path, truth):
    labels = read(tmp_path)
    assert (labels.kind, labels.base, labels.crop, labels.bad) == ("raw", 0, "box", [])
    assert_true(labels.faces, truth)
    assert [face.split for face in labels.faces] == ["train"] * TRAIN + ["test"] * (FACES - TRAIN)
    frontal = [face.subsets for face in labels.faces if face.split == "test"]
    assert 0 < frontal.count(("frontal",)) < len(frontal)
    assert sum((face.visible == 1).any() for face in labels.faces) == len(HIDDEN)
    rows = [int(face.source.removeprefix("AFLWinfo_release.mat:")) for face in labels.faces]
    assert sorted(rows) == list(range(1, FACES + 1)) and rows != sorted(rows)


def test_every_photo_is_found(tmp_path, truth):
    faces = read(tmp_path).faces
    assert len({face.image for face in faces}) == len(PHOTOS)
    for face, true in zip(faces, truth, strict=True):
        name = true.image.removeprefix("flickr/")
        assert face.image == tmp_path / "aflw/data/flickr" / OTHERWISE.get(name, name)
        assert cv2.imread(str(face.image)).shape == true.picture.shape


def test_points_are_where_the_scheme_says(tmp_path, truth):
    """Columns read interleaved, or x for y, would tear the face apart."""
    for face in read(tmp_path).faces:
        points = face.points
        assert points[7, 0] < points[10, 0] and points[[7, 10], 1].max() < points[16, 1] < points[18, 1]
        assert len(points) == AFLW.landmarks


@pytest.mark.parametrize(("write", "reader"), [(write_mmpose, read_mmpose), (write_hrnet, read_hrnet)])
def test_converted_labels_have_the_same_faces(tmp_path, truth, write, reader):
    """All but what is seen of the points, which they do not tell."""
    write(tmp_path / "converted", "aflw", truth, photos(truth))
    faces = reader(BENCHMARKS["aflw"], Tree.below(tmp_path / "converted")).faces
    raw = {face.points.tobytes(): face for face in read(tmp_path).faces}
    assert len(faces) == len(raw) == FACES
    for face in faces:
        same = raw[face.points.tobytes()]
        np.testing.assert_array_equal(face.square[0], same.square[0])
        assert face.square[1] == pytest.approx(same.square[1], abs=1e-9)
        assert (face.split, face.subsets) == (same.split, same.subsets)
        assert face.image.parts[-3:] == same.image.parts[-3:] and face.image.is_file()


def test_each_archive_is_unpacked_to_a_place_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("POPOS_HOME", str(tmp_path / "home"))
    truth = build_aflw_archives(tmp_path / "raw")
    told = []
    tree = unpack_missing(aflw.ARCHIVES, Tree.below(tmp_path / "raw"), extracted_folder("aflw"), told.append)
    assert told == [f"aflw-images-{n}.tar.gz" for n in "023"]
    faces = aflw.read_raw(tree).faces
    assert_true(faces, truth)
    assert all(face.image.is_file() for face in faces)
    assert len({face.image.parent for face in faces}) == 3


def test_unpacked_photos_are_not_unpacked_again(tmp_path, monkeypatch, truth):
    monkeypatch.setenv("POPOS_HOME", str(tmp_path / "home"))
    build_aflw_archives(tmp_path)
    told = []
    unpack_missing(aflw.ARCHIVES, Tree.below(tmp_path), extracted_folder("aflw"), told.append)
    assert not told


def test_other_layouts(tmp_path, truth):
    """Folders 0, 2 and 3 without flickr above them, as some have them; ROOT may be their parent."""
    (tmp_path / "aflw/data/flickr").rename(tmp_path / "images")
    shutil.rmtree(tmp_path / "aflw")
    assert all(face.image.is_file() for face in read(tmp_path).faces)
    shutil.move(tmp_path / "AFLWinfo_release.mat", tmp_path / "images")
    assert all(face.image.is_file() for face in read(tmp_path / "images").faces)


def test_missing_photos_are_named_where_they_should_be(tmp_path, truth):
    shutil.rmtree(tmp_path / "aflw/data/flickr/2")
    (tmp_path / "aflw/data/flickr/0/image00002.jpg").unlink()
    missing = {face.image for face in read(tmp_path).faces if not face.image.is_file()}
    assert tmp_path / "aflw/data/flickr/0/image00002.jpg" in missing
    assert {path.name for path in missing if path.parent.name == "2"} == {
        name.removeprefix("2/") for name in PHOTOS if name.startswith("2/")
    }


def test_a_part_of_the_release_is_split_in_proportion_and_said(tmp_path, truth):
    assert f"has {FACES} faces" in read(tmp_path).remarks[0]


def test_the_release_is_split_at_20000(tmp_path):
    """The whole file's shapes, one name; photos are not needed."""
    count, rng = 24386, np.random.default_rng(0)
    ra = rng.permutation(count) + 1
    names = np.empty((count, 1), object)
    names[:, 0] = "0/image00002.jpg"
    points = rng.uniform(0, 400, (count, 38))
    boxes = np.tile([10.0, 110.0, 20.0, 120.0], (count, 1))
    mask = np.ones((count, 19))
    column = ra[:, None].astype(np.uint16)  # shape and type as MATLAB may have them otherwise
    arrays = {"bbox": boxes, "data": points, "mask_new": mask, "nameList": names, "ra": column}
    savemat(tmp_path / "AFLWinfo_release.mat", arrays)
    labels = read(tmp_path)
    assert [face.split for face in labels.faces] == ["train"] * 20000 + ["test"] * 4386
    assert not labels.remarks
    last = points[ra[-1] - 1]
    np.testing.assert_array_equal(labels.faces[-1].points, np.stack([last[:19], last[19:]], 1))
    assert labels.faces[-1].source == f"AFLWinfo_release.mat:{ra[-1]}"


def test_names_at_any_nesting(tmp_path, truth):
    def nest(names):
        cells = np.empty((len(names), 1), object)
        for row, name in enumerate(names[:, 0]):
            inner = np.empty((1, 1), object)
            inner[0, 0] = np.array([name])
            cells[row, 0] = inner
        return cells

    change(tmp_path, nameList=nest)
    assert_true(read(tmp_path).faces, truth)
    assert all(face.image.is_file() for face in read(tmp_path).faces)


def edited(row, column, value):
    def edit(table):
        table[row, column] = value
        return table

    return edit


@pytest.mark.parametrize(
    ("key", "edit", "reason"),
    [
        ("data", edited(5, 20, np.nan), "NaN or infinite"),
        ("bbox", edited(5, 1, np.inf), "NaN or infinite"),
        ("bbox", edited(5, slice(None), 30.0), "no size: 0 x 0"),
        ("nameList", edited(5, 0, ""), "'' is not the name"),
        ("nameList", edited(5, 0, "0/../../secret.jpg"), "not the name"),
        ("nameList", edited(5, 0, "/etc/secret.jpg"), "not the name"),
    ],
)
def test_bad_rows_are_named(tmp_path, truth, key, edit, reason):
    change(tmp_path, **{key: edit})
    labels = read(tmp_path)
    assert [bad.source for bad in labels.bad] == ["AFLWinfo_release.mat:6"]
    assert reason in labels.bad[0].reason and len(labels.faces) == FACES - 1


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        ({"ra": lambda ra: ra - 1}, f"each number from 1 to {FACES} once"),
        ({"ra": lambda ra: np.where(ra == 3, 4, ra)}, "each number"),
        ({"ra": lambda ra: ra[:, 1:]}, "nameList has 16 names, not 15"),
        ({"ra": lambda ra: ra + 0.25}, "each number"),
        ({"mask_new": lambda _: None}, "no 'mask_new'"),
        ({"data": lambda data: data[:, :36]}, r"data is float64 \(16, 36\), not numbers \(16, 38\)"),
        ({"bbox": lambda bbox: bbox[:-1]}, r"bbox is float64 \(15, 4\)"),
    ],
)
def test_a_file_that_is_not_the_release_is_named(tmp_path, truth, edits, message):
    change(tmp_path, **edits)
    with pytest.raises(PoposError, match=message) as caught:
        read(tmp_path)
    assert str(tmp_path / "AFLWinfo_release.mat") in caught.value.message and caught.value.hint


@pytest.mark.parametrize("content", [slice(-700), b"<!doctype html>", b""])
def test_a_torn_file_is_named(tmp_path, truth, content):
    path = tmp_path / "AFLWinfo_release.mat"
    path.write_bytes(path.read_bytes()[content] if isinstance(content, slice) else content)
    with pytest.raises(PoposError, match=r"AFLWinfo_release\.mat: not a readable MATLAB v5 file"):
        read(tmp_path)


def test_nothing_there(tmp_path):
    assert read(tmp_path) is None
