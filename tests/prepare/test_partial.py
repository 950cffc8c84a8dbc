"""Parts of a benchmark: how people have them, what is said to be missing, and what is refused even so."""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from trees import w300
from trees.common import assert_faces
from trees.sources import build

from popos_cli.core.choices import BENCHMARK_NAMES
from popos_cli.data.partial import described, mark, shortfall, shortfalls
from popos_cli.errors import PoposError
from popos_cli.prepare.assemble import assemble
from popos_cli.prepare.benchmarks import BENCHMARKS, find_benchmark
from popos_cli.prepare.parsing import read_pts
from popos_cli.prepare.splits import hold_back_photos


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch):
    monkeypatch.setenv("POPOS_HOME", str(tmp_path / "home"))


def prepare(root, name="300w"):
    """What is found of a part, once its pictures are read."""
    return assemble(name, find_benchmark(name, root, True, lambda line: None), "stored")


def index_of(root, name="300w"):
    found = prepare(root, name)
    assert not found.bad
    return found.index


@pytest.fixture
def truth(tmp_path):
    return w300.build_w300(tmp_path / "data")


def only(truth, *splits):
    return [face for face in truth if face.split in splits]


def moved(tmp_path, places):
    """A tree of some of the download's folders under other names."""
    root = tmp_path / "parts"
    for old, new in places.items():
        (root / new).parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(tmp_path / "data" / old, root / new)
    return root


def strip(root):
    """Every .pts loses all but its points."""
    for path in root.rglob("*.pts"):
        path.write_text(path.read_text().partition("{")[2].partition("}")[0].strip())


def test_some_folders_of_the_download(tmp_path, truth):
    """HELEN and LFPW without ibug, afw and the private set: common is whole, in drawn numbers."""
    root = moved(tmp_path, {"helen": "helen", "lfpw": "lfpw"})
    with pytest.raises(PoposError) as raised:
        find_benchmark("300w", root, False, lambda line: None)
    assert raised.value.message == (
        f"{root}: 300w is not complete: train: 4 of 3148 faces (helen/trainset 2 of 2000, lfpw/trainset 2 of "
        "811, afw 0 of 337); test: 2 of 689 faces (helen/testset 1 of 330, lfpw/testset 1 of 224, ibug 0 of "
        "135); nothing was written"
    )
    assert raised.value.hint.endswith(f"popos prepare-data 300w {root} --allow-partial.")
    index = index_of(root)
    assert index.notes["partial"] is True
    assert Counter(index.split.tolist()) == {"train": 4, "test": 2}
    assert shortfall(index, "test") == {
        "benchmark": "300w", "split": "test", "faces": 2, "of": 689,
        "parts": {"helen/testset": [1, 330], "lfpw/testset": [1, 224], "ibug": [0, 135]},
        "subsets": {"common": [2, 554], "challenging": [0, 135]},
    }  # fmt: skip
    assert shortfall(index, "val") == shortfall(index, "train")
    assert set(shortfalls(index)) == {"train", "test"}  # the private set is no part that everybody has


def test_without_test_faces_some_of_training_are_held_back(tmp_path, truth):
    index = index_of(moved(tmp_path, {"helen/trainset": "helen_train", "lfpw/trainset": "LFPW-trainset"}))
    assert index.splits == ("train",)
    index = hold_back_photos(index, 0.25, 0)
    assert Counter(index.split.tolist()) == {"train": 3, "val": 1}
    assert index.validation_split == "val"
    assert described(shortfalls(index)["test"]).startswith("test: 0 of 689 faces (helen/testset 0 of 330, ")


@pytest.mark.parametrize(
    "names",
    [
        ("helen_trainset", "helen_testset", "lfpw_trainset", "lfpw_testset"),
        ("helen/train", "helen/test", "LFPW/train", "LFPW/test"),
        ("train/helen", "test/helen", "trainset/lfpw68", "testset/lfpw68"),
        ("train/helen", "test/common/helen", "train/lfpw", "test/common/lfpw"),
    ],
)
def test_other_names_of_the_folders(tmp_path, truth, names):
    parts = ("helen/trainset", "helen/testset", "lfpw/trainset", "lfpw/testset")
    root = moved(tmp_path, {**dict(zip(parts, names, strict=True)), "afw": "train/afw", "ibug": "test/ibug"})
    source = find_benchmark("300w", root, True, lambda line: None)
    assert_faces(source.labels.faces, only(truth, "train", "test"))


def test_a_folder_above_root_says_nothing(tmp_path, truth):
    """/home/me/test/ is where somebody tries things out."""
    root = moved(tmp_path, {"helen/trainset": "test/helen"}) / "test"
    index = index_of(root)
    assert index.splits == ("train",)


def test_an_undivided_folder_is_training_with_a_warning(tmp_path, truth):
    root = moved(tmp_path, {"helen/trainset": "x/helen", "lfpw/testset": "lfpw/testset"})
    found = prepare(root)
    assert found.index.source.tolist()[0].startswith("helen/trainset/")
    (warning,) = [line for line in found.remarks if line.startswith("warning")]
    assert str(root / "x/helen") in warning and "test faces" in warning
    # Pictures of a divided one that lie beside its two folders are not read, which is said.
    shutil.copytree(root / "x/helen", root / "x/helen/trainset")
    remarks = prepare(root).remarks
    assert not any(line.startswith("warning") for line in remarks)
    assert any(
        line.startswith("2 .pts files were not read") and str(root / "x/helen") in line for line in remarks
    )


def test_points_alone(tmp_path, truth):
    """1-based, as in whole .pts files."""
    root = tmp_path / "data"
    shutil.rmtree(root / "300w_cropped")
    strip(root)
    assert_faces(find_benchmark("300w", root, True, lambda line: None).labels.faces, truth)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda lines: lines[:-1], ", and 67 points instead of 68"),
        (lambda lines: [*lines, "1 1"], ", and 69 points instead of 68"),
        (lambda lines: ["version: 1", *lines], ", and line 1: column 1: 'version:' is not a number"),
        (lambda lines: [*lines[:3], "7", *lines[4:]], ", and line 4: 1 values instead of x and y"),
        (lambda lines: [lines[0].replace(" ", ","), *lines[1:]], ", and line 1: 1 values instead of x and y"),
        (lambda lines: ["nan nan", *lines[1:]], ", and line 1: column 1: 'nan' is NaN or infinite"),
        (lambda lines: [*lines, "}"], ""),
        (lambda lines: [" "], ""),
    ],
)
def test_points_alone_and_something_else(tmp_path, change, reason):
    path = tmp_path / "a.pts"
    path.write_text("\n".join(change([f"{n} {n + 1}" for n in range(68)])))
    with pytest.raises(ValueError) as raised:
        read_pts(path, 68)
    assert str(raised.value) == f"no {{ }} block of points{reason}"


@pytest.mark.parametrize("kind", ["hrnet", "mmpose"])
@pytest.mark.parametrize(
    ("gone", "splits"),
    [
        (["train"], {"test", "private"}),
        (["train", "test"], {"test"}),
        (["valid", "test", "train"], {"test"}),  # its two subsets stand for it
        (["valid", "valid_common", "test"], {"train", "test"}),
        (["valid_common", "valid_challenge"], {"train", "test", "private"}),  # which the folders say, too
    ],
)
def test_some_of_the_label_files(tmp_path, kind, gone, splits):
    truth = build("300w", kind, tmp_path / "data")
    for word in gone:
        next((tmp_path / "data").rglob(f"face_landmarks_300w_{word}.*")).unlink()
    index = index_of(tmp_path / "data")
    assert set(index.splits) == splits
    subsets = {"challenging"} if {"valid", "valid_common"} <= set(gone) else {"common", "challenging"}
    expected = [f for f in only(truth, *splits) if f.split != "test" or set(f.subsets) & subsets]
    labels = find_benchmark("300w", tmp_path / "data", True, lambda line: None).labels
    assert_faces(labels.faces, expected)
    assert len(index) == len(expected)


def test_a_split_whose_subsets_are_unknown_is_not_whole(tmp_path, monkeypatch):
    """All 4 test faces are there, but not which of them have large poses."""
    build("wflw", "hrnet", tmp_path)
    (tmp_path / "face_landmarks_wflw_test_largepose.csv").unlink()
    labels = find_benchmark("wflw", tmp_path, True, lambda line: None).labels
    splits = Counter(face.split for face in labels.faces)
    subsets = Counter(subset for face in labels.faces for subset in face.subsets)
    official = replace(BENCHMARKS["wflw"], splits=splits, subsets={**subsets, "largepose": 1})
    monkeypatch.setitem(BENCHMARKS, "wflw", official)
    with pytest.raises(PoposError, match=r"test: \d+ of \d+ faces \(largepose 0 of 1\); nothing was written"):
        find_benchmark("wflw", tmp_path, False, lambda line: None)
    index = index_of(tmp_path, "wflw")
    assert index.notes["partial"] and set(shortfalls(index)) == {"test"}
    assert mark(shortfall(index, "test")) == ""


def test_subsets_that_share_faces_stand_for_the_test_file(tmp_path):
    """WFLW's: a face in several of them is there once."""
    truth = build("wflw", "hrnet", tmp_path)
    for word in ("train", "test"):
        (tmp_path / f"face_landmarks_wflw_{word}.csv").unlink()
    labels = find_benchmark("wflw", tmp_path, True, lambda line: None).labels
    assert_faces(labels.faces, [face for face in truth if face.subsets])


@pytest.mark.parametrize("name", BENCHMARK_NAMES)
def test_what_is_missing_is_counted_after_the_pictures_are_read(tmp_path, name):
    """A picture that is gone and one that does not decode; COCO's numbers are those of its label file."""
    build(name, "raw", tmp_path / "data")
    index = index_of(tmp_path / "data", name)
    training = dict.fromkeys(index.image[index.split == "train"].tolist())
    broken, absent = [index.root / image for image in training][:2]
    gone = {broken}
    broken.write_bytes(b"\xff\xd8\xff")
    if name != "cofw":  # whose pictures lie in its .mat
        absent.unlink()
        gone.add(absent)
    left = [
        split for image, split in zip(index.image.tolist(), index.split.tolist(), strict=True)
        if index.root / image not in gone
    ]  # fmt: skip
    found = index_of(tmp_path / "data", name)
    assert Counter(found.split.tolist()) == Counter(left)
    train = shortfall(found, "train")
    assert train["faces"] == left.count("train") < train["of"]


def test_more_faces_than_there_are_is_refused(tmp_path, truth):
    """Two copies of one training set in one folder, say."""
    root = tmp_path / "data"
    text = (root / "ibug/image_092.pts").read_text()
    for n in range(140):
        (root / f"ibug/image_{n}_{n}.pts").write_text(text)
        shutil.copy(root / "ibug/image_092.jpg", root / f"ibug/image_{n}_{n}.jpg")
    for allowed in (False, True):
        with pytest.raises(PoposError) as raised:
            find_benchmark("300w", root, allowed, lambda line: None)
        assert "more faces than 300w has: challenging: 144 of 135, ibug: 144 of 135" in raised.value.message


def test_a_copy_is_a_bad_row(tmp_path, truth):
    """On the other side of the split it would make figures too good."""
    root = tmp_path / "data"
    for ending in ("pts", "png"):
        shutil.copy(root / f"lfpw/testset/image_0198.{ending}", root / f"lfpw/trainset/image_0009.{ending}")
    (bad,) = prepare(root).bad
    assert str(bad) == "lfpw/testset/image_0198.pts: the same face as lfpw/trainset/image_0009.pts"


def test_no_picture_at_all(tmp_path):
    build("300w", "hrnet", tmp_path / "data")
    shutil.rmtree(tmp_path / "data/images")
    with pytest.raises(PoposError, match=r"no picture of 300w is there: .* pictures are missing, first"):
        find_benchmark("300w", tmp_path / "data", True, lambda line: None)


def test_labels_with_pictures_come_before_more_labels_without(tmp_path, truth):
    """HRNet's CSV files lie beside two folders of the download."""
    root = moved(tmp_path, {"ibug": "ibug"})
    build("300w", "hrnet", tmp_path / "hrnet")
    for path in Path(tmp_path / "hrnet").glob("*.csv"):
        shutil.copy(path, root)
    assert Counter(index_of(root).split.tolist()) == {"test": 4}
