"""Curves: training over epochs, and the cumulative error distribution."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter, MaxNLocator, NullLocator, ScalarFormatter

from ..core.choices import DecoderName
from ..core.metrics import ced
from ..data.partial import mark
from ..errors import debugging, explained
from ..home import replacing
from ..text import printable, shortened
from .published import published_by_resolution
from .results import Evaluated, short

_log = logging.getLogger(__name__)


def drawn(name: str) -> str:
    """A name as a figure shows it: on one line, at most 60 characters, its dollars not read as a formula."""
    return shortened(printable(name), 60).replace("$", r"\$")


def save_figure(figure: Figure, path: Path) -> None:
    """Without pyplot, which would choose a backend and may need a screen."""
    with replacing(path) as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # letters that the font lacks are drawn as boxes
        figure.savefig(temporary, dpi=120, format=path.suffix.removeprefix("."))


@contextmanager
def noted(picture: Path) -> Iterator[None]:
    """A picture that cannot be drawn is a note: the figures that it shows are safe."""
    try:
        yield
    except Exception as error:
        if debugging():
            raise
        _log.warning("no %s: %s", picture, explained(error).message)


def save_training_curves(rows: list[dict[str, float]], path: Path) -> None:
    """Loss and its parts, validation NME and learning rate against the epoch, on logarithmic scales.

    `rows` as in results.csv, at least one, NaN where a figure was not noted.
    """
    figure = Figure(figsize=(15, 4), layout="constrained")
    losses, errors, rates = figure.subplots(1, 3)
    _curve(losses, rows, "loss", label="loss", color="black", linewidth=2)
    for column in (column for column in rows[0] if column.endswith("_loss")):
        _curve(losses, rows, column, label=f"{column.removesuffix('_loss')}, weighted")
    losses.set_ylabel("training loss")
    _curve(errors, rows, "val_nme")
    measured = [row for row in rows if row["val_nme"] > 0 and row["epoch"] > 0]
    for best in sorted(measured, key=lambda row: row["val_nme"])[:1]:
        text = f"best: {best['val_nme']:.3f} %, epoch {best['epoch']:.0f}"
        errors.plot(best["epoch"], best["val_nme"], "o", label=text)
    partial = any(row["partial"] > 0 for row in rows)
    errors.set_ylabel("validation NME, %; partial benchmark" if partial else "validation NME, %")
    _curve(rates, rows, "learning_rate")
    rates.set_ylabel("learning rate, at the epoch's end")
    for axes in (losses, errors, rates):
        axes.set(xlabel="epoch", yscale="log")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))
        axes.grid(True, which="both", alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize="small")
    errors.yaxis.set_major_formatter(ScalarFormatter())
    errors.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1.0, 0.4)))
    # Cosine decay ends at almost 0, which would leave no room for the rest.
    rates.set_ylim(bottom=max(rates.get_ylim()[0], rates.get_ylim()[1] / 2000))
    save_figure(figure, path)


def _curve(axes: Any, rows: list[dict[str, float]], column: str, **style: Any) -> None:
    """Draws nothing for a column without a number above 0, such as a part of the loss that is off."""
    values = np.array([row[column] for row in rows])
    if (values > 0).any():
        marker = "o" if len(rows) == 1 else None
        axes.plot([r["epoch"] for r in rows], np.where(values > 0, values, np.nan), marker=marker, **style)


def save_ced(evaluated: Sequence[Evaluated], path: Path) -> None:
    """Share of faces within each error: a panel per dataset, up to its own threshold, a curve per result."""
    _save_panels(evaluated, _ced_panel, path)


def save_cost(evaluated: Sequence[Evaluated], path: Path) -> None:
    """Error over the network's multiply-adds: a panel per dataset, a line per decoder, a mark per resolution;
    dashed, what is published. Errors are relative to the best at the highest resolution, since papers measure
    other faces: those of the same benchmark where it has such figures, else of WFLW."""
    _save_panels(evaluated, _cost_panel, path)


def _save_panels(
    evaluated: Sequence[Evaluated], draw: Callable[[Any, Sequence[Evaluated]], None], path: Path
) -> None:
    panels: dict[str, list[Evaluated]] = {}
    for one in evaluated:
        panels.setdefault(f"{one.result['dataset']} {one.result['split']}", []).append(one)
    columns = min(len(panels), 3)
    lines = -(-len(panels) // columns)
    figure = Figure(figsize=(6 * columns, 4.5 * lines), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes, (title, group) in zip(grid, panels.items(), strict=False):
        partial = ", partial" if mark(group[0].result.get("partial")) else ""
        axes.set_title(f"{drawn(title)}, {group[0].result['faces']} faces{partial}")
        draw(axes, group)
        axes.grid(True, alpha=0.3)
        axes.legend(loc="best", fontsize="small" if len(group) <= 8 else "xx-small")
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    save_figure(figure, path)


def _cost_panel(axes: Any, group: Sequence[Evaluated]) -> None:
    results = [one.result for one in group]
    cost = {r["resolution"]: r["multiply_adds"] / 1e9 for r in results}
    ours = [(r["decoder"], r["resolution"], r["nme"]) for r in results]
    papers = published_by_resolution(str(group[0].index.notes.get("benchmark")))
    theirs = [(str(row.decoder), row.resolution, row.nme) for row in papers]
    for rows, style, name in ((ours, "-o", "{}"), (theirs, "--x", f"{{}}, {papers[0].benchmark} (KeyPosS)")):
        rows = [row for row in rows if row[1] in cost]
        best = min((nme for _, resolution, nme in rows if resolution == max(cost)), default=np.nan)
        for decoder in dict.fromkeys(decoder for decoder, _, _ in rows):
            line = sorted((cost[resolution], nme / best) for d, resolution, nme in rows if d == decoder)
            colour = f"C{get_args(DecoderName).index(decoder)}"
            axes.plot(*zip(*line, strict=True), style, color=colour, label=name.format(decoder))
    axes.set(
        xscale="log", yscale="log", xlabel="multiply-adds a face, 10^9",
        ylabel=f"NME / best NME at R={max(cost)}",
    )  # fmt: skip
    axes.set_xticks([*cost.values()], [f"{g:.2g}\nR={r}" for r, g in cost.items()])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1.0, 0.4)))


def _ced_panel(axes: Any, group: Sequence[Evaluated]) -> None:
    first = group[0].result
    limit = first["threshold"]
    names = curve_names([one.result for one in group])
    for one, name in zip(group, names, strict=True):
        errors = one.measured.error[np.isfinite(one.measured.error)]
        steps, share = ced(errors, limit)
        axes.plot(steps * 100, share * 100, label=f"NME {one.result['nme']:.2f} %: {drawn(name)}")
    axes.set(
        xlabel=f"NME, % of {first['normaliser']}", ylabel="faces, %", xlim=(0, limit * 100), ylim=(0, 100)
    )


def curve_names(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """What tells the results of one dataset apart: resolution, decoder and weights where they differ."""
    names = {label: short(label) for label in {r["weights"] for r in results}}
    if len(set(names.values())) < len(names):  # runs of one name in several folders
        names = {label: label for label in names}
    parts: dict[str, Callable[[Mapping[str, Any]], str]] = {
        "resolution": lambda r: f"R={r['resolution']}",
        "decoder": lambda r: r["decoder"],
        "weights": lambda r: names[r["weights"]],
    }
    differ = [key for key in parts if len({r[key] for r in results}) > 1] or ["decoder"]
    return [", ".join(parts[key](r) for key in differ) for r in results]
