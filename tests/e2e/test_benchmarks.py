"""Every benchmark from every kind of source: prepare, inspect, train, evaluate."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import pytest
from trees import coco, w300, wflw
from trees.sources import build

from popos_cli.data.index import index_path, read_index
from popos_cli.prepare.benchmarks import BENCHMARKS

PARTIAL = "--allow-partial"


@pytest.fixture
def prepared(popos, tmp_path):
    """Prepares a benchmark from a kind of source; returns its index and the truth."""

    def prepare(name, kind):
        truth = build(name, kind, tmp_path / "data")
        popos("prepare-data", name, "data", PARTIAL, "--val-fraction", "0").ok()
        return read_index(name), truth

    return prepare


@pytest.fixture
def prepare_coco(popos, tmp_path):
    """Prepares COCO's faces, which lie in ./coco, with flags."""
    coco.build_coco(tmp_path / "coco")
    return lambda *flags: popos("prepare-data", "coco-face", "coco", *flags)


def in_json(result):
    return result.ok().json


@pytest.mark.parametrize("name", BENCHMARKS)
def test_the_whole_way(popos, prepared, name):
    index, _ = prepared(name, "raw")
    assert in_json(popos("inspect", name, "--faces", "2", "--out", "sheet", "--json"))["dataset"] == name
    assert cv2.imread("sheet/faces.jpg") is not None
    trained = popos(
        "train", "--dataset", name, "--resolution", "4", "--gpus", "0", "--epochs", "1",
        "--batch-size", "4", "--set", "model.init=scratch", "--set", "workers=0", "--json",
    ).ok()  # fmt: skip
    assert trained.json["remark"] == "epoch selected on the test faces"
    assert "epoch selected on the test faces" in trained.err
    flags = ("--dataset", name, "--resolution", "4", "--workers", "0", "--no-flip-test", "--json")
    (result,) = in_json(popos("evaluate", *flags))["results"]
    test = index.of_split("test")
    assert (result["split"], result["faces"]) == ("test", len(test))
    assert result["remark"] == "epoch selected on these faces"
    assert result["normaliser"] == index.scheme.normaliser
    assert result["threshold"] == (0.07 if name == "aflw" else 0.10)
    expected = {s: int(n) for s, n in zip(test.subsets, test.subset.sum(0), strict=True)}
    assert {s: m["faces"] for s, m in result["subsets"].items()} == expected
    if partial := index.notes["partial"]:  # the counts of COCO's faces are published nowhere
        assert result["published"]["remark"].startswith(f"partial, {len(test)} of ")
        assert result["published"]["remark"].endswith(f"not comparable; trained on part of {name}")
        assert result["partial"] == index.notes["missing"]["test"]
        assert trained.json["partial"] == {s: index.notes["missing"][s] for s in ("train", "test")}
    else:
        assert result["published"]["remark"].endswith("not comparable")
        assert (result["partial"], trained.json["partial"]) == (None, {})
    assert result["trained_on_partial"] == index.notes["missing"].get("train")
    assert ("(partial, best" in trained.err) is partial
    with open(f"{trained.json['run']}/results.csv", newline="") as file:
        assert [row["partial"] for row in csv.DictReader(file)] == (["1"] if partial else ["0"])
    report = Path(result["run"], "report.html").read_text()
    assert (f"partial: {len(test)} of " in report) is partial


def test_the_private_set_is_a_split_of_its_own(popos, prepared, tmp_path):
    _, truth = prepared("300w", "raw")
    flags = ("--dataset", "300w", "--weights", "small", "--split", "private", "--no-flip-test", "--json")
    (result,) = in_json(popos("evaluate", *flags, "--workers", "0"))["results"]
    assert result["faces"] == sum(face.split == "private" for face in truth) == 4
    assert result["published"]["nme"] == 3.97
    popos("evaluate", "--dataset", "300w", "--weights", "small", "--no-flip-test", "--workers", "0").ok()
    run = tmp_path / "runs/eval-300w-8-2"
    results = json.loads((run / "metrics.json").read_text())["results"]
    assert set(results[0]["subsets"]) == {"common", "challenging"}
    assert "ibug/image_092 _01.pts" in (run / "per_face.csv").read_text()  # where the label stands


def test_all_benchmarks_below_one_root(popos, tmp_path):
    """One folder of downloads serves every command; training finds what is not prepared yet."""
    expected = {name: len(build(name, "raw", tmp_path / "data/deep/er" / name)) for name in BENCHMARKS}
    faces = {name: in_json(popos("prepare", name, "data", PARTIAL, "--json"))["faces"] for name in BENCHMARKS}
    assert faces == expected


def test_training_prepares_a_benchmark_below_a_known_root(popos, tmp_path):
    """`prepare-data 300w /data`, then `train --dataset coco-face`: its counts are published nowhere, so that
    what lies below /data is all of it."""
    w300.build_w300(tmp_path / "data/300w")
    coco.build_coco(tmp_path / "data/coco")
    popos("prepare-data", "300w", "data", PARTIAL).ok()
    flags = (
        "--resolution", "4", "--gpus", "0", "--epochs", "1", "--batch-size", "4", "--set",
        "model.init=scratch", "--set", "workers=0",
    )  # fmt: skip
    result = popos("train", "--dataset", "coco-face", *flags).ok()
    assert "prepared coco-face from" in result.err
    assert index_path("coco-face").exists()
    missing = popos("train", "--dataset", "wflw", *flags)
    assert missing.code == 1
    assert "popos prepare-data wflw ROOT" in missing.err


def test_expected_and_found(popos, tmp_path):
    """Half a download: a table of what there should be, one line, and the earlier index as it was."""
    wflw.build_wflw(tmp_path / "wflw")
    popos("prepare-data", "wflw", "wflw", PARTIAL).ok()
    before = index_path("wflw").read_bytes()
    result = popos("prepare-data", "wflw", "wflw")
    assert result.code == 1
    assert len(result.errors) == 1
    assert PARTIAL in result.err
    faces = len(wflw.wflw_truth())
    table = {line.split()[0]: line.split()[1:3] for line in result.err.splitlines() if line.endswith("<-")}
    assert table["train"][0] == "7500" and table["test"][0] == "2500" and table["blur"][0] == "773"
    assert int(table["train"][1]) + int(table["test"][1]) == faces
    assert index_path("wflw").read_bytes() == before


def test_too_many_gpus_are_refused_before_any_work(popos, tmp_path):
    coco.build_coco(tmp_path / "data/coco")
    w300.build_w300(tmp_path / "data/300w")
    popos("prepare-data", "300w", "data", PARTIAL).ok()
    result = popos("train", "--dataset", "coco-face", "--gpus", "99")
    assert result.code == 1
    assert "usable GPU" in result.errors[0]
    assert not index_path("coco-face").exists()


def test_what_is_missing_odd_or_undecodable_is_named(popos, tmp_path, prepare_coco):
    """A missing picture needs --allow-partial. A few that do not decode are left out, more are not."""
    pictures = sorted(tmp_path.glob("coco/val2017/*.jpg"))
    pictures[0].unlink()
    pictures[1].write_bytes(pictures[1].read_bytes()[:300])
    (labels,) = tmp_path.rglob("coco_wholebody_val_v1.0.json")
    data = json.loads(labels.read_text())
    for image in data["images"]:
        image["width"] += 2
    labels.write_text(json.dumps(data))
    assert prepare_coco().code == 1
    result = prepare_coco(PARTIAL, "--json").ok()
    assert result.json["partial"] is True and result.json["skipped"] > 0
    for said in ("pictures are missing, first", *(path.name for path in pictures[:2]), "another size"):
        assert said in result.err
    before, faces = index_path("coco-face").read_bytes(), result.json["faces"]
    for path in [*pictures[2:], *tmp_path.glob("coco/train2017/*.jpg")]:
        path.write_bytes(path.read_bytes()[:300])
    result = prepare_coco(PARTIAL)
    assert result.code == 1 and "rows are bad" in result.errors[0] and "truncated" in result.errors[0]
    assert index_path("coco-face").read_bytes() == before and faces


def test_an_epoch_selected_on_held_back_faces_is_not_marked(popos, prepare_coco, tmp_path):
    prepare_coco().ok()
    flags = ("--resolution", "4", "--gpus", "0", "--epochs", "1", "--batch-size", "2")
    scratch = ("--set", "model.init=scratch", "--set", "workers=0")
    trained = popos("train", "--dataset", "coco-face", *flags, *scratch, "--json").ok()
    assert (trained.json["selected_on"], trained.json["remark"]) == ("val", None)
    remarks = {}
    for split in ("test", "val", "train"):
        shown = popos("evaluate", "--dataset", "coco-face", "--split", split, "--workers", "0", "--json").ok()
        (result,) = shown.json["results"]
        remarks[split] = result["remark"]
    assert remarks == {
        "test": None, "val": "epoch selected on these faces", "train": "trained on these faces",
    }  # fmt: skip
    # Prepared anew as the papers have it: the same test faces, under another name too.
    prepare_coco("--val-fraction", "0", "--name", "other").ok()
    popos("train", "--dataset", "other", *flags, *scratch).ok()
    weights = ("--weights", "runs/other-4-1", "--workers", "0")
    table = popos("evaluate", "--dataset", "coco-face", "--split", "test", *weights).ok().out
    assert "] epoch selected on these faces" in table
    report = sorted(tmp_path.glob("runs/eval-coco-face-*/report.html"))[-1].read_text()
    assert "epoch selected on these faces" in report


def test_cached_crops_serve_training(popos, prepare_coco, tmp_path):
    """Training reads the crops alone; photos that have changed are refused all the same, and before it."""
    report = in_json(prepare_coco("--cache-crops", "--json"))
    assert len(list(Path(report["crops"]).glob("*.jpg"))) == report["faces"]
    flags = (
        "--dataset", "coco-face", "--resolution", "4", "--batch-size", "2", "--set", "model.init=scratch",
        "--set", "workers=0", "--epochs", "1", "--gpus", "0",
    )  # fmt: skip
    trained = popos("train", *flags)
    assert f"faces come from the crop cache: {report['crops']}" in trained.err
    assert "epoch 1:" in trained.err
    for path in tmp_path.glob("coco/*2017/*.jpg"):
        path.write_bytes(bytes(path.stat().st_size))
    refused = popos("train", *flags)
    assert refused.code == 1 and "epoch 1:" not in refused.err
    assert "changed since dataset 'coco-face' was prepared" in refused.errors[0]
    root = tmp_path / "coco"
    assert f"popos prepare-data coco-face {root} --cache-crops" in refused.err
    measured = popos("evaluate", "--dataset", "coco-face", "--weights", "small", "--workers", "0")
    assert measured.code == 1
    assert "not an image" in measured.errors[0]


def test_disk_full_while_caching(prepare_coco, tmp_path, monkeypatch):
    """The earlier index stays as it was, and the same call continues later."""
    prepare_coco("--val-fraction", "0.3").ok()
    before = index_path("coco-face").read_bytes()
    write = Path.write_bytes
    written = []

    def full(self, data):
        if self.suffix == ".jpg" and "crops" in self.parts:
            written.append(self)
            if len(written) > 3:
                raise OSError(28, "No space left on device")
        return write(self, data)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        result = prepare_coco("--cache-crops")
    assert result.code == 1
    assert "No space left on device" in result.errors[0]
    assert "Free some space" in result.err
    assert index_path("coco-face").read_bytes() == before
    crops = tmp_path / "home/crops/coco-face"
    assert not [path for path in crops.iterdir() if "tmp" in path.name]
    prepare_coco("--cache-crops").ok()
    assert len(list(crops.glob("*.jpg"))) == len(read_index("coco-face"))
