"""The figures as a table, each with the published one below it: for the terminal and the HTML report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..data.partial import beside

COLUMNS = ("dataset", "weights", "R", "decoder", "faces", "NME %", "FR %", "AUC %", "normaliser, threshold")


def figure_rows(results: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    """Kind ("", "subset" or "published") and cells of each row, from results as evaluate's JSON has them."""
    rows: list[tuple[str, list[str]]] = []
    for r in results:
        for subset, figures in (("", r), *r["subsets"].items()):
            scale = f"{r['normaliser']}, {r['threshold']:g}"
            measured = beside(scale, figures.get("partial"), r.get("remark"), r.get("trained_on_partial"))
            name = f"{r['dataset']} {r['split']}" + (f": {subset}" if subset else "")
            percent = [f"{figures['nme']:.3f}", f"{figures['failure_rate']:.2f}", f"{figures['auc']:.2f}"]
            cells = [name, r["weights"], str(r["resolution"]), r["decoder"], str(figures["faces"])]
            rows.append(("subset" if subset else "", [*cells, *percent, measured]))
            if published := figures["published"]:
                rows.append(("published", _published(published)))
    return rows


def _published(row: Mapping[str, Any]) -> list[str]:
    remark = f"; {row['remark']}" if row["remark"] else ""
    difference = f"ours {row['difference']:+.3f}{remark}"
    cells = ["published", row["method"], str(row["resolution"]), row["decoder"] or "", ""]
    return [*cells, f"{row['nme']:.2f}", "", "", difference]


def citations(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """Where the published figures in the table are from."""
    parts = [part["published"] for r in results for part in (r, *r["subsets"].values())]
    return list(dict.fromkeys(published["citation"] for published in parts if published))
