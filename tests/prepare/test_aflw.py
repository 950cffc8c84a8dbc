"""AFLWinfo_release.mat: the split that `ra` gives, planar columns, photos wherever they lie."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from scipy.io import loadmat, savemat
from trees.aflw import FACES, HIDDEN, OTHERWISE, PHOTOS, TRAIN, build_aflw
from trees.common import assert_faces

from popos_cli.errors import PoposError
from popos_cli.prepare import aflw
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


def test_split_subsets_and_sources(tmp_path, truth):
    labels = read(tmp_path)
    for face, true in zip(labels.faces, truth, strict=True):  # in the order of the split
        np.testing.assert_array_equal(face.points, true.points)
        name = true.image.removeprefix("flickr/")
        assert face.image == tmp_path / "aflw/data/flickr" / OTHERWISE.get(name, name)
    assert [face.split for face in labels.faces] == ["train"] * TRAIN + ["test"] * (FACES - TRAIN)
    assert len({face.image for face in labels.faces}) == len(PHOTOS)
    assert sum((face.visible == 1).any() for face in labels.faces) == len(HIDDEN)
    rows = [int(face.source.removeprefix("AFLWinfo_release.mat:")) for face in labels.faces]
    assert sorted(rows) == list(range(1, FACES + 1)) and rows != sorted(rows)
    assert f"has {FACES} faces" in labels.remarks[0]  # split in proportion


def test_other_layouts(tmp_path, truth):
    """Folders 0, 2 and 3 without flickr above them, as some have them; ROOT may be their parent."""
    (tmp_path / "aflw/data/flickr").rename(tmp_path / "images")
    shutil.rmtree(tmp_path / "aflw")
    assert all(face.image.is_file() for face in read(tmp_path).faces)
    shutil.move(tmp_path / "AFLWinfo_release.mat", tmp_path / "images")
    assert all(face.image.is_file() for face in read(tmp_path / "images").faces)


def test_a_missing_folder_of_photos(tmp_path, truth):
    shutil.rmtree(tmp_path / "aflw/data/flickr/2")
    missing = {face.image for face in read(tmp_path).faces if not face.image.is_file()}
    assert missing == {tmp_path / "flickr" / name for name in PHOTOS if name.startswith("2/")}


def test_the_release_is_split_at_20000(tmp_path):
    """The whole file's shapes, one name; photos are not needed."""
    count, rng = 24386, np.random.default_rng(0)
    ra = rng.permutation(count) + 1
    names = np.empty((count, 1), object)
    names[:, 0] = "0/image00002.jpg"
    points = rng.uniform(0, 400, (count, 38))
    arrays = {
        "bbox": np.tile([10.0, 110.0, 20.0, 120.0], (count, 1)), "data": points,
        "mask_new": np.ones((count, 19)), "nameList": names,
        "ra": ra[:, None].astype(np.uint16),  # shape and type as MATLAB may have them otherwise
    }  # fmt: skip
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
    assert_faces(read(tmp_path).faces, truth)


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        ({"ra": lambda ra: ra - 1}, f"each number from 1 to {FACES} once"),
        ({"ra": lambda ra: np.where(ra == 3, 4, ra)}, "each number"),
        ({"ra": lambda ra: ra + 0.25}, "each number"),
        ({"mask_new": lambda _: None}, "'mask_new'"),
        ({"nameList": lambda names: names[1:]}, "each number from 1 to 15 once"),
        ({"data": lambda data: data[:, :36]}, r"data is \(16, 36\), not \(16, 38\)"),
        ({"bbox": lambda bbox: bbox[:-1]}, r"bbox is \(15, 4\)"),
    ],
)
def test_a_file_that_is_not_the_release_is_named(tmp_path, truth, edits, message):
    change(tmp_path, **edits)
    with pytest.raises(PoposError, match=message) as caught:
        read(tmp_path)
    assert str(tmp_path / "AFLWinfo_release.mat") in caught.value.message and caught.value.hint


def test_a_torn_file_is_named(tmp_path, truth):
    path = tmp_path / "AFLWinfo_release.mat"
    path.write_bytes(path.read_bytes()[:-700])
    with pytest.raises(PoposError, match=r"AFLWinfo_release\.mat: torn, or not AFLW's"):
        read(tmp_path)
