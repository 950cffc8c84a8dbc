"""Resuming a run: in other batches, in the middle of an epoch, on a dataset that has changed."""

from __future__ import annotations

import json
import math
import shutil
import signal

import pytest
import torch
from run_folders import assert_same_run, rows


@pytest.fixture
def run(synthetic, shop, tmp_path):
    """A copy of the shop's run: 3 epochs of 3 steps of 6 faces are done."""
    return shutil.copytree(shop.run, tmp_path / "run")


def rates(run):
    return [float(row["learning_rate"]) for row in rows(run / "results.csv")]


@pytest.mark.parametrize("batch", [2, 18])
def test_another_batch_size_keeps_the_place_in_the_schedule(popos, run, batch):
    """9 steps an epoch, or one: the rate is what the cosine has after 4, 5 and 6 epochs of 6."""
    result = popos("train", "--resume", run, "--epochs", "6", "--set", f"schedule.batch_size={batch}").ok()
    assert f"going on after step 9 of {9 + 3 * 18 // batch}: 3 of 6 epochs are done" in result.err
    peak = 1e-3 * math.sqrt(batch / 16)
    expected = [peak * (1 + math.cos(math.pi * (epoch - 1) / 5)) / 2 for epoch in (4, 5, 6)]
    assert rates(run)[3:] == pytest.approx(expected, rel=1e-4, abs=1e-9)


@pytest.mark.parametrize(
    "change", ["--set=schedule.accumulate=3", pytest.param("--processes=2", marks=pytest.mark.slow)]
)
def test_parts_and_processes_change_neither_place_nor_steps(popos, run, change):
    popos("train", "--resume", run, "--epochs", "5", change).ok()
    peak = 1e-3 * math.sqrt(6 / 16)
    assert rates(run)[3:] == pytest.approx([peak * (1 + math.cos(math.pi * 0.75)) / 2, 0], rel=1e-4)
    steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert steps == [3, 6, 9, 12, 15]


def stopped(popos, shop, monkeypatch, step):
    """A run that Ctrl-C ended in that step."""
    calls, real = 0, torch.optim.AdamW.step

    def pressing(*arguments, **options):
        nonlocal calls
        calls += 1
        if calls == step:
            signal.raise_signal(signal.SIGINT)
        return real(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", pressing)
        assert popos(*shop.train, "--out", "stopped").code == 130


def test_an_epoch_is_resumed_in_other_batches(popos, synthetic, shop, tmp_path, monkeypatch):
    """12 of 18 faces are done in 2 steps; the other 6 take 2 steps of 3."""
    stopped(popos, shop, monkeypatch, step=2)
    result = popos("train", "--resume", "stopped", "--set", "schedule.batch_size=3").ok()
    assert "going on after step 2 of 16: 0 of 3 epochs are done" in result.err
    lines = [json.loads(line) for line in (tmp_path / "stopped/metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [4, 10, 16]


def test_a_checkpoint_of_an_earlier_version_is_refused(popos, run):
    """The optimiser's moments stand in another order there: the weights are what can be kept."""
    for name in ("state.ckpt", "state.previous.ckpt"):
        state = torch.load(run / name, weights_only=True)
        state.pop("format")
        torch.save(state, run / name)
    result = popos("train", "--resume", run, "--epochs", "4")
    assert result.code == 1
    (line,) = result.errors
    assert "state.ckpt is not written by this version of popos" in line
    assert f"--weights {run}" in result.err


def test_a_resumed_run_takes_another_optimiser(popos, run):
    """The optimiser of its settings, with the checkpoint's moments."""
    popos("train", "--resume", run, "--epochs", "4", "--set", "schedule.optimiser=adam").ok()
    (_, group) = torch.load(run / "state.ckpt", weights_only=True)["optimiser"]["param_groups"]
    assert not group.get("decoupled_weight_decay", False)


def test_a_dataset_that_was_prepared_anew_is_refused_unless_it_is_the_same(popos, run, shop, tmp_path):
    options = ("--name", "synthetic", "--val-fraction", "0.25", "--force")
    again = ("prepare-data", "synthetic", tmp_path / "again", *options)
    popos(*again, "--count", "24", "--seed", "7").ok()
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    result = popos("train", "--resume", run, "--epochs", "4")
    assert result.code == 1
    (line,) = result.errors
    assert f"{run}: dataset 'synthetic' has other faces" in line
    assert f"popos train --dataset synthetic --weights {run}" in result.err
    assert "resume from the last" not in result.err
    shutil.rmtree(tmp_path / "again")
    popos(*again, "--count", "24").ok()  # the same faces as the shop's, in another folder
    assert {name: (run / name).read_bytes() for name in before if name != "curves.png"} == {
        name: content for name, content in before.items() if name != "curves.png"
    }
    popos("train", "--resume", run, "--epochs", "4").ok()


def test_a_run_without_a_checkpoint_says_that_it_begins(popos, synthetic, run, shop):
    for name in ("state.ckpt", "state.previous.ckpt"):
        (run / name).unlink()
    assert "has no checkpoint yet" in popos("train", "--resume", run).ok().err
    assert_same_run(run, shop.run)


def test_fine_tuning_begins_with_the_figure_of_its_weights(popos, synthetic, tmp_path):
    flags = ("--dataset", "synthetic", "--weights", "small")
    (truth,) = popos("evaluate", *flags, "--no-flip-test", "--workers", "0", "--json").ok().json["results"]
    given = ("train", *flags, "--resolution", "8", "--gpus", "0", "--batch-size", "6", "--epochs", "1")
    result = popos(*given, "--set", "workers=0", "--set", "precision=fp32", "--out", "run", "--json").ok()
    start = result.json["start_nme"]
    assert start == pytest.approx(truth["nme"], rel=1e-3)
    assert f"epoch 0: the starting weights have a validation NME of {start:.3f} %" in result.err
    table = rows(tmp_path / "run/results.csv")
    assert [row["epoch"] for row in table] == ["0", "1"]
    assert float(table[0]["val_nme"]) == pytest.approx(truth["nme"], rel=1e-3) and table[0]["loss"] == ""
    assert result.json["val_nme"] == pytest.approx(float(table[1]["val_nme"]), rel=1e-4)
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [(line["step"], line["epoch"]) for line in lines] == [(0, 0), (3, 1)]
    popos("train", "--resume", "run", "--epochs", "2").ok()
    assert [row["epoch"] for row in rows(tmp_path / "run/results.csv")] == ["0", "1", "2"]
