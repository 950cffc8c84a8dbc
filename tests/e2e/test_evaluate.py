"""popos evaluate over datasets, resolutions and subsets: the table, the JSON and the run folder."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

import popos_cli
from popos_cli.data.index import read_index, write_index
from popos_cli.evaluate import run as evaluate_run

QUICK = ("--workers", "0", "--no-flip-test")


@pytest.fixture
def benchmark_300w(synthetic):
    """Drawn faces that say they were 300W's: test faces in two subsets, private ones, and training ones."""
    faces = read_index(synthetic)
    split = np.array(["test"] * 4 + ["private"] * 2 + ["train"] * (len(faces) - 6))
    subset = np.zeros((len(faces), 3), bool)
    subset[[0, 1, 2], 0] = True
    subset[3, 1] = True
    names = ("common", "challenging", "empty")
    notes = {"benchmark": "300w", "partial": True}
    write_index(replace(faces, name="300w", split=split, subset=subset, subsets=names, notes=notes))


def table(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_sweep_is_one_table_and_one_folder(popos, trained, benchmark_300w, tmp_path):
    result = popos("eval", "--resolution", "all", "--decoder", "ml", "--decoder", "one-hot", *QUICK).ok()
    run = tmp_path / "runs/eval-all-all-1"
    assert [p.name for p in run.parent.iterdir()] == [run.name]
    results = json.loads((run / "metrics.json").read_text())["results"]
    # The run is of "synthetic" and stays with it; bundled weights fit both.
    assert [(r["dataset"], r["split"], r["resolution"], r["decoder"], r["weights"]) for r in results] == [
        (dataset, split, resolution, decoder, weights)
        for dataset, split, sizes in (
            ("300w", "test", ((16, "default"), (8, "small"), (4, "tiny"))),
            ("synthetic", "val", ((16, "default"), (8, "small"), (4, str(trained)))),
        )
        for resolution, weights in sizes
        for decoder in ("ml", "one-hot")
    ]
    assert {r["run"] for r in results} == {"runs/eval-all-all-1"}
    nme = {(r["dataset"], r["resolution"], r["decoder"]): r["nme"] for r in results}
    assert nme["300w", 16, "ml"] < nme["300w", 8, "ml"] < nme["300w", 8, "one-hot"]
    for r in results:
        assert f"{r['nme']:.3f}" in result.out
    titles = [line for line in result.out.splitlines() if "in % of inter-ocular" in line]
    assert [title.split(":")[0] for title in titles] == ["300w test", "synthetic val"]
    table_lines = [line.rstrip() for line in result.out.splitlines() if not line.startswith("[")]  # notes
    assert max(map(len, table_lines)) <= 80
    errors = table(run / "per_face.csv")
    assert len(errors) == 4 * 6 + 6 * 6
    order = [float(row["nme_percent"]) for row in errors]
    assert order == sorted(order, reverse=True)
    assert {row["subsets"] for row in errors if row["dataset"] == "300w"} == {"common", "challenging"}
    settings = json.loads((run / "settings.json").read_text())
    assert settings["resolution"] == "all"
    assert [one["resolution"] for one in settings["evaluated"]] == [16, 8, 4, 16, 8, 4]
    # Two panels below each other.
    height, width, _ = cv2.imread(str(run / "ced.png")).shape
    assert height > 1.2 * width


def test_the_report_is_one_file_with_the_folders_pictures(popos, benchmark_300w, tmp_path):
    popos("eval", "--dataset", "300w", "--weights", "small", "--out", "told", *QUICK).ok()
    page = (tmp_path / "told/report.html").read_text(encoding="utf-8")
    assert not re.search(r"href=|<script|<link|http", page)
    pictures = [base64.b64decode(data) for data in re.findall(r'src="data:image/\w+;base64,([^"]*)"', page)]
    assert page.count("src=") == 2 + 4  # faces
    sheet = tmp_path / "told/worst/300w-test-8-ml.jpg"
    assert pictures[:2] == [(tmp_path / "told" / name).read_bytes() for name in ("ced.png", "groups.png")]
    assert cv2.imread(str(sheet)).shape == (24 + 320 + 18, 4 * 320, 3)  # four faces: one row
    worst = [row["image"] for row in table(tmp_path / "told/per_face.csv")]
    places = [page.index(f"</b> {image}<br>") for image in worst]
    assert places == sorted(places)


def test_a_report_says_what_was_measured_and_names_no_folder(popos, trained, home, tmp_path):
    copy = tmp_path / "some weights.safetensors"
    shutil.copy(trained / "best.safetensors", copy)
    out = tmp_path / "told"
    popos(
        "eval", "--dataset", "synthetic", "--weights", copy, "--weights", trained, "--out", out, *QUICK
    ).ok()
    page = re.sub(r'src="[^"]*"', "", (out / "report.html").read_text(encoding="utf-8"))
    assert hashlib.sha256(copy.read_bytes()).hexdigest() in page
    assert "popos eval --dataset synthetic --weights &#x27;some weights.safetensors&#x27;" in page
    assert f"<dd>{popos_cli.__version__}</dd>" in page and "synthetic val: 6 faces" in page
    for folder in (tmp_path, home, Path.home(), read_index("synthetic").root):
        assert str(folder) not in page
    told = re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    assert not re.search(r"""[\s"'(=]/\w""", re.sub(r"<[^>]*>", " ", told))


def test_published_figures_beside_ours(popos, benchmark_300w):
    flags = ("--dataset", "300w", "--weights", "small", *QUICK)
    (found,) = popos("evaluate", *flags, "--json").ok().json["results"]
    row = found["published"]
    assert (row["nme"], row["resolution"], row["decoder"]) == (3.37, 64, "two-hot")
    assert row["difference"] == pytest.approx(found["nme"] - 3.37)
    assert row["remark"] == "partial, 4 of 689 faces: not comparable; trained on part of 300w"
    assert set(found["subsets"]) == {"common", "challenging"}
    common, challenging = found["subsets"]["common"], found["subsets"]["challenging"]
    assert (common["faces"], challenging["faces"]) == (3, 1)
    assert found["nme"] == pytest.approx((3 * common["nme"] + challenging["nme"]) / 4)
    assert common["published"]["nme"] == 2.86
    assert (
        challenging["published"]["remark"]
        == "partial, 1 of 135 faces: not comparable; trained on part of 300w"
    )
    lines = popos("evaluate", *flags).ok().out.splitlines()
    at = next(n for n, line in enumerate(lines) if line.startswith("  common"))
    beside = " ".join(lines[at + 1 : at + 5])
    assert beside.split()[0] == "published:" and "HRNetV2-W18" in beside and "2.86" in beside
    assert f"{common['nme'] - 2.86:+.3f}" in beside
    notes = {line.split("] ", 1)[1] for line in lines if line.startswith("[")}
    assert "partial, 3 of 554 faces: not comparable; trained on part of 300w" in notes
    assert "MMPose model zoo, v0.29.0" in notes
    (private,) = popos("evaluate", *flags, "--split", "private", "--json").ok().json["results"]
    assert (private["split"], private["faces"], private["subsets"]) == ("private", 2, {})
    assert private["published"]["nme"] == 3.97
    assert (
        private["published"]["remark"] == "partial, 2 of 600 faces: not comparable; trained on part of 300w"
    )
    (train,) = popos("evaluate", *flags, "--split", "train", "--json").ok().json["results"]
    assert train["published"] is None


def test_pooled_over_points(popos, synthetic, tmp_path):
    """Half of the landmarks of half of the faces are not labelled."""
    index = read_index(synthetic)
    visible, points = index.visible.copy(), index.points.copy()
    hidden = [k for k in range(0, 68, 2) if k != 36]  # eye corners stay
    visible[::2, hidden] = 0
    points[visible == 0] = np.nan
    write_index(replace(index, visible=visible, points=points))
    flags = ("--dataset", synthetic, "--weights", "small", *QUICK, "--json")
    (face,) = popos("evaluate", *flags, "--out", "face").ok().json["results"]
    (pooled,) = popos("evaluate", *flags, "--averaging", "pooled", "--out", "pooled").ok().json["results"]
    assert (face["averaging"], pooled["averaging"]) == ("face", "pooled")
    count = dict(zip(index.image, (visible > 0).sum(1), strict=True))
    errors = [(float(r["nme_percent"]), count[r["image"]]) for r in table(tmp_path / "face/per_face.csv")]
    assert {n for _, n in errors} == {35, 68}
    error, points_of = map(np.array, zip(*errors, strict=True))
    assert face["nme"] == pytest.approx(error.mean(), abs=1e-4)
    assert pooled["nme"] == pytest.approx((error * points_of).sum() / points_of.sum(), abs=1e-4)
    assert abs(face["nme"] - pooled["nme"]) > 1e-3
    assert all(face[key] == pooled[key] for key in ("faces", "failure_rate", "auc"))
    assert (tmp_path / "pooled/per_face.csv").read_text() == (tmp_path / "face/per_face.csv").read_text()


def test_other_datasets_are_passed_over_aloud(popos, trained, tmp_path):
    popos("prepare-data", "synthetic", "drawn", "--count", "4", "--name", "drawn", "--scheme", "wflw").ok()
    result = popos("eval", "--resolution", "4", *QUICK, "--json").ok()
    assert [r["dataset"] for r in result.json["results"]] == ["synthetic"]
    assert "passed over: no weights at resolution 4 fit drawn" in result.err
    assert (tmp_path / "runs/eval-all-4-1/report.html").exists()


def test_no_face_that_can_be_measured(popos, synthetic, tmp_path):
    index = read_index(synthetic)
    points = index.points.copy()
    points[:, 45] = points[:, 36]
    write_index(replace(index, points=points))
    result = popos("evaluate", "--dataset", synthetic, "--weights", "small", *QUICK)
    assert result.code == 1
    assert "no face of split val can be measured" in result.errors[0]
    assert not (tmp_path / "runs").exists()


def test_the_run_folder_is_not_taken_twice(popos, synthetic, tmp_path):
    flags = ("evaluate", "--dataset", synthetic, "--weights", "small", *QUICK)
    popos(*flags, "--out", "here").ok()
    before = (tmp_path / "here/metrics.json").stat().st_mtime_ns
    result = popos(*flags, "--out", "here")
    assert result.code == 1
    assert "here exists already" in result.errors[0]
    assert (tmp_path / "here/metrics.json").stat().st_mtime_ns == before


def test_several_weights_and_datasets_are_one_report(popos, trained, benchmark_300w, tmp_path):
    flags = ("--dataset", "synthetic", "--dataset", "300w", "--weights", "small", "--weights", str(trained))
    result = popos("evaluate", *flags, "--decoder", "ml", *QUICK, "--json").ok()
    found = {(r["dataset"], r["weights"]): r for r in result.json["results"]}
    assert list(found) == [(d, w) for d in ("synthetic", "300w") for w in ("small", str(trained))]
    assert {r["run"] for r in found.values()} == {"runs/eval-all-all-1"}
    for (dataset, weights), both in found.items():
        flags = ("--dataset", dataset, "--weights", weights, "--decoder", "ml")
        (alone,) = popos("evaluate", *flags, *QUICK, "--json").ok().json["results"]
        assert {**alone, "run": None} == {**both, "run": None}
    page = (tmp_path / "runs/eval-all-all-1/report.html").read_text()
    assert page.count("src=") == 2 + 2 * (3 + 2)  # half of the six and of the four faces, of both weights


def test_weights_of_one_resolution_keep_their_sheets_apart(popos, trained, shop, tmp_path):
    shutil.copy(trained / "best.safetensors", tmp_path / "again.safetensors")
    flags = ("--dataset", "synthetic", "--weights", trained, "--weights", "again.safetensors", *QUICK)
    popos("evaluate", *flags, "--out", "told").ok()
    assert len(list((tmp_path / "told/worst").iterdir())) == 2


def test_a_dataset_that_fails_does_not_lose_the_others(popos, trained, benchmark_300w, home, tmp_path):
    torn = tmp_path / "torn"
    shutil.copytree(read_index("synthetic").root, torn)
    index = read_index("300w")
    write_index(replace(index, root=torn))
    for image in index.of_split("test").image[:1]:
        (torn / str(image)).write_bytes((torn / str(image)).read_bytes()[:200])
    flags = ("--weights", "small", *QUICK)
    result = popos("evaluate", *flags, "--json")
    assert result.code == 1
    (failure,) = result.json["failures"]
    assert (failure["dataset"], failure["split"], failure["weights"]) == ("300w", "test", "small")
    assert "truncated" in failure["message"]
    assert [r["dataset"] for r in result.json["results"]] == ["synthetic"]
    (line,) = result.errors
    assert "300w test 8 small" in line and str(index.of_split("test").image[0]) in line
    run = tmp_path / "runs/eval-all-8-1"
    assert json.loads((run / "metrics.json").read_text()) == result.json
    assert "300w test, small: " in (run / "report.html").read_text()
    text = popos("evaluate", *flags)
    assert text.code == 1 and f"{result.json['results'][0]['nme']:.3f}" in text.out
    alone = popos("evaluate", "--dataset", "300w", *flags, "--json")
    assert alone.code == 1 and "truncated" in alone.json["error"]["message"]


def test_figures_outlive_their_pictures_and_their_folder(popos, synthetic, tmp_path, monkeypatch):
    def fail(*_):
        raise ValueError("no font")

    flags = ("evaluate", "--dataset", synthetic, "--weights", "small", *QUICK, "--json")
    monkeypatch.setattr(evaluate_run, "save_ced", fail)
    result = popos(*flags).ok()
    run = tmp_path / result.json["results"][0]["run"]
    assert json.loads((run / "metrics.json").read_text()) == result.json
    assert {path.name for path in run.iterdir()} == {
        "metrics.json", "settings.json", "per_face.csv", "worst", "report.html", "groups.png"
    }  # fmt: skip
    assert f"no {run.relative_to(tmp_path)}/ced.png: ValueError: no font" in result.err
    assert "cumulative error curves: not drawn" in (run / "report.html").read_text()
    # A folder that cannot be made is a failure, but the figures are there.
    shutil.rmtree(tmp_path / "runs")
    (tmp_path / "runs").write_text("")
    lost = popos(*flags)
    assert lost.code == 1 and "cannot create runs/eval-synthetic-8-1" in lost.errors[0]
    assert lost.json["results"][0]["nme"] == result.json["results"][0]["nme"]
