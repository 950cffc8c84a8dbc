"""A run's diary: results.csv, one row an epoch, and who is told of progress."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Protocol

from ..data.home import replacing

COLUMNS = (
    "epoch", "loss", "heatmap_loss", "points_loss", "learning_rate", "val_nme", "best_nme",
    "faces_per_second", "seconds",
)  # fmt: skip


class Progress(Protocol):
    """What the trainer tells whoever watches; the command line shows it."""

    def start(self, steps: int, done: int) -> None: ...
    def step(self, epoch: int, loss: float) -> None: ...
    def epoch(self, row: dict[str, float]) -> None: ...


def append_row(run: Path, row: dict[str, float]) -> None:
    """Add an epoch to results.csv; an epoch that is repeated after a resume replaces itself."""
    rows = [r for r in read_rows(run) if r["epoch"] < row["epoch"]] + [row]
    path = run / "results.csv"
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows({k: f"{r[k]:.6g}" for k in COLUMNS} for r in rows)


def read_rows(run: Path) -> list[dict[str, float]]:
    path = run / "results.csv"
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]
