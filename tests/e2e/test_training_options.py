"""What a user may choose for a training, in short runs of the real command."""

from __future__ import annotations

import csv
import json
import math
import shutil

import pytest
import torch
from run_folders import rows
from safetensors.torch import load_file

from popos_cli.weights.find import load


@pytest.fixture
def train(popos, synthetic, shop, tmp_path):
    """Runs the shop's training of one epoch with other settings; returns its folder and its output."""

    def run(out, *flags, epochs=1):
        result = popos(*shop.train, "--epochs", epochs, "--out", out, *flags).ok()
        return tmp_path / out, result

    return run


def test_the_reference_recipe_trains_with_its_sinkhorn_term(train):
    pytest.importorskip("geomloss")
    run, result = train("run", "--recipe", "reference")
    (row,) = rows(run / "results.csv")
    assert float(row["sinkhorn_loss"]) > float(row["heatmap_loss"]) > 0
    assert float(row["points_loss"]) == float(row["anchor_loss"]) == 0
    assert "differs from the preset of synthetic (reference):" in result.err
    assert "- schedule.batch_size = 256\n+ schedule.batch_size = 6" in result.err
    assert "learning rate: 0.000306, 0.002 x sqrt(6 / 256)" in result.err


def test_every_term_of_the_loss_is_noted_and_adds_up(train):
    pytest.importorskip("geomloss")
    terms = {"points": 0.02, "anchor": 0.01, "sinkhorn": 0.1, "ramp": 0}
    run, _ = train("run", *(f"--set=loss.{name}={value}" for name, value in terms.items()))
    (row,) = ({k: float(v) for k, v in row.items()} for row in rows(run / "results.csv"))
    parts = [row[f"{name}_loss"] for name in ("heatmap", "points", "anchor", "sinkhorn")]
    assert all(part > 0 for part in parts)
    assert sum(parts) == pytest.approx(row["loss"], rel=1e-4)
    assert 0 <= row["data_wait"] <= 1 and row["memory_gib"] > 0.1


@pytest.mark.parametrize("kind", ["huber", "adaptive-wing"])
def test_other_heatmap_losses_fall(train, kind):
    run, _ = train("run", "--set", f"loss.heatmap={kind}", "--set", "loss.points=0", epochs=3)
    losses = [float(row["loss"]) for row in rows(run / "results.csv")]
    assert losses[-1] < losses[0]


def test_accumulation_takes_the_same_steps(train):
    """With frozen batch norms a step in two or three parts is the step in one."""
    given = (
        "--weights", "small", "--set", "schedule.freeze_batch_norm=true", "--set", "precision=fp32",
        "--set", "schedule.ema=0", "--set", "schedule.learning_rate=1e-4", "--set", "schedule.rate_batch=0",
    )  # fmt: skip
    whole, _ = train("whole", *given)
    parts, _ = train("parts", *given, "--set", "schedule.accumulate=3")
    one, three = (load_file(run / "last.safetensors") for run in (whole, parts))
    for name, tensor in one.items():
        difference = (tensor.double() - three[name].double()).norm()
        assert difference <= 1e-5 * tensor.double().norm() + 1e-9, name


def test_frozen_batch_norms_stay_as_they_were(train):
    def norms(frozen):
        run, _ = train(frozen, "--weights", "small", f"--set=schedule.freeze_batch_norm={frozen}")
        tensors = load_file(run / "last.safetensors").items()
        return {name: tensor for name, tensor in tensors if "running_mean" in name or ".bn1.weight" in name}

    first = load("small")[0].state_dict()
    frozen, free = norms("true"), norms("false")
    shared = [name for name, tensor in frozen.items() if name in first and tensor.shape == first[name].shape]
    assert len(shared) > 40 and all(torch.equal(frozen[name], first[name]) for name in shared)
    assert not any(torch.equal(free[name], first[name]) for name in shared)


@pytest.mark.parametrize("precision", ["bf16", pytest.param("fp16", marks=pytest.mark.slow)])
def test_half_precision_trains(train, precision):
    run, _ = train("run", "--set", f"precision={precision}", epochs=2)
    losses = [float(row["loss"]) for row in rows(run / "results.csv")]
    assert all(map(math.isfinite, losses)) and losses[-1] < losses[0]
    assert all(tensor.dtype == torch.float32 for tensor in load_file(run / "last.safetensors").values()
               if tensor.is_floating_point())  # fmt: skip


def test_patience_ends_a_training_that_gets_no_better(train):
    """At a rate that changes no float32 weight."""
    run, _ = train("run", "--set", "schedule.patience=2", "--set", "schedule.learning_rate=1e-30",
                   "--set", "schedule.ema=0", "--weights", "small", "--set",
                   "schedule.freeze_batch_norm=true", epochs=50)  # fmt: skip
    assert [row["epoch"] for row in rows(run / "results.csv")] == ["0", "1", "2", "3"]
    assert (run / "last.safetensors").exists()


def test_an_automatic_batch_size_is_written_down(train):
    run, result = train("run", "--batch-size", "auto")
    settings = (run / "settings.toml").read_text()
    assert "batch_size = 2\n" in settings  # 18 faces: an epoch keeps 8 steps
    assert "learning rate: 0.000354, 0.001 x sqrt(2 / 16)" in result.err


def test_every_log_has_every_epoch(train):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run, _ = train("run", "--set", "tensorboard=true", epochs=2)
    with (run / "results.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    board = EventAccumulator(str(run / "tensorboard"))
    board.Reload()
    shown = [event.value for event in board.Scalars("epoch/val_nme")]
    noted = [line["val_nme"] for line in lines if "val_nme" in line]
    assert noted == pytest.approx([float(row["val_nme"]) for row in table], rel=1e-5)
    assert shown == pytest.approx(noted, rel=1e-5)


def test_a_loss_that_is_no_number_is_explained(popos, synthetic, shop, tmp_path):
    """A weight beyond float32: the run ends before the network is spoiled, and says where."""
    result = popos(*shop.train, "--set", "loss.points=1e39", "--set", "loss.ramp=0", "--out", "run")
    assert result.code == 1
    (line,) = result.errors
    assert "not finite at step " in line and "face_000" in line and "run/nonfinite.pt" in line
    kept = torch.load(tmp_path / "run/nonfinite.pt", weights_only=True)
    assert len(kept["images"]) == 6 and "image" in kept["batch"]
    assert all(tensor.isfinite().all() for tensor in kept["model"].values())


@pytest.mark.slow
def test_a_compiled_network_trains_and_keeps_its_names(train):
    if not shutil.which("c++") and not shutil.which("g++"):
        pytest.skip("torch.compile needs a C++ compiler on the CPU")
    run, _ = train("run", "--set", "compile=true")
    plain, _ = train("plain")
    assert load_file(run / "last.safetensors").keys() == load_file(plain / "last.safetensors").keys()
