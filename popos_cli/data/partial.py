"""What a benchmark lacks that was prepared in part (prepare-data --allow-partial): the mark beside figures.

A shortfall is a dict that JSON can hold, of one split: `{"benchmark": "300w", "split": "test", "faces": 554,
"of": 689, "parts": {"ibug": [0, 135]}, "subsets": {"challenging": [0, 135]}}`. "of" is the official number
of faces, None where it is not known. Parts are folders of the download; they and subsets are named where they
are not whole, with their faces found and expected.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .index import Index

Shortfall = dict[str, Any]


def shortfalls(index: Index) -> dict[str, Shortfall]:
    """By split, those that are not whole; of a split that is absent altogether, too."""
    found: dict[str, Shortfall] = index.notes.get("missing", {})
    return found


def shortfall(index: Index, split: str) -> Shortfall | None:
    """Of one split; None where it is whole, or of no benchmark. Validation faces are some of training's."""
    split = "train" if split == "val" else split
    if index.notes.get("partial") and "missing" not in index.notes:  # an earlier version's: it has no counts
        return {"benchmark": index.notes.get("benchmark"), "split": split, "faces": None, "of": None}
    return shortfalls(index).get(split)


def trained_shortfall(training: Mapping[str, Any]) -> Shortfall | None:
    """Of the faces that weights were trained on, from what their file says of their training."""
    found = training.get("partial")
    return found if isinstance(found, dict) and {"faces", "split"} <= found.keys() else None


def of_subset(found: Shortfall | None, subset: str) -> Shortfall | None:
    """Of one subset of the split that has this shortfall; None where the subset is whole."""
    counts = (found or {}).get("subsets", {}).get(subset)
    return {"faces": counts[0], "of": counts[1]} if counts else None


def mark(found: Mapping[str, Any] | None) -> str:
    """What stands beside a figure: "partial: 554 of 689 faces"; "" where no face is missing, though it may be
    unknown which of them are in a subset."""
    if not found or (found.get("of") and found["faces"] == found["of"]):
        return ""
    what = "training faces" if found.get("split") == "train" else "faces"
    return f"partial: {found['faces']} of {found['of']} {what}" if found.get("of") else "partial"


def trained_mark(found: Mapping[str, Any] | None) -> str:
    """Of the faces that weights were trained on: "trained on part of 300w (2811 of 3148 faces)"."""
    if not found:
        return ""
    counts = f" ({found['faces']} of {found['of']} faces)" if found.get("of") else ""
    return f"trained on part of {found.get('benchmark')}{counts}"


def beside(scale: str, partial: Mapping[str, Any] | None, remark: str | None, trained: Any) -> str:
    """The last cell of a table's row: what a figure is measured in, and its marks. partial, trained: the
    shortfalls of its faces and of the weights' training."""
    return "; ".join(part for part in (scale, mark(partial), remark, trained_mark(trained)) if part)


def described(found: Shortfall) -> str:
    """All that is known: "test: 554 of 689 faces (ibug 0 of 135)"; "train: 0 faces" where nobody says of how
    many."""
    places = found.get("parts") or found.get("subsets") or {}
    named = ", ".join(f"{name} {have} of {expected}" for name, (have, expected) in places.items())
    of = f" of {found['of']}" if found.get("of") else ""
    counts = "not all" if found["faces"] is None else f"{found['faces']}{of}"
    return f"{found['split']}: {counts} faces{f' ({named})' if named else ''}"
