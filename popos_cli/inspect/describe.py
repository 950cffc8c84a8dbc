"""What a prepared dataset holds, in numbers: counts, sizes, and the labels that look odd."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.geometry import Floats
from ..data.flip_check import mirror
from ..data.index import Index

TINY = 0.05  # of the square's side: the eye corners of a profile face nearly coincide
FAR = 1.0  # sides from the square's centre, which ends at half a side
EXAMPLES = 5
BINS = 20
_QUANTILES = {"min": 0.0, "p5": 0.05, "median": 0.5, "p95": 0.95, "max": 1.0}


def describe(index: Index) -> dict[str, Any]:
    """The document that `popos inspect --json` prints, without the files that it names. No picture is
    opened. Lengths are image pixels; a quantity that no face has is null."""
    sizes = picture_sizes(index)
    normalisers = index.normalisers()
    notes, far = index.notes, reach(index)
    return {
        "dataset": index.name,
        "scheme": index.scheme.name,
        "landmarks": index.scheme.landmarks,
        "root": str(index.root),
        "source": notes.get("importer"),
        "coordinate_base": notes.get("coordinate_base"),
        "partial": bool(notes.get("partial", False)),
        **_counts(index),
        "splits": {split: _split(index.of_split(split)) for split in index.splits},
        "pictures_with_several_faces": _several(index),
        "picture_width": quantiles(sizes[:, 0]),
        "picture_height": quantiles(sizes[:, 1]),
        "square_side": quantiles(index.side),
        "normaliser": {
            "name": index.scheme.normaliser,
            "quantiles": quantiles(normalisers),
            "histogram": histogram(normalisers),
        },
        "points": {
            "visible": int((index.visible == 2).sum()),
            "occluded": int((index.visible == 1).sum()),
            "not_labelled": int((index.visible == 0).sum()),
        },
        "outside": _outside(index),
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
    """Of those values that are finite; None where there are none."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return None
    return dict(zip(_QUANTILES, np.quantile(finite, list(_QUANTILES.values())).tolist(), strict=True))


def histogram(values: NDArray[Any]) -> dict[str, list[float]] | None:
    """Counts (BINS,) and the edges (BINS + 1,) between them; None where no value is finite."""
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
    apart = np.abs(index.points - index.center[:, None]).max(-1) / index.side[:, None]
    farthest: Floats = np.where(index.visible > 0, apart, 0.0).max(1)
    return farthest


def _counts(index: Index) -> dict[str, int]:
    return {"faces": len(index), "pictures": len(set(index.image.tolist()))}


def _split(index: Index) -> dict[str, Any]:
    """Counts of one split and of the subsets that have faces in it; groups: people, 0 if unknown."""
    subsets = zip(index.subsets, index.subset.sum(0).tolist(), strict=True)
    return {
        **_counts(index),
        "groups": len(set(index.group.tolist()) - {""}),
        "subsets": {name: faces for name, faces in subsets if faces},
    }


def _several(index: Index) -> int:
    return sum(faces > 1 for faces in Counter(index.image.tolist()).values())


def _outside(index: Index) -> dict[str, Any]:
    """Points outside their picture, and the one that lies farthest out."""
    beyond = overshoot(index)
    outside = beyond > 0
    worst = None
    if outside.any():
        face, landmark = (int(n) for n in np.unravel_index(beyond.argmax(), beyond.shape))
        worst = {**_named(index, face), "landmark": landmark, "pixels": float(beyond[face, landmark])}
    return {"points": int(outside.sum()), "faces": int(outside.any(1).sum()), "worst": worst}


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
