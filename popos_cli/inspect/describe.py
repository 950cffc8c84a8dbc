"""What a prepared dataset holds, in numbers and histograms: counts, sizes, and the labels that look odd."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ..core.geometry import Floats
from ..data.flip_check import mirror
from ..data.index import Index
from ..data.partial import shortfalls
from ..evaluate.plots import drawn, save_figure

TINY = 0.05  # of the square's side: the eye corners of a profile face nearly coincide
FAR = 1.0  # sides from the square's centre, which ends at half a side
EXAMPLES = 5  # faces that are named of each odd kind
BINS, FIGURE_BINS = 20, 40  # of the JSON document's histogram, and of the figure's
_QUANTILES = {"min": 0.0, "p5": 0.05, "median": 0.5, "p95": 0.95, "max": 1.0}


def describe(index: Index) -> dict[str, Any]:
    """The document that `popos inspect --json` prints, without the files that it names. No picture is
    opened. Lengths are image pixels; a quantity that no face has is null."""
    sizes, normalisers, far = picture_sizes(index), index.normalisers(), reach(index)
    beyond, notes = overshoot(index), index.notes
    return {
        "dataset": index.name,
        "scheme": index.scheme.name,
        "landmarks": index.scheme.landmarks,
        "root": str(index.root),
        "source": notes.get("importer"),
        "coordinate_base": notes.get("coordinate_base"),
        "partial": bool(notes.get("partial", False)),
        "missing": shortfalls(index),
        "faces": len(index),
        "pictures": len(sizes),
        "splits": {split: _split(index.of_split(split)) for split in index.splits},
        "pictures_with_several_faces": sum(n > 1 for n in Counter(index.image.tolist()).values()),
        "picture_width": quantiles(sizes[:, 0]),
        "picture_height": quantiles(sizes[:, 1]),
        "square_side": quantiles(index.side),
        "normaliser": {
            "name": index.scheme.normaliser,
            "quantiles": quantiles(normalisers),
            "histogram": histogram(normalisers),
        },
        "points": {
            name: int((index.visible == value).sum())
            for name, value in (("visible", 2), ("occluded", 1), ("not_labelled", 0))
        },
        "outside": {
            "points": int((beyond > 0).sum()),
            "faces": int((beyond > 0).any(1).sum()),
            "worst": _farthest_outside(index, beyond),
        },
        "mirror": mirror(index),
        "not_measurable": _faces(index, ~np.isfinite(normalisers)),
        "tiny_normaliser": _faces(
            index, normalisers < TINY * index.side, normalisers / index.side,
            normaliser=normalisers, side=index.side,
        ),
        "far_from_square": _faces(index, far > FAR, -far, sides=far),
    }  # fmt: skip


def picture_sizes(index: Index) -> NDArray[np.int32]:
    """(P, 2) width and height of each picture, once, however many faces it has."""
    _, first = np.unique(index.image, return_index=True)
    return index.size[first]


def quantiles(values: NDArray[Any]) -> dict[str, float] | None:
    """Quantiles of the finite values; None where there are none."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return None
    return dict(zip(_QUANTILES, np.quantile(finite, list(_QUANTILES.values())).tolist(), strict=True))


def histogram(values: NDArray[Any]) -> dict[str, list[float]] | None:
    """Counts of the finite values, and the edges between them, one more; None where no value is finite."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return None
    counts, edges = np.histogram(finite, BINS)
    return {"edges": edges.tolist(), "counts": counts.tolist()}


def overshoot(index: Index) -> Floats:
    """(F, K) image pixels that a labelled point lies beyond its picture's border; 0 inside."""
    beyond = np.maximum(-0.5 - index.points, index.points - (index.size[:, None] - 0.5)).max(-1)
    return np.where(index.visible > 0, np.maximum(beyond, 0), 0.0)


def reach(index: Index) -> Floats:
    """(F,): how far from the square's centre the farthest labelled point lies, along x or y, in sides."""
    distance = np.abs(index.points - index.center[:, None]).max(-1) / index.side[:, None]
    farthest: Floats = np.where(index.visible > 0, distance, 0.0).max(1)
    return farthest


def _split(index: Index) -> dict[str, Any]:
    """Counts of one split and of the subsets that have faces in it; groups: people, 0 if unknown."""
    subsets = zip(index.subsets, index.subset.sum(0).tolist(), strict=True)
    return {
        "faces": len(index),
        "pictures": len(set(index.image.tolist())),
        "groups": len(set(index.group.tolist()) - {""}),
        "subsets": {name: faces for name, faces in subsets if faces},
    }


def _farthest_outside(index: Index, beyond: Floats) -> dict[str, Any] | None:
    """The point that lies farthest outside its picture, by its `overshoot`; None where none does."""
    face, landmark = (int(n) for n in np.unravel_index(beyond.argmax(), beyond.shape))
    pixels = float(beyond[face, landmark])
    return {**_named(index, face), "landmark": landmark, "pixels": pixels} if pixels else None


def _faces(
    index: Index, chosen: NDArray[np.bool_], order: Floats | None = None, **values: Floats
) -> dict[str, Any]:
    """How many faces are chosen, and some of them by name, lowest `order` (F,) first, each with its own
    of the values (F,)."""
    rows = np.flatnonzero(chosen)
    if order is not None:
        rows = rows[np.argsort(order[rows], kind="stable")]
    examples = [
        {**_named(index, row), **{name: float(value[row]) for name, value in values.items()}}
        for row in rows[:EXAMPLES].tolist()
    ]
    return {"faces": len(rows), "examples": examples}


def _named(index: Index, face: int) -> dict[str, str]:
    return {"image": str(index.image[face]), "source": str(index.source[face])}


def save_histograms(index: Index, path: Path) -> None:
    """A figure with a panel each: normaliser, square, pictures, and points outside."""
    figure = Figure(figsize=(11, 7), layout="constrained")
    normaliser, square, picture, outside = figure.subplots(2, 2).ravel()
    _panel(normaliser, f"normaliser ({index.scheme.normaliser}), pixels", "faces", index.normalisers())
    _panel(square, "side of the face's square, pixels", "faces", index.side)
    width, height = picture_sizes(index).T
    _panel(picture, "pixels", "pictures", width=width, height=height)
    beyond = overshoot(index) / index.side[:, None] * 100
    distance = "distance of points outside their picture, % of the square"
    _panel(outside, distance, "points", beyond[beyond > 0])
    figure.suptitle(f"{drawn(index.name)}: {len(index)} faces, {', '.join(index.splits)}")
    save_figure(figure, path)


def _panel(
    axes: Any, what: str, count: str, values: NDArray[Any] | None = None, **named: NDArray[Any]
) -> None:
    """A histogram of the finite `values`, or several with their names; "none" where there is nothing."""
    columns = named if values is None else {"": values}
    columns = {name: column[np.isfinite(column)] for name, column in columns.items()}
    together = np.concatenate(list(columns.values()))
    axes.set(xlabel=what, ylabel=count)
    if not len(together):
        axes.text(0.5, 0.5, "none", ha="center", va="center", transform=axes.transAxes)
        return
    edges = np.histogram_bin_edges(together, FIGURE_BINS)
    for name, column in columns.items():
        axes.hist(column, edges, alpha=0.6 if named else 1, label=name)
    if named:
        axes.legend()
    axes.grid(True, alpha=0.3)
