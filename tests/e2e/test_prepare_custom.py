"""prepare-data custom: labels of every kind become the same index, or every bad one is named."""

from __future__ import annotations

import csv
import json
import os
import shlex
import shutil
from dataclasses import dataclass

import cv2
import numpy as np
import pytest
from PIL import Image

from popos_cli.data.index import index_path, read_index

FACES = 8
NAMES = [f"{person}_{shot}.png" for person in ("ann", "bob", "cyd", "dan") for shot in (1, 2)]
COLUMNS = ("size", "points", "visible", "center", "side")
HEADER = ["image"] + [f"{axis}{n}" for n in range(68) for axis in "xy"]


@dataclass(frozen=True)
class Labelled:
    """Synthetic faces under other names: points (F, K, 2), rounded as a label file has them."""

    points: np.ndarray
    pictures: dict[str, bytes]


@pytest.fixture(scope="module")
def labelled(shop):
    with np.load(shop.home / "datasets/synthetic.npz") as data:
        points = np.round(data["points"][:FACES], 4)
        sources = [shop.pictures / str(image) for image in data["image"][:FACES]]
    encoded = [cv2.imencode(".png", cv2.imread(str(source)))[1].tobytes() for source in sources]
    return Labelled(points, dict(zip(NAMES, encoded, strict=True)))


def put_pictures(folder, labelled):
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in labelled.pictures.items():
        (folder / name).write_bytes(data)


def table(labelled, prefix=""):
    faces = zip(NAMES, labelled.points, strict=True)
    return [HEADER] + [[prefix + name, *map(repr, points.ravel().tolist())] for name, points in faces]


def write_csv(path, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return path


def write_pts(folder, labelled, base=1):
    for name, points in zip(NAMES, labelled.points, strict=True):
        lines = [f"{x!r} {y!r}" for x, y in (points + base).tolist()]
        text = "\n".join(["version: 1", f"n_points: {len(lines)}", "{", *lines, "}"]) + "\n"
        (folder / name).with_suffix(".pts").write_text(text)


def coco(labelled):
    images = [{"id": 7 + n, "file_name": name} for n, name in enumerate(NAMES)]
    annotations = [
        {"id": 100 + n, "image_id": 7 + n, "keypoints": np.c_[p, np.full(len(p), 2)].ravel().tolist()}
        for n, p in enumerate(labelled.points)
    ]
    return {"images": images, "annotations": annotations}


def write_coco(path, document):
    path.write_text(json.dumps(document))
    return path


@pytest.fixture
def folder(tmp_path, labelled):
    """ROOT: pictures and labels.csv."""
    put_pictures(tmp_path / "faces", labelled)
    write_csv(tmp_path / "faces/labels.csv", table(labelled))
    return tmp_path / "faces"


def assert_same_faces(index, other):
    assert [image.rpartition("/")[2] for image in index.image] == NAMES
    for column in COLUMNS:
        np.testing.assert_allclose(getattr(index, column), getattr(other, column), atol=1e-9, rtol=0)


def test_every_kind_of_label_gives_one_index(popos, tmp_path, labelled, folder):
    for kind in ("pts", "coco"):
        put_pictures(tmp_path / kind, labelled)
    write_pts(tmp_path / "pts", labelled)
    write_coco(tmp_path / "coco/anything.json", coco(labelled))
    for root in (folder, tmp_path / "pts", tmp_path / "coco"):
        document = popos("prepare-data", "custom", root, "--split-by", r"^(\w+)_\d", "--json").ok().json
        index = read_index(root.name)
        assert document == {
            "dataset": root.name, "index": str(index_path(root.name)), "scheme": "300w", "faces": FACES,
            "splits": {"train": 6, "val": 2}, "subsets": {}, "groups": 4, "skipped": 0, "points_outside": 0,
            "faces_with_points_outside": 0, "crops": None, "partial": False, "missing": {},
        }  # fmt: skip
        np.testing.assert_allclose(index.points, labelled.points, atol=1e-9, rtol=0)
        assert_same_faces(index, read_index("faces"))
        assert index.group.tolist() == [name[:3] for name in NAMES]
        assert index.split.tolist() == ["train"] * 6 + ["val"] * 2
        assert index.root == root
    assert read_index("faces").source.tolist() == [f"labels.csv:{n}" for n in range(2, FACES + 2)]
    assert read_index("pts").source.tolist() == [f"{name[:-4]}.pts" for name in NAMES]
    assert read_index("coco").source.tolist() == [f"anything.json#{n}" for n in range(100, 100 + FACES)]


def test_two_projects_with_a_folder_of_one_name(popos, tmp_path, folder):
    """The second does not replace the first by accident: index and crops stay as they were."""
    for project in ("one", "two"):
        shutil.copytree(folder, tmp_path / project / "data")
    crops = popos("prepare-data", "custom", "one/data", "--cache-crops", "--json").ok().json["crops"]
    first, cached = index_path("data").read_bytes(), sorted(os.listdir(crops))
    refused = popos("prepare-data", "custom", "two/data", "--cache-crops", "--crop-format", "png")
    assert refused.code == 1 and len(refused.errors) == 1
    assert str(tmp_path / "one/data") in refused.errors[0] and str(tmp_path / "two/data") in refused.errors[0]
    assert "--force" in refused.err and "--name" in refused.err
    assert index_path("data").read_bytes() == first and sorted(os.listdir(crops)) == cached
    popos("prepare-data", "custom", tmp_path / "two/../one/data").ok()  # the same again, named in another way
    popos("prepare-data", "custom", "two/data", "--force").ok()
    assert read_index("data").root == tmp_path / "two/data"
    index_path("data").write_bytes(first[:100])  # a damaged one has nothing to lose
    popos("prepare-data", "custom", "one/data").ok()


def test_the_command_that_prepares_it_again_is_known(popos, tmp_path, folder, monkeypatch):
    """With spaces and patterns, from wherever it is typed; --force and --json are not part of it."""
    moved = folder.rename(tmp_path / "my faces")
    flags = ("--split-by", r"^(\w+)_\d", "--val-fraction", "0.5", "--seed", "3", "--skip-bad", "--name", "x")
    popos("prepare-data", "custom", "my faces", *flags, "--force", "--json").ok()
    before = read_index("x")
    (moved / NAMES[0]).write_bytes((moved / NAMES[2]).read_bytes() + b"\0")
    refused = popos("inspect", "x")
    assert refused.code == 1 and str(moved / NAMES[0]) in refused.errors[0]
    _, _, command = refused.err.partition("prepare it again: ")
    monkeypatch.chdir("/")
    popos(*shlex.split(command)[1:]).ok()
    again = read_index("x")
    assert (again.split.tolist(), again.root) == (before.split.tolist(), moved)


def test_the_dataset_is_called_like_root(popos, tmp_path, folder, monkeypatch):
    """A folder, a file, or a link to one; also where its name is not typed."""
    (tmp_path / "mine").symlink_to(folder)
    (tmp_path / "theirs.csv").symlink_to(folder / "labels.csv")
    monkeypatch.chdir(folder)
    names = {"labels.csv": "labels", ".": "faces", tmp_path / "mine": "mine", "../theirs.csv": "theirs"}
    for root, name in names.items():
        assert popos("prepare-data", "custom", root, "--json").ok().json["dataset"] == name
        assert_same_faces(read_index(name), read_index("labels"))
    popos("prepare", "custom", f"{folder}/", "--name", "third").ok()
    assert read_index("third").root == folder


def test_bad_rows_are_named_and_nothing_is_written(popos, labelled, folder):
    """Ten by name, in both ways to end; --skip-bad leaves them out."""
    popos("prepare-data", "custom", folder).ok()
    good = index_path("faces").read_bytes()
    (folder / "torn.png").write_bytes(labelled.pictures[NAMES[0]][:5000])
    rows = [[f"gone_{n}.png", *table(labelled)[1][1:]] for n in range(24)]
    write_csv(folder / "labels.csv", [*table(labelled), *rows, ["torn.png", *table(labelled)[1][1:]]])
    for name in ("faces", "new"):
        result = popos("prepare-data", "custom", folder, "--name", name)
        assert result.code == 1 and "25 of 33 rows are bad (first: labels.csv:10: " in result.errors[0]
        assert "--skip-bad" in result.err
    assert index_path("faces").read_bytes() == good
    assert list(index_path("faces").parent.glob("[!.]*")) == [index_path("faces")]
    skipped = popos("prepare-data", "custom", folder, "--skip-bad", "--json").ok()
    assert (skipped.json["faces"], skipped.json["skipped"]) == (FACES, 25)
    for err in (result.err, skipped.err):
        named = [line.partition(": ")[0] for line in err.splitlines() if line.startswith("labels.csv:")]
        assert named == [f"labels.csv:{n}" for n in range(10, 20)]
        assert "and 15 more" in err.splitlines()
    np.testing.assert_allclose(read_index("faces").points, labelled.points, atol=1e-9)


def test_points_outside_the_picture_are_kept_and_counted(popos, labelled, folder):
    rows = table(labelled)
    rows[1][1] = "-0.6"  # x of point 0, left of the first pixel's edge
    rows[3][2 * 8 + 2] = "700"  # y of point 8, more than twice the picture below it
    rows[3][1] = "-0.4"  # still inside the first pixel
    write_csv(folder / "labels.csv", rows)
    document = popos("prepare-data", "custom", folder, "--json").ok().json
    assert (document["points_outside"], document["faces_with_points_outside"]) == (2, 2)
    points = read_index("faces").points
    assert points[0, 0, 0] == -0.6
    assert points[2, 8, 1] == 700
    text = popos("prepare-data", "custom", folder).ok().out
    assert "2 points of 2 faces lie outside" in text


SCHEME = """
name = "corners"
landmarks = 4
flip_pairs = [[0, 1], [2, 3]]
eye_corners = [0, 1]
threshold = 0.2
closed = ["mouth"]

[groups]
eyes = [0, 1]
mouth = [2, 3]
"""


def test_a_scheme_of_ones_own(popos, tmp_path, labelled, folder):
    """From its TOML file through training to what predict prints; the weights carry it."""
    (tmp_path / "corners.toml").write_text(SCHEME)
    chosen = labelled.points[:, [36, 45, 48, 54]]
    header = ["image"] + [f"{axis}{n}" for n in range(4) for axis in "xy"]
    rows = [[name, *points.ravel().tolist()] for name, points in zip(NAMES, chosen, strict=True)]
    write_csv(folder / "labels.csv", [header, *rows])
    document = popos("prepare-data", "custom", folder, "--scheme", "corners.toml", "--json").ok().json
    assert document["scheme"] == "corners"
    index = read_index("faces")
    assert index.scheme.landmarks == 4
    np.testing.assert_allclose(index.points, chosen, atol=1e-9)
    np.testing.assert_allclose(index.normalisers(), np.linalg.norm(chosen[:, 0] - chosen[:, 1], axis=1))
    (tmp_path / "corners.toml").unlink()
    popos(
        "train", "--dataset", "faces", "--resolution", "4", "--gpus", "0", "--epochs", "1", "--set",
        "workers=0", "--set", "model.init=scratch", "--out", "run",
    ).ok()  # fmt: skip
    (result,) = popos("evaluate", "--workers", "0", "--json").ok().json["results"]
    assert (result["weights"], result["threshold"]) == (str(tmp_path / "run"), 0.2)
    picture = folder / NAMES[0]
    found = popos("predict", picture, "--whole-image", "--weights", "run", "--json").ok().json
    assert found["scheme"] == "corners"
    assert len(found["images"][0]["faces"][0]["landmarks"]) == 4
    text = popos("predict", picture, "--whole-image", "--weights", "run", "--verbose").ok().out
    assert "eyes:" in text
    assert "mouth:" in text


def test_other_meanings_of_labels_are_flags(popos, tmp_path, labelled, folder):
    """Normalised ones are refused without theirs; a benchmark's are known."""
    index = popos("prepare-data", "custom", folder).ok() and read_index("faces")
    popos("prepare-data", "custom", folder, "--base", "1").ok()
    np.testing.assert_allclose(read_index("faces").points, labelled.points - 1, atol=1e-9)
    put_pictures(tmp_path / "pts", labelled)
    write_pts(tmp_path / "pts", labelled, base=0)
    popos("prepare-data", "custom", tmp_path / "pts", "--base", "0").ok()
    np.testing.assert_allclose(read_index("pts").points, labelled.points, atol=1e-9)
    rows = table(labelled)
    for row, size in zip(rows[1:], index.size, strict=True):
        row[1:] = (np.array(row[1:], float).reshape(-1, 2) / size).ravel().tolist()
    write_csv(folder / "labels.csv", rows)
    refused = popos("prepare-data", "custom", folder)
    assert refused.code == 1 and "popos expects pixels" in refused.errors[0] and "--normalised" in refused.err
    popos("prepare-data", "custom", folder, "--normalised").ok()
    assert_same_faces(read_index("faces"), index)
    for flags in (["--normalised"], ["--base", "0"], ["--split-by", "(a)"]):
        assert popos("prepare-data", "300w", folder, *flags).code == 2
    assert popos("prepare-data", "custom", folder, "--orientation", "exif").code == 2
    assert popos("prepare-data", "custom", folder, "--name", "x" * 300).code == 2


def test_pictures_turned_by_exif(popos, tmp_path, labelled, folder):
    """Labels made on what a person sees: a remark, and right with the flag."""
    popos("prepare-data", "custom", folder, "--name", "plain").ok()
    shutil.copytree(folder, tmp_path / "turned")
    exif = Image.Exif()
    exif[0x0112] = 8  # stored turned by a quarter to the right
    for name in NAMES:
        stored = Image.open(tmp_path / "turned" / name).transpose(Image.Transpose.ROTATE_270)
        stored.save(tmp_path / "turned" / name, exif=exif)
    result = popos("prepare-data", "custom", tmp_path / "turned").ok()
    assert "8 of the pictures have an EXIF orientation" in result.err
    flags = ("--orientation", "upright", "--cache-crops", "--crop-format", "png")
    crops = popos("prepare-data", "custom", tmp_path / "turned", *flags, "--json").ok().json["crops"]
    assert_same_faces(read_index("turned"), read_index("plain"))
    assert sum(name.endswith(".png") for name in os.listdir(crops)) == FACES
