"""Histograms of a prepared dataset's sizes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ..data.index import Index
from ..evaluate.plots import drawn, save_figure
from .describe import overshoot, picture_sizes

_BINS = 40


def save_histograms(index: Index, path: Path) -> None:
    """Normaliser, square, pictures and points outside, one panel each."""
    figure = Figure(figsize=(11, 7), layout="constrained")
    normaliser, square, picture, outside = figure.subplots(2, 2).ravel()
    _panel(normaliser, f"normaliser ({index.scheme.normaliser}), pixels", "faces", index.normalisers())
    _panel(square, "side of the face's square, pixels", "faces", index.side)
    width, height = picture_sizes(index).T
    _panel(picture, "pixels", "pictures", {"width": width, "height": height})
    beyond = overshoot(index) / index.side[:, None] * 100
    distance = "distance of points outside their picture, % of the square"
    _panel(outside, distance, "points", beyond[beyond > 0])
    figure.suptitle(f"{drawn(index.name)}: {len(index)} faces, {', '.join(index.splits)}")
    save_figure(figure, path)


def _panel(axes: Any, what: str, count: str, values: NDArray[Any] | Mapping[str, NDArray[Any]]) -> None:
    """A histogram of the finite values, or several with their names; "none" where there is nothing."""
    named = values if isinstance(values, Mapping) else {"": values}
    finite = {name: column[np.isfinite(column)] for name, column in named.items()}
    together = np.concatenate(list(finite.values()))
    axes.set(xlabel=what, ylabel=count)
    if not len(together):
        axes.text(0.5, 0.5, "none", ha="center", va="center", transform=axes.transAxes)
        return
    edges = np.histogram_bin_edges(together, _BINS)
    for name, column in finite.items():
        axes.hist(column, edges, alpha=1 if len(finite) == 1 else 0.6, label=name)
    if len(finite) > 1:
        axes.legend()
    axes.grid(True, alpha=0.3)
