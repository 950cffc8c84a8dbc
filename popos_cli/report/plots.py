"""Curves: training over epochs, and the cumulative error distribution."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # no screen is needed, and none may be there

from matplotlib.figure import Figure

from ..core.geometry import Floats
from ..core.metrics import ced, summary
from ..data.home import replacing


def _save(figure: Figure, path: Path) -> None:
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=120, format=path.suffix.removeprefix("."))


def save_training_curves(rows: list[dict[str, float]], path: Path) -> None:
    """Loss parts (log scale) and validation NME against the epoch; `rows` as in results.csv."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    epochs = [row["epoch"] for row in rows]
    for column, label in (("heatmap_loss", "heatmap MSE"), ("points_loss", "points, weighted")):
        if any(row[column] for row in rows):
            left.plot(epochs, [row[column] for row in rows], label=label)
    left.set(xlabel="epoch", ylabel="training loss", yscale="log")
    left.legend()
    right.plot(epochs, [row["val_nme"] for row in rows])
    right.set(xlabel="epoch", ylabel="validation NME, %", yscale="log")
    for axes in (left, right):
        axes.grid(True, which="both", alpha=0.3)
    _save(figure, path)


def save_ced(curves: dict[str, Floats], threshold: float, normaliser: str, path: Path) -> None:
    """Share of faces within each error, a curve per label; `curves`: per-face NME fractions."""
    figure = Figure(figsize=(6, 4.5), layout="constrained")
    axes = figure.subplots()
    for label, errors in curves.items():
        grid, share = ced(errors, threshold)
        axes.plot(grid * 100, share * 100, label=f"{label}: NME {summary(errors, threshold)['nme']:.2f} %")
    axes.set(xlabel=f"NME, % of {normaliser}", ylabel="faces, %", xlim=(0, threshold * 100), ylim=(0, 100))
    axes.grid(True, alpha=0.3)
    axes.legend(loc="lower right")
    _save(figure, path)
