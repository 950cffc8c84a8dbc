"""The log of a run: settings.toml, results.csv, metrics.jsonl, TensorBoard; and its speed."""

from __future__ import annotations

import csv
import json
import math
import os
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch

from ..errors import PoposError
from ..home import replacing
from .load import dump_toml
from .objective import PARTS
from .settings import TrainSettings

T = TypeVar("T")

LOSSES = tuple(f"{part}_loss" for part in PARTS)  # weighted; they add up to "loss"
COLUMNS = (
    "epoch", "loss", *LOSSES, "learning_rate", "val_nme", "best_nme",
    "faces_per_second", "data_wait", "memory_gib", "seconds", "partial",
)  # fmt: skip
EVERY = 50  # steps between two lines of metrics.jsonl


class Meter:
    """Speed, waiting and memory of one epoch, or of the part of it since a resume."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.faces = 0
        self._waited = 0.0
        self._started = time.perf_counter()
        self._ended: float | None = None

    def batches(self, loader: Iterable[T]) -> Iterator[T]:
        """The loader's batches; the clock starts with the first and stops after the last.

        Work that a GPU still has to do counts as waiting, unless the step waits for it by reading its loss.
        """
        self._started = asked = time.perf_counter()
        for batch in loader:
            self._waited += time.perf_counter() - asked
            yield batch
            asked = time.perf_counter()
        self._ended = time.perf_counter()
        self._waited += self._ended - asked

    def count(self, faces: int) -> None:
        """Add trained faces, over all processes."""
        self.faces += faces

    @property
    def seconds(self) -> float:
        """From the request for the first batch to the end of the last, or to now."""
        return (self._ended or time.perf_counter()) - self._started

    @property
    def faces_per_second(self) -> float:
        return self.faces / max(self.seconds, 1e-9)

    @property
    def wait(self) -> float:
        """Share of the time spent waiting for data, 0 to 1."""
        return min(self._waited / max(self.seconds, 1e-9), 1.0)

    def memory(self) -> float:
        """Peak in GiB: tensors on this process's GPU, else this process without its loaders; NaN where the
        system does not say (Windows)."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 2**30
        try:
            import resource
        except ImportError:
            return math.nan
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / (2**30 if sys.platform == "darwin" else 2**20)  # bytes there, KiB elsewhere

    def columns(self) -> dict[str, float]:
        """These measures by the names of their columns in results.csv."""
        return {
            "faces_per_second": self.faces_per_second,
            "data_wait": self.wait,
            "memory_gib": self.memory(),
            "seconds": self.seconds,
        }


class TrainingProgress(Protocol):
    """What the trainer reports while it works; the command line shows it."""

    def start(self, steps: int, done: int) -> None:
        """Steps of the whole run, and how many of them an earlier process has done."""

    def step(self, epoch: int, loss: float, meter: Meter) -> None:
        """A step of this epoch, which counts from 1, is done."""

    def epoch(self, row: dict[str, float]) -> None:
        """An epoch is trained and validated; `row` as in results.csv."""

    def note(self, message: str) -> None:
        """A remark for the user."""


class Silent:
    """Progress and log of a process that is not the first: does nothing."""

    def start(self, *_: Any) -> None: ...
    def step(self, *_: Any) -> None: ...
    def epoch(self, *_: Any) -> None: ...
    def note(self, *_: Any) -> None: ...
    def close(self) -> None: ...


class RunLog:
    """Writes the log of one run, and continues that of a resumed one.

    step, epoch: how many of each are done; later lines, which an earlier process wrote, are dropped, since
    these steps come again.
    """

    def __init__(self, run: Path, step: int, epoch: int, tensorboard: bool) -> None:
        self.run, self._step = run, step
        self._rows = [row for row in read_rows(run) if row["epoch"] <= epoch]
        write_rows(run, self._rows)
        path = run / "metrics.jsonl"
        try:
            lines = path.read_text("utf-8", errors="replace").splitlines() if path.exists() else []
            with replacing(path) as temporary:
                kept = (f"{line}\n" for line in lines if _is_past(line, step, epoch))
                temporary.write_text("".join(kept), encoding="utf-8")
            self._lines = path.open("a", encoding="utf-8")
        except OSError as error:
            raise PoposError(f"cannot write {path}: {error.strerror or error}") from None
        self._board: Any = None
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            folder = run / "tensorboard"
            self._board = SummaryWriter(str(folder), purge_step=step + 1 if folder.exists() else None)

    def step(self, step: int, epoch: int, losses: dict[str, float], learning_rate: float) -> None:
        """Note every 50th step; `step` counts those done, `epoch` from 1, `losses` has names in `LOSSES`."""
        self._step = step
        if step % EVERY == 0:
            values = {"loss": sum(losses.values()), **losses, "learning_rate": learning_rate}
            self._append({"step": step, "epoch": epoch, **values})
            self._show("step", values)

    def epoch(self, row: dict[str, float]) -> None:
        """Note an epoch; `row` has columns of results.csv, and may lack some."""
        self._rows.append(row)
        write_rows(self.run, self._rows)
        self._append({"step": self._step, **row, "epoch": int(row["epoch"])})
        self._show("epoch", {name: value for name, value in row.items() if name not in ("epoch", "partial")})
        if self._board:
            self._board.flush()

    def close(self) -> None:
        self._lines.close()
        if self._board:
            self._board.close()

    def _append(self, values: dict[str, float]) -> None:
        line = {name: value if math.isfinite(value) else None for name, value in values.items()}
        try:
            self._lines.write(json.dumps(line, allow_nan=False) + "\n")
            self._lines.flush()
            os.fsync(self._lines.fileno())  # the next checkpoint's resume counts on it
        except OSError as error:
            raise PoposError(
                f"cannot write {self.run / 'metrics.jsonl'}: {error.strerror or error}",
                f"Free some space there, then resume: popos train --resume {self.run}",
            ) from None

    def _show(self, group: str, values: dict[str, float]) -> None:
        for name, value in values.items():
            if self._board and math.isfinite(value):
                self._board.add_scalar(f"{group}/{name}", value, self._step)


def _is_past(line: str, step: int, epoch: int) -> bool:
    """Whether a line of metrics.jsonl is whole, and of these steps and epochs."""
    try:
        values = json.loads(line)
        # A step's line names the epoch that it is part of.
        return bool(values["epoch"] <= epoch if "val_nme" in values else values["step"] <= step)
    except (ValueError, TypeError, KeyError):
        return False


def write_settings(run: Path, settings: TrainSettings) -> None:
    """settings.toml, which `--resume` and `--config` read."""
    with replacing(run / "settings.toml") as temporary:
        temporary.write_text(dump_toml(settings), encoding="utf-8")


def write_rows(run: Path, rows: list[dict[str, float]]) -> None:
    """results.csv, anew; what a row lacks or is NaN stays empty."""
    path = run / "results.csv"
    if not rows:
        path.unlink(missing_ok=True)
        return
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows({k: f"{v:.6g}" for k, v in row.items() if not math.isnan(v)} for row in rows)
        file.flush()
        os.fsync(file.fileno())


def read_rows(run: Path) -> list[dict[str, float]]:
    """The epochs in results.csv, all of `COLUMNS`; NaN for what is empty or an older version did not write.
    Raises PoposError where the file is no such table."""
    path = run / "results.csv"
    if not path.exists():
        return []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [{k: float(line.get(k) or "nan") for k in COLUMNS} for line in csv.DictReader(file)]
        if any(math.isnan(row["epoch"]) for row in rows):
            raise ValueError("a row without an epoch")
    except (ValueError, csv.Error) as error:
        raise PoposError(f"{path}: {error}", "Remove it: training goes on without it.") from None
    return rows
