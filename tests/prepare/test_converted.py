"""mmpose's JSON and HRNet's CSV tell the same faces as the downloads that they were made from."""

from __future__ import annotations

import json

import numpy as np
import pytest
from trees import w300
from trees.common import assert_faces
from trees.sources import build

from popos_cli.errors import PoposError
from popos_cli.prepare.benchmarks import BENCHMARKS, find_labels
from popos_cli.prepare.converted import read_converted
from popos_cli.prepare.tree import Tree

KINDS = ("mmpose", "hrnet")
BOTH = pytest.mark.parametrize("kind", KINDS)


def read(folder, kind, name):
    return read_converted(BENCHMARKS[name], kind, Tree.below(folder))


def edit_json(path, change):
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


@BOTH
@pytest.mark.parametrize("name", ["300w", "wflw", "aflw"])
def test_the_same_as_the_raw_download(tmp_path, kind, name):
    """300W's points are 1-based in all files. AFLW has its own box, not the one around the points, and both
    converters call every point of it visible."""
    truth = build(name, kind, tmp_path)
    labels = read(tmp_path, kind, name)
    assert (labels.kind, labels.base, labels.bad) == (kind, int(name == "300w"), [])
    assert_faces(labels.faces, truth, visible=name != "aflw")
    assert all((face.visible == 2).all() and face.image.is_file() for face in labels.faces)


def test_cofw(tmp_path):
    """Points without an offset, the box with one; negative numbers became 0."""
    truth = build("cofw", "mmpose", tmp_path)
    labels = read(tmp_path, "mmpose", "cofw")
    assert (labels.base, labels.bad) == (0, [])
    by_name = {face.image.name: face for face in labels.faces}
    assert len(by_name) == len(truth)
    for true in truth:
        face = by_name[true.image]
        np.testing.assert_allclose(face.points, np.maximum(true.points, 0), atol=1e-6, rtol=0)
        np.testing.assert_array_equal(face.visible, true.visible)
        if (true.rect[:2] >= -1).all():
            np.testing.assert_allclose(face.square[0], true.square[0], atol=1e-6)
            np.testing.assert_allclose(face.rect, true.rect, atol=1e-6)
        assert (face.square[1], face.split) == (true.square[1], true.split)
    assert sum((true.points < 0).any() for true in truth) == 1
    assert {1, 2} == set(np.concatenate([face.visible for face in labels.faces]).tolist())


def test_what_was_never_converted(tmp_path):
    build("cofw", "mmpose", tmp_path)
    assert read(tmp_path, "hrnet", "cofw") is None
    for kind in KINDS:
        for name in ("300w", "wflw", "aflw", "coco-face"):
            assert read(tmp_path, kind, name) is None


@BOTH
def test_the_odd_name_is_found_with_its_space(tmp_path, kind):
    build("300w", kind, tmp_path)
    (labels,) = tmp_path.rglob("face_landmarks_300w_valid.*")
    text = labels.read_text()
    assert "ibug/image_092_01.jpg" in text and "092 _01" not in text
    images = [face.image.name for face in read(tmp_path, kind, "300w").faces]
    assert sorted(name for name in images if "image_092" in name) == [
        "image_092 _01.jpg", "image_092.jpg", "image_092_02.jpg",
    ]  # fmt: skip
    (odd,) = tmp_path.rglob("image_092 _01.jpg")
    odd.unlink()
    (missing,) = (face.image for face in read(tmp_path, kind, "300w").faces if not face.image.is_file())
    assert missing == odd.with_name("image_092_01.jpg")


@BOTH
def test_parts_of_300w_follow_from_the_paths(tmp_path, kind):
    build("300w", kind, tmp_path)
    found = {}
    for face in read(tmp_path, kind, "300w").faces:
        found.setdefault(face.split, {}).setdefault(face.part, set()).add(face.image.name)
    assert found == {
        split: {part: set(names) for part, names in parts.items()} for split, parts in w300.PICTURES.items()
    }


@BOTH
def test_a_subset_is_joined_by_points_not_by_id(tmp_path, kind):
    """Faces of one picture, under other ids and in another order than in the test file."""
    build("wflw", kind, tmp_path)
    twins = [face for face in read(tmp_path, kind, "wflw").faces if "7_426" in face.image.name]
    assert sorted(face.subsets for face in twins) == [(), ("largepose", "blur"), ("occlusion", "blur")]
    if kind == "mmpose":
        files = {w: json.loads((tmp_path / f"annotations/face_landmarks_wflw_{w}.json").read_text())
                 for w in ("test", "test_blur")}  # fmt: skip
        ids = [{tuple(a["keypoints"]): a["id"] for a in files[w]["annotations"]} for w in files]
        assert any(ids[0][points] != number for points, number in ids[1].items())


@BOTH
@pytest.mark.parametrize("images", ["images", "annotations/images", "elsewhere/deep"])
def test_where_the_pictures_lie(tmp_path, kind, images):
    truth = build("300w", kind, tmp_path)
    (tmp_path / images).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "images").rename(tmp_path / images)
    (tmp_path / "images").mkdir(exist_ok=True)
    labels = read(tmp_path, kind, "300w")
    assert all(face.image.is_relative_to(tmp_path / images) and face.image.is_file() for face in labels.faces)
    assert_faces(labels.faces, truth)


def test_pictures_without_folders_lie_anywhere(tmp_path):
    """COFW's names are bare."""
    build("cofw", "mmpose", tmp_path)
    (tmp_path / "images").rename(tmp_path / "jpgs")
    assert all(face.image.is_file() for face in read(tmp_path, "mmpose", "cofw").faces)


@BOTH
def test_missing_pictures_are_named_beside_the_labels(tmp_path, kind):
    build("wflw", kind, tmp_path)
    (tmp_path / "images").rename(tmp_path.parent / f"{tmp_path.name}-away")
    for face in read(tmp_path, kind, "wflw").faces:
        assert face.image.is_relative_to(tmp_path / "images") and not face.image.exists()


def test_what_mmpose_skips(tmp_path):
    """A crowd and a face without keypoints; wflw2coco.py's files have no iscrowd at all."""
    truth = build("wflw", "mmpose", tmp_path)
    gone = []

    def change(data):
        first, second, *_ = data["annotations"]
        gone.extend([first["keypoints"][:2], second["keypoints"][:2]])
        first["iscrowd"] = 1
        second["keypoints"] = [0.0] * len(second["keypoints"])
        for annotation in data["annotations"]:
            if not annotation["iscrowd"]:
                annotation["is_crowd"] = annotation.pop("iscrowd")

    edit_json(tmp_path / "annotations/face_landmarks_wflw_train.json", change)
    labels = read(tmp_path, "mmpose", "wflw")
    assert not labels.bad
    assert_faces(labels.faces, [face for face in truth if face.points[0].tolist() not in gone])
    assert len(labels.faces) == len(truth) - 2


def test_a_point_with_v_0_is_not_labelled(tmp_path):
    build("wflw", "mmpose", tmp_path)

    def change(data):
        data["annotations"][0]["keypoints"][:3] = [0.0, 0.0, 0]

    edit_json(tmp_path / "annotations/face_landmarks_wflw_train.json", change)
    face = read(tmp_path, "mmpose", "wflw").faces[0]
    assert face.visible.tolist() == [0] + [2] * 97
    assert np.isnan(face.points[0]).all() and np.isfinite(face.points[1:]).all()


@pytest.mark.parametrize(
    "name, change, reason",
    [
        ("wflw", lambda a: a["keypoints"].pop(), "293 keypoint values instead of 294"),
        ("wflw", lambda a: a["keypoints"].__setitem__(4, "x"), "is not a number"),
        ("wflw", lambda a: a["keypoints"].__setitem__(4, None), "NaN or infinite"),
        ("wflw", lambda a: a["keypoints"].__setitem__(4, float("nan")), "NaN or infinite"),
        ("wflw", lambda a: a.update(keypoints=[5.0, 5.0, 1] * 98), "its points coincide"),
        ("wflw", lambda a: a.update(image_id=10**6), "image_id 1000000 is not among"),
        ("wflw", lambda a: a.update(image_id=[1]), "is not among"),
        ("cofw", lambda a: a.pop("bbox"), "it has no bbox"),
        ("cofw", lambda a: a.update(bbox=[1, 2, 0, 5]), "no size: 0 x 5"),
        ("aflw", lambda a: a.pop("center"), "its center is not two numbers"),
        ("aflw", lambda a: a.pop("box_size"), "its box is NaN"),
        ("aflw", lambda a: a.update(box_size=-3), "no size: -3"),
    ],
)
def test_bad_annotations(tmp_path, name, change, reason):
    truth = build(name, "mmpose", tmp_path)
    stem = "cofw" if name == "cofw" else f"face_landmarks_{name}"
    edit_json(tmp_path / f"annotations/{stem}_train.json", lambda data: change(data["annotations"][1]))
    labels = read(tmp_path, "mmpose", name)
    (bad,) = labels.bad
    assert bad.source == f"{stem}_train.json#2"
    assert reason in bad.reason
    assert len(labels.faces) == len(truth) - 1


@pytest.mark.parametrize("name", ["../images/0.jpg", "/etc/passwd", ""])
@BOTH
def test_a_name_that_leads_away(tmp_path, kind, name):
    build("aflw", kind, tmp_path)
    if kind == "mmpose":
        edit_json(
            tmp_path / "annotations/face_landmarks_aflw_test.json",
            lambda data: [image.update(file_name=name) for image in data["images"][:1]],
        )
    else:
        path = tmp_path / "face_landmarks_aflw_test.csv"
        lines = path.read_text().splitlines()
        lines[1] = ",".join([name, *lines[1].split(",")[1:]])
        path.write_text("\n".join(lines))
    bad = read(tmp_path, kind, "aflw").bad
    assert any("is not the name of a picture" in b.reason for b in bad)


@pytest.mark.parametrize(
    "text, error",
    [
        ('{"images": [],\n"annotations": [\n', r"face_landmarks_300w_train\.json:3: not JSON"),
        ("", r"face_landmarks_300w_train\.json:1: not JSON"),
        ("[]", "not COCO keypoints: its top level is no object"),
        ('{"images": []}', "not COCO keypoints: 'annotations' is missing"),
        ('{"images": [{"id": 1}], "annotations": []}', "'file_name' is missing"),
        ('{"images": [], "annotations": [3]}', "an annotation is no object"),
    ],
)
def test_broken_json(tmp_path, text, error):
    build("300w", "mmpose", tmp_path)
    (tmp_path / "annotations/face_landmarks_300w_train.json").write_text(text)
    with pytest.raises(PoposError, match=error):
        read(tmp_path, "mmpose", "300w")


@pytest.mark.parametrize(
    "name, columns, edit, reason",
    [
        ("300w", 140, lambda cells: cells[:-1], "139 columns instead of 140"),
        ("wflw", 200, lambda cells: [*cells, "1.0"], "201 columns instead of 200"),
        ("aflw", 43, lambda cells: cells[:2] + cells[3:], "42 columns instead of 43"),
        ("300w", 140, lambda cells: [*cells[:6], "x", *cells[7:]], "column 7: 'x' is not a number"),
        ("300w", 140, lambda cells: [*cells[:6], "", *cells[7:]], "column 7: '' is not a number"),
        ("wflw", 200, lambda cells: [*cells[:6], "nan", *cells[7:]], "column 7: 'nan' is NaN"),
        ("aflw", 43, lambda cells: [*cells[:2], "0.0", *cells[3:]], "no size: 0"),
    ],
)
def test_bad_rows_of_a_csv(tmp_path, name, columns, edit, reason):
    truth = build(name, "hrnet", tmp_path)
    path = tmp_path / f"face_landmarks_{name}_train.csv"
    lines = path.read_text().splitlines()
    assert {text.count(",") + 1 for text in lines} == {columns}
    lines[2] = ",".join(edit(lines[2].split(",")))
    path.write_text("\r\n".join([*lines, ""]))
    labels = read(tmp_path, "hrnet", name)
    (bad,) = labels.bad
    assert (bad.source, reason in bad.reason) == (f"face_landmarks_{name}_train.csv:3", True)
    assert len(labels.faces) == len(truth) - 1


@pytest.mark.parametrize("wrong", ["fewer", "empty"])
def test_a_csv_with_other_columns(tmp_path, wrong):
    build("aflw", "hrnet", tmp_path)
    path = tmp_path / "face_landmarks_aflw_train.csv"
    lines = path.read_text().splitlines()
    without = "\n".join(",".join(cells[:2] + cells[3:]) for cells in (text.split(",") for text in lines))
    path.write_text(without if wrong == "fewer" else "")
    with pytest.raises(PoposError) as raised:
        read(tmp_path, "hrnet", "aflw")
    found = 42 if wrong == "fewer" else 1
    assert f"{path}:1: {found} columns, but HRNet's labels of aflw have 43" in raised.value.message
    assert "box_size" in raised.value.hint


def test_the_header_of_a_csv_may_say_anything(tmp_path):
    truth = build("wflw", "hrnet", tmp_path)
    for path in tmp_path.glob("*.csv"):
        _, *lines = path.read_text().splitlines()
        path.write_text("\n".join([",".join(["?"] * 200), *lines]))
    assert_faces(read(tmp_path, "hrnet", "wflw").faces, truth)


def test_the_raw_download_comes_first_unless_it_is_less(tmp_path, monkeypatch):
    """All three lie below one root; a raw download of ibug alone is less than a whole conversion."""
    monkeypatch.setenv("POPOS_HOME", str(tmp_path / "home"))
    root = tmp_path / "root"
    truth = build("300w", "raw", root / "raw")
    for kind in KINDS:
        build("300w", kind, root / kind)
    labels, _ = find_labels("300w", root)
    assert labels.kind == "raw"
    for name in ("helen", "lfpw", "afw", "300W"):
        for path in (root / "raw" / name).rglob("*.pts"):
            path.unlink()
    labels, _ = find_labels("300w", root)
    assert labels.kind == "mmpose"
    assert_faces(labels.faces, truth)
