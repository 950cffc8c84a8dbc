"""Curves: training over epochs, and the cumulative error distribution."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # no screen is needed, and none may be there

import numpy as np
from matplotlib.figure import Figure

from ..core.metrics import ced
from ..data.home import replacing
from .evaluated import Evaluated, short


def save_figure(figure: Figure, path: Path) -> None:
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
    save_figure(figure, path)


def save_ced(evaluated: Sequence[Evaluated], path: Path) -> None:
    """Share of faces within each error: a panel per dataset, up to its own threshold, a curve per result."""
    panels: dict[str, list[Evaluated]] = {}
    for one in evaluated:
        panels.setdefault(f"{one.result['dataset']} {one.result['split']}", []).append(one)
    columns = min(len(panels), 3)
    lines = -(-len(panels) // columns)
    figure = Figure(figsize=(6 * columns, 4.5 * lines), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes, (title, group) in zip(grid, panels.items(), strict=False):
        _panel(axes, title, group)
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    save_figure(figure, path)


def _panel(axes: Any, title: str, group: Sequence[Evaluated]) -> None:
    first = group[0].result
    limit = first["threshold"]
    names = curve_names([one.result for one in group])
    for one, name in zip(group, names, strict=True):
        errors = one.outcome.error[np.isfinite(one.outcome.error)]
        steps, share = ced(errors, limit)
        axes.plot(steps * 100, share * 100, label=f"{name}: NME {one.result['nme']:.2f} %")
    axes.set(
        title=f"{title}, {first['faces']} faces", xlabel=f"NME, % of {first['normaliser']}",
        ylabel="faces, %", xlim=(0, limit * 100), ylim=(0, 100),
    )  # fmt: skip
    axes.grid(True, alpha=0.3)
    axes.legend(loc="best", fontsize="small" if len(group) <= 8 else "xx-small")


def curve_names(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """What tells the results of one dataset apart: resolution, decoder and weights where they differ."""
    parts: dict[str, Callable[[Mapping[str, Any]], str]] = {
        "resolution": lambda r: f"R={r['resolution']}",
        "decoder": lambda r: r["decoder"],
        "weights": lambda r: short(r["weights"]),
    }
    differ = [key for key in parts if len({r[key] for r in results}) > 1] or ["decoder"]
    return [", ".join(parts[key](r) for key in differ) for r in results]
