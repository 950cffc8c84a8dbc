"""COFW's .mat files: every picture pixel by pixel, and what is wrong with a file."""

from __future__ import annotations

import os

import cv2
import h5py
import numpy as np
import pytest
from trees.cofw import GREY, OUTSIDE, TEST, TRAIN, build_cofw, write_mat
from trees.common import without_colour

from popos_cli.errors import PoposError
from popos_cli.home import extracted_folder
from popos_cli.prepare import cofw
from popos_cli.prepare.tree import Tree


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("POPOS_HOME", str(tmp_path / "home"))


@pytest.fixture
def truth(tmp_path):
    return build_cofw(tmp_path / "raw")


@pytest.fixture
def mats(tmp_path, truth):
    """Split -> its file."""
    return {path.stem.split("_")[1]: path for path in (tmp_path / "raw").rglob("*.mat")}


def read(tmp_path):
    return cofw.read_raw(Tree.below(tmp_path / "raw"))


def assert_pictures(faces, pictures):
    for face, picture in zip(faces, pictures, strict=True):
        np.testing.assert_array_equal(cv2.imread(str(face.image)), picture)


def test_pictures_are_stored_without_loss(tmp_path, truth):
    """Neither transposed nor with red and blue exchanged; numbered as mmpose numbers them."""
    faces = read(tmp_path).faces
    assert [face.image.name for face in faces] == [f"{n:06d}.png" for n in range(1, TRAIN + TEST + 1)]
    assert_pictures(faces, [face.picture for face in truth])
    assert extracted_folder("cofw") in faces[0].image.parents
    assert (truth[GREY].picture == truth[GREY].picture[..., :1]).all()
    assert faces[OUTSIDE[0]].points[:, 0].min() < -1  # kept, though mmpose sets it to 0


def test_pictures_are_written_once(tmp_path, mats):
    image = read(tmp_path).faces[3].image
    before = image.stat().st_mtime_ns
    assert read(tmp_path).faces[3].image == image and image.stat().st_mtime_ns == before


def test_another_file_leaves_the_pictures_of_an_older_index(tmp_path, mats, truth):
    """The faces of a partial file have other numbers."""
    old = {face.image: face.image.read_bytes() for face in read(tmp_path).faces}
    write_mat(mats["train"], "Tr", truth[2:4])
    new = read(tmp_path).faces
    assert {image: image.read_bytes() for image in old} == old
    assert_pictures(new, [face.picture for face in truth[2:4] + truth[TRAIN:]])
    os.utime(mats["train"], (1, 1))
    assert read(tmp_path).faces[0].image.parent != new[0].image.parent


def test_one_file_alone(tmp_path, mats, truth):
    mats["train"].unlink()
    faces = read(tmp_path).faces
    assert [face.split for face in faces] == ["test"] * TEST
    assert_pictures(faces, [face.picture for face in truth[TRAIN:]])


def test_grey_files_serve_where_there_are_no_colour_ones(tmp_path):
    truth = build_cofw(tmp_path / "raw/grey", colour=False)
    labels = read(tmp_path)
    assert "grey" in " ".join(labels.remarks)
    assert_pictures(labels.faces, [without_colour(face.picture) for face in truth])
    build_cofw(tmp_path / "raw/later")
    labels = read(tmp_path)
    assert all("_color" in face.source for face in labels.faces)
    assert not any("grey pictures" in remark for remark in labels.remarks)


def change(path, key, edit):
    """Write `edit` of a dataset in its place."""
    with h5py.File(path, "r+") as file:
        values = edit(file[key][()])
        del file[key]
        if values is not None:
            file[key] = values


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-4000])


def no_reference(path):
    change(path, "IsTr", lambda cells: np.array([[h5py.Reference()] * cells.size], h5py.ref_dtype))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.write_bytes(b"MATLAB 5.0 MAT-file"), "not a MATLAB v7.3"),
        (cut_short, "torn"),
        (lambda path: change(path, "bboxesTr", lambda _: None), "not a MATLAB v7.3.*bboxesTr"),
        (lambda path: change(path, "phisTr", lambda table: table[:58]), r"are \(58, 5\) and \(4, 5\), for 5"),
        (lambda path: change(path, "bboxesTr", lambda table: table[:, :4]), r"are \(87, 5\) and \(4, 4\)"),
        (no_reference, "of COFW's, or torn"),
        (lambda path: change(path, "#refs#/p1", lambda pixels: pixels[:2]), "picture 2 is uint8"),
        (lambda path: change(path, "#refs#/p1", lambda pixels: pixels / 255.0), "picture 2 is float64"),
    ],
)  # fmt: skip
def test_a_broken_file_is_named_and_leaves_nothing(tmp_path, mats, spoil, message):
    spoil(mats["train"])
    with pytest.raises(PoposError, match=message) as caught:
        read(tmp_path)
    assert str(mats["train"]) in caught.value.message and caught.value.hint
    assert not extracted_folder("cofw").exists() or not list(extracted_folder("cofw").iterdir())


def test_a_place_that_cannot_be_written(tmp_path, truth):
    (tmp_path / "home").write_text("in the way")
    with pytest.raises(PoposError, match=r"cannot unpack .*COFW_train_color\.mat"):
        read(tmp_path)
