"""mmpose's JSON and HRNet's CSV tell the same faces as the downloads that they were made from."""

from __future__ import annotations

import json

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


def test_the_private_folders_may_lie_elsewhere_than_the_labels_say(tmp_path):
    truth = build("300w", "hrnet", tmp_path)
    (tmp_path / "images/Test").rename(tmp_path / "images/300W")
    faces = read(tmp_path, "hrnet", "300w").faces
    assert_faces(faces, truth)
    assert all(face.image.is_file() for face in faces)
