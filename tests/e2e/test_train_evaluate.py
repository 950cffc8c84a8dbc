"""From pictures to a number: prepare, train, stop and resume, evaluate, fine-tune."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import tomllib

import cv2
import numpy as np
import pytest
import torch
from run_folders import assert_same_run, rows
from safetensors.torch import load_file

from popos_cli.home import remember
from popos_cli.train.load import dump_toml, load_train_settings
from popos_cli.weights.find import load
from popos_cli.weights.format import read_info

RUN_FILES = {
    "settings.toml", "results.csv", "metrics.jsonl", "curves.png", "best.safetensors", "last.safetensors",
    "state.ckpt", "state.previous.ckpt",
}  # fmt: skip
RESULT_KEYS = {
    "dataset", "split", "weights", "resolution", "decoder", "faces", "nme", "normaliser",
    "failure_rate", "auc", "threshold", "averaging", "flip_test", "subsets",
}  # fmt: skip


def files(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_run_folder_is_complete(shop):
    assert {path.name for path in shop.run.iterdir()} == RUN_FILES
    assert cv2.imread(str(shop.run / "curves.png")) is not None
    table = rows(shop.run / "results.csv")
    assert [float(row["epoch"]) for row in table] == [1, 2, 3]
    assert float(table[-1]["loss"]) < float(table[0]["loss"])
    best = min(float(row["val_nme"]) for row in table)
    assert float(table[-1]["best_nme"]) == best
    info = read_info(shop.run / "best.safetensors")
    assert (info.resolution, info.scheme, info.training["dataset"]) == (4, "300w", "synthetic")
    assert info.training["val_nme"] == pytest.approx(best, rel=1e-5)


def test_training_reports_the_run(shop):
    document = shop.log.json
    assert document["run"] == "runs/synthetic-4-1"
    assert document["weights"] == "runs/synthetic-4-1/best.safetensors"
    assert (document["dataset"], document["resolution"], document["epochs"]) == ("synthetic", 4, 3)
    assert document["val_nme"] == pytest.approx(float(rows(shop.run / "results.csv")[-1]["best_nme"]), 1e-5)
    assert "starting from scratch" in shop.log.err
    assert shop.log.err.count("validation NME") == 3


def test_prepared_data_keep_their_place(shop):
    """ROOT holds the pictures alone, and POPOS_HOME remembers it and the run."""
    assert {path.name for path in shop.pictures.iterdir()} == {"images"}
    names = {path.name for path in (shop.pictures / "images").iterdir()}
    assert names == {"labels.csv", *(f"face_{n:05}.jpg" for n in range(24))}
    registry = json.loads((shop.home / "registry.json").read_text())
    assert registry == {"roots": [str(shop.pictures)], "runs": [str(shop.run)]}


def test_settings_of_a_run_start_an_equal_one(popos, shop):
    text = (shop.run / "settings.toml").read_text()
    assert tomllib.loads(text)["model"]["resolution"] == 4
    assert popos("train", "--config", shop.run / "settings.toml", "--dry-run").ok().out == text


def test_dry_run_only_prints(popos, tmp_path):
    flags = ("--dataset", "synthetic", "--epochs", "7", "--set", "augment.flip=0.25")
    result = popos("train", *flags, "--dry-run").ok()
    assert result.err == ""
    assert list(tmp_path.iterdir()) == []
    expected = load_train_settings("synthetic", None, ["augment.flip=0.25", "schedule.epochs=7"], {}, {})
    assert result.out == dump_toml(expected)
    document = popos("train", *flags, "--dry-run", "--json").ok().json
    assert document == expected.model_dump(mode="json")


def test_ctrl_c_in_a_terminal_and_resuming(synthetic, shop, environment, popos, tmp_path):
    """The signal goes to the loader processes too; the resumed run equals an uninterrupted one."""
    earlier = tmp_path / "runs/synthetic-4-1"
    earlier.mkdir(parents=True)
    (earlier / "notes.txt").write_text("kept")
    process = subprocess.Popen(
        [sys.executable, "-m", "popos_cli", *shop.train, "--set", "workers=2"],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        log = ""
        while "epoch 1:" not in log:
            line = process.stderr.readline()
            assert line, log
            log += line
        os.killpg(process.pid, signal.SIGINT)
        out, rest = process.communicate(timeout=300)
    finally:
        process.kill()
        process.wait()
    log += rest
    assert process.returncode == 130, log
    assert out == ""
    assert "Traceback" not in log
    assert log.count("popos train --resume runs/synthetic-4-2") == 1
    assert log.splitlines()[-1] == "error: interrupted"
    assert files(earlier) == {"notes.txt": b"kept"}
    run = tmp_path / "runs/synthetic-4-2"
    assert len(rows(run / "results.csv")) < 3
    assert cv2.imread(str(run / "curves.png")) is not None
    popos("train", "--resume", "runs/synthetic-4-2", "--set", "workers=0").ok()
    assert_same_run(run, shop.run)
    assert sorted(p.name for p in (tmp_path / "runs").iterdir()) == ["synthetic-4-1", "synthetic-4-2"]


def interrupting(function, call):
    """`function`, but in its `call`-th call Ctrl-C is pressed once its work is done."""
    calls = 0

    def wrapped(*arguments, **options):
        nonlocal calls
        result = function(*arguments, **options)
        calls += 1
        if calls == call:
            signal.raise_signal(signal.SIGINT)
        return result

    return wrapped


@pytest.mark.parametrize(
    ("where", "call"),
    [
        ("torch.optim.AdamW.step", 2),  # the weights have moved, the step is not yet counted
        ("popos_cli.evaluate.measure.to_model_input", 3),  # the validation after the last epoch
        ("popos_cli.train.trainer.load_state", 1),  # before the first step
    ],
)
def test_ctrl_c_at_a_bad_moment(popos, synthetic, shop, home, tmp_path, monkeypatch, where, call):
    """Exit codes stay what they are where the list of runs is broken."""
    (home / "registry.json").mkdir()
    module, _, name = where.rpartition(".")
    with monkeypatch.context() as patch:
        owner = torch.optim.AdamW if name == "step" else sys.modules[module]
        patch.setattr(owner, name, interrupting(getattr(owner, name), call))
        stopped = popos(*shop.train, "--out", "run", "--json")
    assert stopped.code == 130
    assert stopped.json == {"error": {"message": "interrupted", "hint": None}}
    assert "popos train --resume run" in stopped.err
    assert popos("train", "--resume", "run").ok()
    assert_same_run(tmp_path / "run", shop.run)


def test_resuming_a_finished_run_changes_nothing(popos, synthetic, shop, tmp_path):
    run = shutil.copytree(shop.run, tmp_path / "run")
    before = files(run)
    document = popos("train", "--resume", run, "--json").ok().json
    assert document["val_nme"] == pytest.approx(shop.log.json["val_nme"])
    after = files(run)
    assert {name for name in before if after[name] != before[name]} <= {"curves.png", "last.safetensors"}
    assert_same_run(run, shop.run)


@pytest.mark.parametrize("flag", ["--dataset=synthetic", "--resolution=4", "--out=x", "--config=x.toml"])
def test_a_resumed_run_keeps_its_settings(popos, shop, flag):
    result = popos("train", "--resume", shop.run, flag)
    assert result.code == 2
    assert flag.partition("=")[0] in result.errors[0]


def test_evaluate_json_to_the_letter(popos, trained):
    result = popos("evaluate", "--dataset", "synthetic", "--weights", trained, "--workers", "0", "--json")
    document = result.ok().json
    assert result.err == ""
    assert set(document) == {"results"}
    (found,) = document["results"]
    assert set(found) >= RESULT_KEYS
    expected = {
        "dataset": "synthetic", "split": "val", "weights": str(trained), "resolution": 4, "decoder": "ml",
        "faces": 6, "normaliser": "inter-ocular", "threshold": 0.1, "averaging": "face",
        "flip_test": True, "subsets": {}, "boxes": "truth", "missed": 0, "published": None,
    }  # fmt: skip
    assert {key: found[key] for key in expected} == expected
    assert found["nme"] > 0
    assert 0 <= found["failure_rate"] <= 100
    assert 0 <= found["auc"] <= 100


def test_evaluate_writes_what_it_found(popos, trained, tmp_path):
    result = popos(
        "evaluate", "--dataset", "synthetic", "--weights", trained, "--workers", "0", "--split", "train",
        "--threshold", "0.6", "--decoder", "ml", "--decoder", "one-hot", "--no-flip-test",
    ).ok()  # fmt: skip
    run = tmp_path / "runs/eval-synthetic-4-1"
    assert {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()} == {
        "metrics.json", "per_face.csv", "ced.png", "groups.png", "settings.json", "report.html",
        "worst/synthetic-train-4-ml.jpg", "worst/synthetic-train-4-one-hot.jpg",
    }  # fmt: skip
    results = json.loads((run / "metrics.json").read_text())["results"]
    assert [r["decoder"] for r in results] == ["ml", "one-hot"]
    assert results[0]["nme"] != results[1]["nme"]
    table = rows(run / "per_face.csv")
    errors = [float(row["nme_percent"]) for row in table]
    assert errors == sorted(errors, reverse=True)
    for r in results:
        assert (r["faces"], r["split"], r["threshold"], r["flip_test"]) == (18, "train", 0.6, False)
        own = np.array([float(row["nme_percent"]) for row in table if row["decoder"] == r["decoder"]])
        assert own.mean() == pytest.approx(r["nme"], abs=1e-4)
        assert (own > 60).mean() * 100 == pytest.approx(r["failure_rate"])
        assert f"{r['nme']:.3f}" in result.out
    assert len({row["image"] for row in table}) == 18
    assert {row["source"].split(":")[0] for row in table} == {"synthetic"}
    assert cv2.imread(str(run / "ced.png")) is not None
    assert "flip test off" in result.out
    assert "NME in % of inter-ocular, failure (FR) above 60 %" in result.out


def test_evaluate_picks_weights_that_fit(popos, trained, tmp_path):
    """Own runs of that dataset first, the newest one; then the bundled ones."""
    popos("prepare-data", "synthetic", "drawn", "--count", "4", "--name", "drawn", "--scheme", "wflw").ok()

    def picked(*flags):
        results = popos("eval", *flags, "--workers", "0", "--json").ok().json["results"]
        return [(r["dataset"], r["weights"], r["resolution"]) for r in results]

    # No weights know the scheme of "drawn": it is passed over.
    assert picked() == [("synthetic", str(trained), 4)]
    later = shutil.copytree(trained, tmp_path / "later")
    remember("runs", later)
    assert picked("--resolution", "4") == [("synthetic", str(later), 4)]
    ((dataset, weights, resolution),) = picked("--resolution", "8")
    assert (dataset, resolution) == ("synthetic", 8)
    assert weights in ("default", "small")


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_a_picture_that_has_gone(popos, tmp_path, command, workers):
    """Named in one line, also where a loader process misses it."""
    popos("prepare-data", "synthetic", "pictures", "--count", "4").ok()
    for picture in (tmp_path / "pictures/images").iterdir():
        picture.unlink()
    sets = ("--set", "model.init=scratch", "--set", f"workers={workers}")
    flags = {
        "train": ("--gpus", "0", "--resolution", "4", *sets),
        "evaluate": ("--weights", "small", "--workers", workers),
    }[command]
    result = popos(command, "--dataset", "synthetic", *flags)
    assert result.code == 1
    assert "Traceback" not in result.err
    assert len(result.errors) == 1
    gone = "are missing, first " if command == "train" else ".jpg: no such file"  # before any work, or in it
    assert gone in result.errors[0]
    if command == "evaluate":  # an empty run folder would be taken for a run
        assert not (tmp_path / "runs").exists()


@pytest.fixture
def photos(popos, tmp_path, astronaut, hopper):
    """Dataset "photos": copies of both photos, labelled with what predict finds, and one upside down, which
    the detector cannot find. The last three by name are for validation."""
    folder = tmp_path / "photos"
    folder.mkdir()
    shutil.copy(astronaut, folder / "a1.jpg")
    shutil.copy(astronaut, folder / "a2.jpg")
    shutil.copy(hopper, folder / "b1.jpg")
    shutil.copy(hopper, folder / "b2.jpg")
    images = popos("predict", folder, "--json").ok().json["images"]
    labels = {image["source"].rpartition("/")[2]: image["faces"][0]["landmarks"] for image in images}
    cv2.imwrite(str(folder / "c.png"), cv2.imread(str(hopper))[::-1, ::-1])
    labels["c.png"] = (np.array([511, 599]) - labels["b1.jpg"]).tolist()
    header = ["image"] + [f"{axis}{n}" for n in range(68) for axis in "xy"]
    with (folder / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *([name, *np.ravel(p)] for name, p in labels.items())])
    popos("prepare-data", "custom", folder, "--val-fraction", "0.6").ok()
    return "photos"


def test_evaluate_as_predict_sees_it(popos, photos):
    flags = ("--dataset", photos, "--weights", "default", "--no-flip-test", "--workers", "0")
    (found,) = popos("evaluate", *flags, "--boxes", "detector", "--json").ok().json["results"]
    assert (found["boxes"], found["detector"], found["faces"], found["missed"]) == ("detector", "haar", 2, 1)
    assert found["nme"] < 0.01  # the labels are this very prediction, rounded to 1/1000 pixel
    assert (found["failure_rate"], found["auc"]) == (0, pytest.approx(100, abs=1))
    (truth,) = popos("evaluate", *flags, "--json").ok().json["results"]
    assert (truth["boxes"], truth["detector"], truth["faces"], truth["missed"]) == ("truth", None, 3, 0)
    assert truth["nme"] > found["nme"]
    text = popos("evaluate", *flags, "--boxes", "detector").ok().out
    assert "the detector missed 1 of 3 faces" in text


QUIET = [
    part
    for name in ("rotation", "scale", "shift", "flip", "brightness", "contrast", "saturation", "grey",
                 "low_resolution", "blur", "jpeg", "occlusion")
    for part in ("--set", f"augment.{name}=0")
]  # fmt: skip


def test_fine_tuning_starts_from_the_weights(popos, photos, tmp_path):
    model, codec = load("small")
    flags = (
        "train", "--dataset", photos, "--weights", "small", "--resolution", codec.width, "--gpus", "0",
        "--batch-size", "2", "--set", "workers=0", "--set", "schedule.warmup=0", "--set", "loss.ramp=0",
        "--set", "schedule.rate_batch=0", *QUIET,
    )  # fmt: skip
    still = popos(*flags, "--epochs", "1", "--set", "schedule.learning_rate=1e-9", "--out", "still").ok()
    count = len(model.state_dict())
    assert f"({count} of {count} tensors)" in still.err
    state = load_file(tmp_path / "still/last.safetensors")
    for name, value in model.named_parameters():
        torch.testing.assert_close(state[name], value, atol=1e-6, rtol=0, msg=name)
    # Other labels: wider and lower faces than the weights would find.
    labels = tmp_path / "photos/labels.csv"
    table = rows(labels)
    for row in table:
        for n in range(68):
            row[f"x{n}"] = 1.15 * float(row[f"x{n}"]) - 0.15 * float(row["x30"])
            row[f"y{n}"] = 0.9 * float(row[f"y{n}"]) + 0.1 * float(row["y30"])
    with labels.open("w", newline="") as file:
        writer = csv.DictWriter(file, table[0])
        writer.writeheader()
        writer.writerows(table)
    popos("prepare-data", "custom", tmp_path / "photos", "--val-fraction", "0.2").ok()
    popos(*flags, "--epochs", "4", "--set", "schedule.learning_rate=1e-4", "--out", "moved").ok()
    loss = [float(row["loss"]) for row in rows(tmp_path / "moved/results.csv")[1:]]  # without epoch 0
    assert loss[-1] < 0.7 * loss[0], loss
