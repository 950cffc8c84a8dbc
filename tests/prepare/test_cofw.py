"""COFW's .mat files: every number in its place, every picture pixel by pixel."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE

import cv2
import h5py
import numpy as np
import pytest
from trees.cofw import GREY, OUTSIDE, TEST, TRAIN, build_cofw, write_mat
from trees.converted import write_mmpose

from popos_cli.core.schemes import COFW
from popos_cli.errors import PoposError
from popos_cli.home import extracted_folder
from popos_cli.prepare import cofw
from popos_cli.prepare.archives import unpack_missing
from popos_cli.prepare.converted import read_mmpose
from popos_cli.prepare.protocol import BENCHMARKS
from popos_cli.prepare.tree import Tree

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("POPOS_HOME", str(tmp_path / "home"))


@pytest.fixture
def truth(tmp_path):
    return build_cofw(tmp_path / "raw")


@pytest.fixture
def mats(tmp_path, truth):
    """Split -> its file."""
    files = (tmp_path / "raw").rglob("*.mat")
    return {path.stem.split("_")[1]: path for path in files}


def read(tmp_path):
    return cofw.read_raw(Tree.below(tmp_path / "raw"))


def test_labels_are_the_truth(tmp_path, truth):
    labels = read(tmp_path)
    assert (labels.kind, labels.base, labels.crop, labels.bad) == ("raw", 1, "box", [])
    assert len(labels.faces) == TRAIN + TEST
    for number, (face, true) in enumerate(zip(labels.faces, truth, strict=True)):
        np.testing.assert_allclose(face.points, true.points, atol=1e-9)
        np.testing.assert_array_equal(face.visible, true.visible)
        np.testing.assert_array_equal(face.square[0], true.square[0])
        assert face.square[1] == true.square[1]
        np.testing.assert_array_equal(face.rect, true.rect)
        assert (face.split, face.subsets) == (true.split, ())
        row = number + 1 if number < TRAIN else number + 1 - TRAIN
        assert face.source == f"COFW_{true.split}_color.mat:{row}"
    assert any((face.visible == 1).any() for face in labels.faces)


def test_points_outside_the_picture_are_kept(tmp_path, truth):
    faces = read(tmp_path).faces
    assert faces[OUTSIDE[0]].points[:, 0].min() < -1
    width = truth[OUTSIDE[1]].picture.shape[1]
    assert faces[OUTSIDE[1]].points[:, 0].max() > width


def test_pictures_are_stored_without_loss(tmp_path, truth):
    """Neither transposed nor with red and blue exchanged; numbered as mmpose numbers them."""
    faces = read(tmp_path).faces
    for number, (face, true) in enumerate(zip(faces, truth, strict=True), start=1):
        assert face.image.name == f"{number:06d}.png"
        np.testing.assert_array_equal(cv2.imread(str(face.image)), true.picture)
    assert extracted_folder("cofw") in faces[0].image.parents
    grey = cv2.imread(str(faces[GREY].image))
    assert (grey == grey[..., :1]).all()


def test_pictures_are_written_once(tmp_path, mats):
    image = read(tmp_path).faces[3].image
    before = image.stat()
    assert read(tmp_path).faces[3].image == image
    assert image.stat().st_mtime_ns == before.st_mtime_ns


READ = """
import os, sys
from pathlib import Path
from popos_cli.prepare import cofw
from popos_cli.prepare.tree import Tree
pictures = []
def killed(picture):
    pictures.append(picture)
    if len(sys.argv) > 2 and len(pictures) > 3:
        os.kill(os.getpid(), 9)
    return picture
convert = cofw.cv2.cvtColor
cofw.cv2.cvtColor = lambda *arguments: killed(convert(*arguments))
sys.stdin.readline()
labels = cofw.read_raw(Tree.below(Path(sys.argv[1])))
assert all(face.image.is_file() for face in labels.faces)
print(len(labels.faces), len(pictures))
"""


def start(*arguments):
    return subprocess.Popen(
        [sys.executable, "-c", READ, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, stdin=PIPE, stdout=PIPE, stderr=PIPE, text=True,
    )  # fmt: skip


def test_four_processes_write_the_pictures_once(tmp_path, truth):
    processes = [start(tmp_path / "raw") for _ in range(4)]
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    outcomes = [process.communicate() for process in processes]
    assert [(process.returncode, err) for process, (_, err) in zip(processes, outcomes, strict=True)] == [
        (0, "")
    ] * 4
    count = TRAIN + TEST
    assert sorted(out for out, _ in outcomes) == [f"{count} 0\n"] * 3 + [f"{count} {count}\n"]


def test_a_killed_run_leaves_no_folder_that_looks_whole(tmp_path, truth):
    process = start(tmp_path / "raw", "kill")
    process.communicate("go\n")
    assert process.returncode == -9
    (left,) = extracted_folder("cofw").iterdir()
    assert left.name.startswith(".images-") and left.name.endswith(".tmp") and len(list(left.iterdir())) == 3
    labels = read(tmp_path)
    (folder,) = extracted_folder("cofw").iterdir()
    assert {face.image.parent for face in labels.faces} == {folder}
    assert len(list(folder.iterdir())) == TRAIN + TEST


def test_another_file_leaves_the_pictures_of_an_older_index(tmp_path, mats, truth):
    """The faces of a partial file have other numbers."""
    old = {face.image: face.image.read_bytes() for face in read(tmp_path).faces}
    write_mat(mats["train"], "Tr", truth[2:4])
    new = read(tmp_path).faces
    assert {image: image.read_bytes() for image in old} == old
    assert len(new) == 2 + TEST
    for face, true in zip(new, truth[2:4] + truth[TRAIN:], strict=True):
        np.testing.assert_array_equal(cv2.imread(str(face.image)), true.picture)
    os.utime(mats["train"], (1, 1))
    assert read(tmp_path).faces[0].image.parent != new[0].image.parent


def test_one_file_alone(tmp_path, mats, truth):
    mats["train"].unlink()
    faces = read(tmp_path).faces
    assert [face.split for face in faces] == ["test"] * TEST
    np.testing.assert_array_equal(cv2.imread(str(faces[0].image)), truth[TRAIN].picture)


def test_grey_files_serve_where_there_are_no_colour_ones(tmp_path):
    truth = build_cofw(tmp_path / "raw", colour=False)
    labels = read(tmp_path)
    assert "grey" in " ".join(labels.remarks)
    for face, true in zip(labels.faces, truth, strict=True):
        grey = cv2.cvtColor(true.picture, cv2.COLOR_BGR2GRAY)
        np.testing.assert_array_equal(cv2.imread(str(face.image)), np.dstack([grey] * 3))


def test_colour_files_come_first(tmp_path, truth):
    build_cofw(tmp_path / "raw" / "grey", colour=False)
    labels = read(tmp_path)
    assert all("_color" in face.source for face in labels.faces)
    assert "grey" not in " ".join(labels.remarks)


def test_the_archive_is_unpacked(tmp_path, truth):
    shutil.make_archive(str(tmp_path / "COFW_color"), "zip", tmp_path / "raw")
    shutil.rmtree(tmp_path / "raw")
    tree = unpack_missing(cofw.ARCHIVES, Tree.below(tmp_path), extracted_folder("cofw"))
    assert len(cofw.read_raw(tree).faces) == TRAIN + TEST


def test_mmpose_has_the_same_faces(tmp_path, truth):
    """But for what is negative, which mmpose sets to 0: this importer keeps it."""
    write_mmpose(tmp_path / "mmpose", "cofw", truth)
    converted = read_mmpose(BENCHMARKS["cofw"], Tree.below(tmp_path / "mmpose"))
    others = {face.image.stem: face for face in converted.faces}
    faces = read(tmp_path).faces
    assert others.keys() == {face.image.stem for face in faces}
    for number, face in enumerate(faces):
        other = others[face.image.stem]
        inside = face.points.min(axis=1) > 0
        assert inside.all() == (number != OUTSIDE[0])
        np.testing.assert_allclose(face.points[inside], other.points[inside], atol=1e-9)
        np.testing.assert_array_equal(face.visible, other.visible)
        assert face.split == other.split
        if face.rect.min() >= 0:
            np.testing.assert_array_equal(face.square[0], other.square[0])
            assert face.square[1] == other.square[1]
            np.testing.assert_array_equal(face.rect, other.rect)


def test_nothing_there(tmp_path):
    (tmp_path / "raw").mkdir()
    assert read(tmp_path) is None
    assert not extracted_folder("cofw").exists()


def change(path, key, edit):
    """Write `edit` of a dataset in its place."""
    with h5py.File(path, "r+") as file:
        values = edit(file[key][()])
        del file[key]
        if values is not None:
            file[key] = values


def edited(column, row, value):
    def edit(table):
        table[column, row] = value
        return table

    return edit


@pytest.mark.parametrize(
    ("key", "column", "value", "reason"),
    [
        ("phisTr", 7, np.nan, "NaN or infinite"),
        ("bboxesTr", 0, np.inf, "NaN or infinite"),
        ("bboxesTr", 2, 0.0, "no size: 0 x"),
        ("bboxesTr", 3, -4.0, "no size"),
    ],
)
def test_bad_rows_are_named(tmp_path, mats, key, column, value, reason):
    change(mats["train"], key, edited(column, 2, value))
    labels = read(tmp_path)
    assert [bad.source for bad in labels.bad] == ["COFW_train_color.mat:3"]
    assert reason in labels.bad[0].reason
    # The others keep their pictures.
    assert [int(face.image.stem) for face in labels.faces] == [1, 2, 4, 5, 6, 7, 8, 9]


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-4000])


def no_reference(path):
    change(path, "IsTr", lambda cells: np.array([[h5py.Reference()] * cells.size], h5py.ref_dtype))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.write_bytes(b"MATLAB 5.0 MAT-file"), "not a MATLAB v7.3"),
        (cut_short, "torn"),
        (lambda path: change(path, "bboxesTr", lambda _: None), "no 'bboxesTr'"),
        (lambda path: change(path, "phisTr", lambda table: table[:58]), r"phisTr is float64 \(58, 5\)"),
        (lambda path: change(path, "bboxesTr", lambda table: table[:, :4]), r"bboxesTr is float64 \(4, 4\)"),
        (no_reference, "a picture cannot be read"),
        (lambda path: change(path, "#refs#/p1", lambda pixels: pixels[:2]), ":2: its picture is uint8"),
        (lambda path: change(path, "#refs#/p1", lambda pixels: pixels / 255.0), ":2: its picture is float64"),
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
    with pytest.raises(PoposError, match="cannot write"):
        read(tmp_path)


def test_points_are_where_the_scheme_says(tmp_path):
    """Columns read interleaved, or x for y, would tear the face apart."""
    build_cofw(tmp_path / "raw")
    for face in read(tmp_path).faces:
        eyes, mouth, chin = face.points[[8, 9]], face.points[22:28].mean(0), face.points[28]
        assert eyes[0, 0] < eyes[1, 0] and eyes[:, 1].max() < mouth[1] < chin[1]
        assert len(face.points) == COFW.landmarks
