"""What cannot be right in a benchmark's labels: every reader names file and row, and none crashes."""

from __future__ import annotations

import json
import re

import h5py
import numpy as np
import pytest
from scipy.io import loadmat, savemat
from trees.sources import build

from popos_cli.errors import PoposError
from popos_cli.prepare.assemble import assemble
from popos_cli.prepare.benchmarks import find_benchmark, find_labels

HUGE = "1" + "0" * 400  # no float64 holds it
FAR = "times its size outside its picture"


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch):
    monkeypatch.setenv("POPOS_HOME", str(tmp_path / "home"))


def in_lines(file, line, edit, separator=" ", end="\n"):
    """Changes the cells of a line (from 1 on) of a text file."""

    def spoil(folder):
        path = next(folder.rglob(file))
        lines = path.read_text().split("\n")
        lines[line - 1] = separator.join(edit(lines[line - 1].split(separator)))
        path.write_text(end.join([*lines, ""]), newline="")

    return spoil


def in_json(file, edit, place=1):
    """Changes an annotation; "HUGE" in it becomes a number that no float64 holds."""

    def spoil(folder):
        path = next(folder.rglob(file))
        document = json.loads(path.read_text())
        edit(document["annotations"][place])
        path.write_text(json.dumps(document).replace('"HUGE"', HUGE))

    return spoil


def in_mat(key, place, value):
    """Puts a value into an array of AFLW's or COFW's label file."""

    def spoil(folder):
        if aflw := next(folder.rglob("AFLWinfo_release.mat"), None):
            arrays = {k: v for k, v in loadmat(aflw).items() if not k.startswith("__")}
            arrays[key][place] = value
            savemat(aflw, arrays)
            return
        with h5py.File(next(folder.rglob("COFW_train_color.mat")), "r+") as file:
            table = file[key][()]
            table[place] = value
            file[key][...] = table

    return spoil


def put(place, value):
    return lambda cells: [*cells[:place], value, *cells[place + 1 :]]


def changed(**values):
    return lambda annotation: annotation.update(values)


def at(key, place, value):
    return lambda annotation: annotation[key].__setitem__(place, value)


def pts(edit):
    """Changes the lines of a .pts file."""

    def spoil(folder):
        path = folder / "helen/trainset/100032540_1.pts"
        path.write_text("\n".join(edit(path.read_text().splitlines())) + "\n", errors="surrogateescape")

    return spoil


LIST, LIST_ROW = "list_98pt_rect_attr_train.txt", r"list_98pt_rect_attr_train\.txt:3"
VAL, VAL_ROW = "coco_wholebody_val_v1.0.json", r"coco_wholebody_val_v1\.0\.json#425226"


def csv(name, edit, end="\n"):
    return in_lines(f"face_landmarks_{name}_train.csv", 3, edit, ",", end)


def annotation(stem, edit):
    return in_json(f"{stem}_train.json", edit)


# (benchmark, kind of source), what names the row: what spoils it, and what is said.
BAD = {
    ("300w", "raw", r"helen/trainset/100032540_1\.pts"): [
        (pts(lambda lines: put(10, "12.5 abc")(lines)), "line 11: column 2: 'abc' is not a number"),
        (pts(lambda lines: put(10, "nan 3.0")(lines)), "line 11: column 1: 'nan' is NaN or infinite"),
        (pts(lambda lines: put(10, "1.0")(lines)), "line 11: 1 values instead of x and y"),
        (pts(lambda lines: put(10, "-1e6 3.0")(lines)), FAR),
        (pts(lambda lines: put(10, f"{HUGE} 3.0")(lines)), "is NaN or infinite"),
        (pts(lambda lines: lines[:10] + lines[11:]), "67 points instead of 68"),
        (pts(lambda lines: lines[:10] + lines[9:]), "69 points instead of 68"),
        (pts(lambda lines: lines[:50]), "no { } block"),
        (pts(lambda lines: []), "no { } block"),
        (pts(lambda lines: lines[:3] + ["5.0 5.0"] * 68 + ["}"]), "its points coincide"),
        (pts(lambda lines: ["\u00e9\udcff"]), "cannot be read"),
    ],
    ("wflw", "raw", LIST_ROW): [
        (in_lines(LIST, 3, lambda cells: cells[1:]), "206 fields instead of 207"),
        (in_lines(LIST, 3, lambda cells: [*cells, "b.jpg"], end="\r\n"), "208 fields instead of 207"),
        (in_lines(LIST, 3, put(5, "x7")), "column 6: 'x7' is not a number"),
        (in_lines(LIST, 3, put(5, "inf")), "column 6: 'inf' is NaN or infinite"),
        (in_lines(LIST, 3, put(5, "-1e6")), FAR),
        (in_lines(LIST, 3, put(201, "2")), "not each 0 or 1"),
        (in_lines(LIST, 3, lambda cells: ["5.0"] * 196 + cells[196:]), "its points coincide"),
    ],
    ("cofw", "raw", r"COFW_train_color\.mat:3"): [
        (in_mat("phisTr", (7, 2), np.nan), "NaN or infinite"),
        (in_mat("phisTr", (7, 2), -1e6), FAR),
        (in_mat("bboxesTr", (0, 2), np.inf), "NaN or infinite"),
        (in_mat("bboxesTr", (0, 2), -1e6), FAR),
        (in_mat("bboxesTr", (2, 2), 0.0), "no size: 0 x"),
    ],
    ("aflw", "raw", r"AFLWinfo_release\.mat:6"): [
        (in_mat("data", (5, 20), np.nan), "NaN or infinite"),
        (in_mat("data", (5, 20), 1e155), FAR),
        (in_mat("bbox", (5, 1), np.inf), "NaN or infinite"),
        (in_mat("bbox", (5, slice(None)), 30.0), "no size: 0 x 0"),
    ],
    ("coco-face", "raw", VAL_ROW): [
        (in_json(VAL, changed(face_kpts=[1.0] * 201), 0), "201 keypoint values instead of 204"),
        (in_json(VAL, changed(face_kpts=["a"] * 204), 0), "is not a number"),
        (in_json(VAL, changed(face_kpts=[None] * 203 + [1.0]), 0), "NaN or infinite"),
        (in_json(VAL, at("face_kpts", 6, 1e300), 0), FAR),
        (in_json(VAL, changed(face_box=[10.0, 20.0, 0.0, 0.0]), 0), "its face_box has no size: 0 x 0"),
        (in_json(VAL, changed(face_box=[-1e6, 20.0, 9.0, 9.0]), 0), FAR),
        (in_json(VAL, changed(face_box=[10.0, 20.0]), 0), "not four numbers"),
        *((in_json(VAL, changed(image_id=n), 0), "image_id is") for n in (None, -4, 10**17, [1], 1.5)),
    ],
    ("wflw", "mmpose", r"face_landmarks_wflw_train\.json#2"): [
        (annotation("*wflw", lambda a: a["keypoints"].pop()), "293 keypoint values instead of 294"),
        (annotation("*wflw", at("keypoints", 4, "x")), "is not a number"),
        (annotation("*wflw", at("keypoints", 4, "HUGE")), "is not a number"),
        (annotation("*wflw", at("keypoints", 4, None)), "NaN or infinite"),
        (annotation("*wflw", at("keypoints", 4, -1e6)), FAR),
        (annotation("*wflw", changed(keypoints=[5.0, 5.0, 1] * 98)), "its points coincide"),
        (annotation("*wflw", changed(image_id=10**6)), "image_id 1000000 is not among"),
        (annotation("*wflw", changed(image_id=[1])), "is not among"),
    ],
    ("cofw", "mmpose", r"cofw_train\.json#2"): [
        (annotation("cofw", lambda a: a.pop("bbox")), "it has no bbox"),
        (annotation("cofw", changed(bbox=[1, 2, 0, 5])), "no size: 0 x 5"),
        (annotation("cofw", at("bbox", 0, "HUGE")), "not four numbers"),
        (annotation("cofw", at("bbox", 0, -1e6)), FAR),
    ],
    ("aflw", "mmpose", r"face_landmarks_aflw_train\.json#2"): [
        (annotation("*aflw", lambda a: a.pop("center")), "its center is not two numbers"),
        (annotation("*aflw", lambda a: a.pop("box_size")), "its box is NaN"),
        (annotation("*aflw", changed(box_size=-3)), "no size: -3"),
    ],
    ("300w", "hrnet", r"face_landmarks_300w_train\.csv:3"): [
        (csv("300w", lambda cells: cells[:-1], "\r\n"), "139 columns instead of 140"),
        (csv("300w", put(6, "x")), "column 7: 'x' is not a number"),
        (csv("300w", put(6, "")), "column 7: '' is not a number"),
        (csv("300w", put(6, "nan")), "column 7: 'nan' is NaN"),
        (csv("300w", put(6, HUGE)), "is NaN or infinite"),
        (csv("300w", put(6, "1e6")), FAR),
    ],
    ("aflw", "hrnet", r"face_landmarks_aflw_train\.csv:3"): [
        (csv("aflw", lambda cells: cells[:2] + cells[3:]), "42 columns instead of 43"),
        (csv("aflw", put(2, "0.0")), "no size: 0"),
    ],
}  # fmt: skip


@pytest.mark.parametrize(("name", "kind", "row"), BAD)
def test_a_bad_label_is_named_and_the_others_stay(tmp_path, name, kind, row):
    truth = build(name, kind, tmp_path / "whole")
    whole = assemble(name, find_benchmark(name, tmp_path / "whole", True, print), "stored").index
    for number, (spoil, reason) in enumerate(BAD[name, kind, row]):
        build(name, kind, tmp_path / str(number))
        spoil(tmp_path / str(number))
        found = assemble(name, find_benchmark(name, tmp_path / str(number), True, print), "stored")
        (bad,) = found.bad
        assert re.fullmatch(row, bad.source) and reason in bad.reason, bad
        assert len(str(bad)) < 300
        assert len(found.index) == len(truth) - 1
        kept = np.isin(whole.source, found.index.source)
        np.testing.assert_array_equal(found.index.points, whole.points[kept])


@pytest.mark.parametrize(
    "name", ["../images/0.jpg", "/etc/passwd", "", "a" * 300 + ".jpg", "a" * 200_000 + ".jpg", "a\0b.jpg"]
)
@pytest.mark.parametrize(("dataset", "kind"), [("wflw", "raw"), ("wflw", "hrnet"), ("aflw", "mmpose")])
def test_a_picture_name_that_leads_away_or_that_no_disk_has(tmp_path, dataset, kind, name):
    """The picture counts as missing, below the folder of the others."""
    build(dataset, kind, tmp_path)
    if kind == "mmpose":
        path = tmp_path / "annotations/face_landmarks_aflw_train.json"
        document = json.loads(path.read_text())
        document["images"][1]["file_name"] = name
        path.write_text(json.dumps(document))
    elif kind == "hrnet":
        csv("wflw", put(0, name))(tmp_path)
    else:
        in_lines(LIST, 3, put(206, name or "/"))(tmp_path)
    labels, counts = find_labels(dataset, tmp_path)
    assert labels.missing and not labels.bad and not all(line.right for line in counts)
    for face in labels.missing:
        assert face.image.is_relative_to(tmp_path) and ".." not in face.image.parts


@pytest.mark.parametrize("text", ["[" * 100_000, '{"annotations": ' + "[" * 100_000, "1" * 5000])
def test_json_that_is_a_trap(tmp_path, text):
    build("cofw", "mmpose", tmp_path)
    next(tmp_path.rglob("cofw_train.json")).write_text(text)
    with pytest.raises(PoposError, match=r"cofw_train\.json: not JSON"):
        find_labels("cofw", tmp_path)
