"""Curves: training over epochs, and the cumulative error distribution."""

from __future__ import annotations

import itertools
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
from .results import Evaluated

_log = logging.getLogger(__name__)
_WIDTH = 6.4  # inches of a figure
# Nine colours that the colour-blind tell apart (most of them Okabe and Ito's), and four kinds of line: with
# them 36 curves differ.
_COLOURS = (
    "#0072b2", "#d55e00", "#009e73", "#aa3377", "#000000", "#e69f00", "#56b4e9", "#6b4c9a", "#7a6a00",
)  # fmt: skip
_LINES = ("-", "--", "-.", ":")
_MARKERS = "osD^v<>PX"


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


def save_training_curves(rows: list[dict[str, float]], path: Path, title: str) -> None:
    """Loss and its parts, validation NME and learning rate against the epoch, on logarithmic scales.

    `rows` as in results.csv, at least one, NaN where a figure was not noted. title: stands above.
    """
    figure = Figure(figsize=(15, 4.4), layout="constrained")
    figure.suptitle(drawn(title))
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
    epochs = [row["epoch"] for row in rows]
    room = max(0.02 * (max(epochs) - min(epochs)), 0.1)
    for axes in (losses, errors, rates):
        axes.set(xlabel="epoch", yscale="log", xlim=(min(epochs) - room, max(epochs) + room))
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


def save_groups(evaluated: Sequence[Evaluated], path: Path) -> None:
    """NME of each group of landmarks with its 95 % interval: a panel per dataset, a mark per result. Draws
    nothing where no scheme has groups."""
    if grouped := [one for one in evaluated if one.result["groups"]]:
        _save_panels(grouped, _groups_panel, path, lambda group: 1.2 + len(_parts(group)) * _row(group))


def save_cost(evaluated: Sequence[Evaluated], path: Path) -> None:
    """Error over the network's multiply-adds: a panel per dataset, a line per decoder, a mark per resolution;
    dashed, what is published. Errors are relative to the best at the highest resolution, since papers measure
    other faces: those of the same benchmark where it has such figures, else of WFLW."""
    _save_panels(evaluated, _cost_panel, path)


def by_dataset(evaluated: Sequence[Evaluated]) -> dict[str, list[Evaluated]]:
    """The results of each dataset and split, by "300w test"."""
    panels: dict[str, list[Evaluated]] = {}
    for one in evaluated:
        panels.setdefault(f"{one.result['dataset']} {one.result['split']}", []).append(one)
    return panels


def _save_panels(
    evaluated: Sequence[Evaluated], draw: Callable[[Any, Sequence[Evaluated]], None], path: Path,
    height: Callable[[Sequence[Evaluated]], float] = lambda group: 3.8,
) -> None:  # fmt: skip
    """Panels of `height` inches below each other, each with its legend below it: so that they can be read on
    a telephone, and with ten lines."""
    panels = by_dataset(evaluated)
    heights = [height(group) + 0.21 * len(group) for group in panels.values()]
    figure = Figure(figsize=(_WIDTH, sum(heights)), layout="constrained")
    parts = figure.subfigures(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
    for part, (title, group) in zip(parts, panels.items(), strict=True):
        axes = part.subplots()
        partial = ", partial" if mark(group[0].result.get("partial")) else ""
        axes.set_title(f"{drawn(title)}, {group[0].result['faces']} faces{partial}")
        draw(axes, group)
        axes.grid(True, alpha=0.3)
        part.legend(loc="outside lower left", frameon=False, handlelength=3.5, fontsize="medium")
    save_figure(figure, path)


def _ordered(group: Sequence[Evaluated]) -> list[tuple[Evaluated, str, dict[str, str]]]:
    """Results, the best first, as legends list them: with their names, and each with its own style, which is
    the same in every figure."""
    names = curve_names([one.result for one in group])
    styles = [
        {"color": _COLOURS[n % len(_COLOURS)], "linestyle": _LINES[n % len(_LINES)]}
        for n in range(len(group))
    ]
    return sorted(zip(group, names, styles, strict=True), key=lambda entry: entry[0].result["nme"])


def _ced_panel(axes: Any, group: Sequence[Evaluated]) -> None:
    first = group[0].result
    limit = first["threshold"]
    for one, name, style in _ordered(group):
        errors = one.measured.error[np.isfinite(one.measured.error)]
        steps, share = ced(errors, limit)
        label = f"NME {one.result['nme']:.2f} %: {drawn(name)}"
        axes.plot(steps * 100, share * 100, label=label, linewidth=1.8, **style)
    axes.set(
        xlabel=f"NME, % of {first['normaliser']}", ylabel="faces, %", xlim=(0, limit * 100), ylim=(0, 101)
    )


def _parts(group: Sequence[Evaluated]) -> list[str]:
    return list(dict.fromkeys(name for one in group for name in one.result["groups"]))


def _row(group: Sequence[Evaluated]) -> float:
    """Inches of height of a group of landmarks."""
    return 0.18 + 0.08 * len(group)


def _groups_panel(axes: Any, group: Sequence[Evaluated]) -> None:
    parts = ["all", *_parts(group)]
    step = 0.08 / _row(group)
    for place, (one, name, style) in enumerate(_ordered(group)):
        figures = [one.result, *(one.result["groups"].get(part) for part in parts[1:])]
        found = [(n, f["nme"], f["nme_interval"] or [f["nme"]] * 2) for n, f in enumerate(figures) if f]
        at, nme, bounds = (np.array(column, float) for column in zip(*found, strict=True))
        axes.errorbar(
            nme, at + (place - (len(group) - 1) / 2) * step, xerr=np.abs(bounds.T - nme), linestyle="none",
            marker=_MARKERS[group.index(one) % len(_MARKERS)], markersize=4, elinewidth=1.3,
            color=style["color"], label=f"NME {one.result['nme']:.2f} %: {drawn(name)}",
        )  # fmt: skip
    axes.set_yticks(range(len(parts)), [drawn(part) for part in parts])
    axes.set_ylim(len(parts) - 0.5, -0.5)
    axes.set(xlabel=f"NME and its 95 % interval, % of {group[0].result['normaliser']}")
    axes.set_xlim(left=0)


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


def curve_names(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """What tells the results of one dataset apart: resolution, decoder and weights where they differ."""
    labels = {r["weights"] for r in results}
    for folders in itertools.count():  # runs of one name in several folders
        names = {label: "/".join(Path(label).parts[-1 - folders :]) for label in labels}
        if len(set(names.values())) == len(names):
            break
    parts: dict[str, Callable[[Mapping[str, Any]], str]] = {
        "resolution": lambda r: f"R={r['resolution']}",
        "decoder": lambda r: r["decoder"],
        "weights": lambda r: names[r["weights"]],
    }
    differ = [key for key in parts if len({r[key] for r in results}) > 1] or ["decoder"]
    return [", ".join(parts[key](r) for key in differ) for r in results]
