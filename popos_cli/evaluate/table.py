"""The figures as tables, each with the published one below it: for the terminal and the HTML report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..data.partial import mark, trained_mark

COLUMNS = ("weights", "R", "decoder", "faces", "NME %", "95 % interval", "FR %", "AUC %", "note")


@dataclass(frozen=True)
class Table:
    """The results of one dataset and split. rows: kind ("", "subset" or "published") and cells of COLUMNS."""

    title: str
    rows: list[tuple[str, list[str]]]


def figure_tables(results: Sequence[Mapping[str, Any]]) -> tuple[list[Table], list[str]]:
    """Tables of results as evaluate's JSON has them, and the notes that their last cells number from 1."""
    tables: dict[str, Table] = {}
    notes: dict[str, int] = {}
    for r in results:
        title = (
            f"{r['dataset']} {r['split']}: NME in % of {r['normaliser']}, "
            f"failure (FR) above {r['threshold'] * 100:g} %"
        )
        rows = tables.setdefault(title, Table(title, [])).rows
        for subset, figures in (("", r), *r["subsets"].items()):
            of_weights = [r["weights"], str(r["resolution"]), r["decoder"]]
            percent = [f"{figures[key]:.{digits}f}" for key, digits in (("failure_rate", 2), ("auc", 2))]
            measured = [f"{figures['nme']:.3f}", interval(figures["nme_interval"]), *percent]
            remarks = [
                mark(figures.get("partial")), r.get("remark"), trained_mark(r.get("trained_on_partial"))
            ]  # fmt: skip
            cells = [*([subset, "", ""] if subset else of_weights), str(figures["faces"]), *measured]
            rows.append(("subset" if subset else "", [*cells, _numbers(remarks, notes)]))
            if published := figures["published"]:
                rows.append(("published", _published(published, notes)))
    return list(tables.values()), list(notes)


def interval(bounds: Sequence[float] | None) -> str:
    """ "3.21-3.56"; "" where there is none."""
    return "-".join(f"{bound:.2f}" for bound in bounds or ())


def _published(row: Mapping[str, Any], notes: dict[str, int]) -> list[str]:
    name = f"published: {row['method']}; ours {row['difference']:+.3f}"
    note = _numbers([row["remark"], row["citation"]], notes)
    return [name, str(row["resolution"]), row["decoder"] or "", "", f"{row['nme']:.2f}", "", "", "", note]


def _numbers(remarks: Sequence[str | None], notes: dict[str, int]) -> str:
    """ "1,3": where these remarks stand among the notes; new ones are added."""
    return ",".join(str(notes.setdefault(remark, len(notes) + 1)) for remark in remarks if remark)
