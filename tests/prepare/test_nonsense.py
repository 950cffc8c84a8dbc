"""Numbers or names in labels that cannot be right: every reader names file and row, and none crashes."""

from __future__ import annotations

import json
import re

import h5py
import numpy as np
import pytest
from scipy.io import loadmat, savemat
from trees import aflw, coco, cofw, w300, wflw
from trees.converted import encoded, write_hrnet, write_mmpose

from popos_cli.errors import PoposError
from popos_cli.prepare.assemble import assemble
from popos_cli.prepare.benchmarks import find_benchmark, find_labels

HUGE = "1" + "0" * 400  # no float64 holds it


def in_text(file, line, column, separator=" "):
    """Puts a value into a line (from 1 on) of a text file."""

    def spoil(folder, value):
        path = next(folder.rglob(file))
        lines = path.read_text().split("\n")
        cells = lines[line - 1].split(separator)
        cells[column] = value
        lines[line - 1] = separator.join(cells)
        path.write_text("\n".join(lines))

    return spoil


def in_json(file, key):
    """Puts a value in the place of the first number of the first annotation that is a face."""

    def spoil(folder, value):
        path = next(folder.rglob(file))
        document = json.loads(path.read_text())
        face = next(a for a in document["annotations"] if a.get("face_valid", True) and any(a[key]))
        face[key][0] = "HERE"
        path.write_text(json.dumps(document).replace('"HERE"', value))

    return spoil


def in_aflw(key):
    def spoil(folder, value):
        path = next(folder.rglob("AFLWinfo_release.mat"))
        mat = {k: v for k, v in loadmat(path).items() if not k.startswith("__")}
        mat[key][0, 0] = float(value)
        savemat(path, mat)

    return spoil


def in_cofw(key):
    def spoil(folder, value):
        with h5py.File(next(folder.rglob("COFW_train_color.mat")), "r+") as mat:
            mat[key][0, 0] = float(value)

    return spoil


def mmpose_cofw(folder):
    faces = cofw.cofw_truth()
    write_mmpose(folder, "cofw", faces, encoded(faces))


def hrnet_wflw(folder):
    faces = wflw.wflw_truth()
    write_hrnet(folder, "wflw", faces, wflw.pictures(faces))


# What writes the download, what spoils it, and what names the row.
READERS = {
    "300w": (w300.build_w300, in_text("afw/*.pts", 4, 0), r"afw/\S+\.pts"),
    "wflw": (wflw.build_wflw, in_text("list_98pt_rect_attr_train.txt", 2, 5), r"rect_attr_train\.txt:2"),
    "wflw csv": (hrnet_wflw, in_text("*_wflw_train.csv", 3, 8, ","), r"face_landmarks_wflw_train\.csv:3"),
    "cofw": (cofw.build_cofw, in_cofw("phisTr"), r"COFW_train_color\.mat:1"),
    "cofw box": (cofw.build_cofw, in_cofw("bboxesTr"), r"COFW_train_color\.mat:1"),
    "cofw json": (mmpose_cofw, in_json("cofw_train.json", "keypoints"), r"cofw_train\.json#\d+"),
    "cofw json box": (mmpose_cofw, in_json("cofw_train.json", "bbox"), r"cofw_train\.json#\d+"),
    "aflw": (aflw.build_aflw, in_aflw("data"), r"AFLWinfo_release\.mat:1"),
    "aflw box": (aflw.build_aflw, in_aflw("bbox"), r"AFLWinfo_release\.mat:1"),
    "coco-face": (coco.build_coco, in_json("*_train_v1.0.json", "face_kpts"), r"_train_v1\.0\.json#\d+"),
    "coco-face box": (coco.build_coco, in_json("*_train_v1.0.json", "face_box"), r"_train_v1\.0\.json#\d+"),
}  # fmt: skip


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch):
    monkeypatch.setenv("POPOS_HOME", str(tmp_path / "home"))


def prepared(dataset, folder):
    """The index of the good faces, and the bad labels."""
    found = assemble(dataset, find_benchmark(dataset, folder, True, print), "stored")
    return found.index, found.bad


@pytest.mark.parametrize("value", ["-1e6", HUGE], ids=["-1e6", "10**400"])
@pytest.mark.parametrize("reader", READERS)
def test_a_coordinate_far_outside_is_a_bad_row(tmp_path, reader, value):
    build, spoil, row = READERS[reader]
    if reader.startswith("coco-face") and value == HUGE:
        value = "1e300"  # a number that no float64 holds is an error of the whole file there
    build(tmp_path / "raw")
    dataset = reader.split()[0]
    whole, none = prepared(dataset, tmp_path / "raw")
    assert none == []
    spoil(tmp_path / "raw", value)
    rest, (bad,) = prepared(dataset, tmp_path / "raw")
    assert re.search(rf"{row}$", bad.source) and len(str(bad)) < 500
    assert len(rest) == len(whole) - 1
    assert set(rest.source.tolist()) < set(whole.source.tolist())
    kept = np.isin(whole.source, rest.source)
    np.testing.assert_array_equal(rest.points, whole.points[kept])


@pytest.mark.parametrize("name", ["a" * 300 + ".jpg", "a" * 200_000 + ".jpg", "a\0b.jpg"])
def test_picture_names_that_no_disk_has(tmp_path, name):
    hrnet_wflw(tmp_path)
    in_text("*_wflw_train.csv", 3, 0, ",")(tmp_path, name)
    labels, counts = find_labels("wflw", tmp_path)
    assert [face.source for face in labels.missing] == ["face_landmarks_wflw_train.csv:3"]
    assert not all(line.right for line in counts)


@pytest.mark.parametrize("image_id", ["1" + "0" * 17, "-4", "null", "[1]", "1.5"])
def test_coco_pictures_of_no_number(tmp_path, image_id):
    coco.build_coco(tmp_path)
    path = next(tmp_path.rglob("*_train_v1.0.json"))
    document = json.loads(path.read_text())
    document["annotations"][0]["image_id"] = "HERE"
    path.write_text(json.dumps(document).replace('"HERE"', image_id))
    labels, _ = find_labels("coco-face", tmp_path)
    (bad,) = labels.bad
    assert "image_id" in bad.reason and len(bad.reason) < 100


@pytest.mark.parametrize("text", ["[" * 100_000, '{"annotations": ' + "[" * 100_000, "1" * 5000])
def test_json_that_is_a_trap(tmp_path, text):
    mmpose_cofw(tmp_path)
    next(tmp_path.rglob("cofw_train.json")).write_text(text)
    with pytest.raises(PoposError, match=r"cofw_train\.json: not JSON"):
        find_labels("cofw", tmp_path)
