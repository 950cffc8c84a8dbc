"""The log of a run: nothing twice, nothing torn, nothing lost to an older version."""

from __future__ import annotations

import csv
import json
import math
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from popos_cli.errors import PoposError
from popos_cli.train import runlog
from popos_cli.train.runlog import COLUMNS, EVERY, LOSSES, Meter, RunLog, read_rows

STEPS = 120  # of an epoch


def losses(step: int) -> dict[str, float]:
    return {name: (n + 1) / step for n, name in enumerate(LOSSES)}


def row(epoch: int, **changed: float) -> dict[str, float]:
    values = {column: epoch + n / 7 for n, column in enumerate(COLUMNS)}
    return {**values, "epoch": float(epoch), **changed}


def lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def train(run: Path, step: int, epoch: int, until: int, tensorboard: bool = False) -> None:
    """The log of all steps after `step`, where `epoch` epochs are done, up to the step `until`."""
    log = RunLog(run, step, epoch, tensorboard)
    while step < until:
        step += 1
        log.step(step, epoch + 1, losses(step), 0.1)
        if step % STEPS == 0:
            epoch += 1
            log.epoch(row(epoch))
    log.close()


def test_what_is_noted(tmp_path: Path) -> None:
    train(tmp_path, 0, 0, 2 * STEPS)
    found = lines(tmp_path)
    assert [(line["step"], line["epoch"]) for line in found] == [
        (50, 1), (100, 1), (120, 1), (150, 2), (200, 2), (240, 2),
    ]  # fmt: skip
    assert found[0] == {
        "step": 50, "epoch": 1, "loss": pytest.approx(sum(losses(50).values())), "learning_rate": 0.1,
        **losses(50),
    }  # fmt: skip
    assert found[2] == {**row(1), "step": STEPS}
    with (tmp_path / "results.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [line["epoch"] for line in table] == ["1", "2"]
    assert float(table[1]["val_nme"]) == pytest.approx(row(2)["val_nme"], rel=1e-5)


def test_killed_and_resumed_as_if_nothing_had_been(tmp_path: Path) -> None:
    """Killed anywhere, in the middle of a line too, and resumed from a step that may lie far back."""
    whole, run = tmp_path / "whole", tmp_path / "run"
    whole.mkdir()
    run.mkdir()
    train(whole, 0, 0, 10 * STEPS)
    chance = random.Random(0)
    saved = 0
    for _ in range(12):
        killed = min(saved + chance.randrange(3 * STEPS), 10 * STEPS)
        train(run, saved, saved // STEPS, killed)
        with (run / "metrics.jsonl").open("a") as file:
            file.write(chance.choice(["", '{"step": 50, "ep', '{"step": 1201, "epoch": 11, "loss": 1}']))
        saved = max(killed - chance.choice([0, 1, EVERY, STEPS]), 0)
    train(run, saved, saved // STEPS, 10 * STEPS)
    for name in ("results.csv", "metrics.jsonl"):
        assert (run / name).read_bytes() == (whole / name).read_bytes()
    assert {path.name for path in run.iterdir()} == {"results.csv", "metrics.jsonl"}


def test_an_epoch_noted_but_not_saved_comes_again(tmp_path: Path) -> None:
    """All its steps were saved, the validation after them was not."""
    train(tmp_path, 0, 0, STEPS)
    log = RunLog(tmp_path, STEPS, 0, False)
    assert read_rows(tmp_path) == []
    log.epoch(row(1))
    log.close()
    assert [(line["step"], "val_nme" in line) for line in lines(tmp_path)] == [
        (50, False), (100, False), (120, True),
    ]  # fmt: skip


def test_a_run_that_was_killed_before_its_first_step_was_saved_begins_anew(tmp_path: Path) -> None:
    """The starting weights are measured again, and noted once."""
    for _ in range(2):
        log = RunLog(tmp_path, 0, -1, False)
        log.epoch({"epoch": 0.0, "val_nme": 6.5})
        log.step(EVERY, 1, losses(EVERY), 0.1)
        log.close()
    assert [(line["step"], line["epoch"]) for line in lines(tmp_path)] == [(0, 0), (50, 1)]
    assert [(r["epoch"], r["val_nme"]) for r in read_rows(tmp_path)] == [(0, 6.5)]
    train(tmp_path, EVERY, 0, STEPS)
    assert [r["epoch"] for r in read_rows(tmp_path)] == [0, 1]


def test_what_is_no_number(tmp_path: Path) -> None:
    log = RunLog(tmp_path, 0, 0, False)
    log.step(EVERY, 1, {"heatmap_loss": math.nan, "points_loss": math.inf}, 0.1)
    log.epoch(row(1, memory_gib=math.nan))
    log.close()
    first, second = lines(tmp_path)
    assert (first["heatmap_loss"], first["points_loss"], second["memory_gib"]) == (None, None, None)
    (table,) = read_rows(tmp_path)
    assert math.isnan(table["memory_gib"])
    assert table["seconds"] == pytest.approx(row(1)["seconds"], rel=1e-5)


def test_a_run_of_an_older_version_goes_on(tmp_path: Path) -> None:
    (tmp_path / "results.csv").write_text(
        "epoch,loss,heatmap_loss,val_nme,retired\n1,0.5,0.4,30.25,9\n2,0.25,0.2,20,9\n"
    )
    old = read_rows(tmp_path)
    assert [r["val_nme"] for r in old] == [30.25, 20]
    assert math.isnan(old[0]["data_wait"])
    train(tmp_path, STEPS, 1, 2 * STEPS)
    rows = read_rows(tmp_path)
    assert [r["epoch"] for r in rows] == [1, 2]
    assert rows[0]["val_nme"] == 30.25
    assert math.isnan(rows[0]["data_wait"]) and rows[1]["data_wait"] > 0


@pytest.mark.parametrize("text", ["epoch,loss\n1,x\n", "epoch,loss\n,0.5\n", "loss\n1\n", "\x89PNG\n1\n"])
def test_results_that_are_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "results.csv").write_text(text, encoding="latin-1")
    with pytest.raises(PoposError, match=r"results\.csv"):
        read_rows(tmp_path)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Time that goes by only where a test says so."""
    clock = Clock()
    monkeypatch.setattr(runlog.time, "perf_counter", clock)
    return clock


def test_speed_and_waiting(clock: Clock) -> None:
    def loader() -> Any:
        clock.now += 2  # its processes start
        for number in range(4):
            clock.now += 1
            yield number
        clock.now += 1  # its processes end

    meter = Meter(torch.device("cpu"))
    clock.now += 50
    for number in meter.batches(loader()):
        clock.now += 4
        meter.count(6)
        if number == 0:
            assert (meter.seconds, meter.faces_per_second, meter.wait) == (7, 6 / 7, 3 / 7)
    clock.now += 1000  # validation
    assert meter.seconds == 2 + 4 * (1 + 4) + 1
    assert meter.faces_per_second == 24 / 23
    assert meter.wait == 7 / 23


def test_an_epoch_without_a_step_left(clock: Clock) -> None:
    meter = Meter(torch.device("cpu"))
    assert list(meter.batches([])) == []
    assert (meter.seconds, meter.faces_per_second, meter.wait) == (0, 0, 0)


def test_tensorboard_shows_each_step_once(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(tmp_path, 0, 0, 3 * STEPS, tensorboard=True)
    train(tmp_path, STEPS + 70, 1, 3 * STEPS, tensorboard=True)
    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert set(board.Tags()["scalars"]) >= {
        "step/loss",
        "step/anchor_loss",
        "epoch/val_nme",
        "epoch/data_wait",
    }
    assert [e.step for e in board.Scalars("step/loss")] == [50, 100, 150, 200, 250, 300, 350]
    assert [e.step for e in board.Scalars("epoch/val_nme")] == [STEPS, 2 * STEPS, 3 * STEPS]
    value = board.Scalars("epoch/val_nme")[1].value
    assert value == pytest.approx(row(2)["val_nme"])
