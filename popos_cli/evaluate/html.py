"""One self-contained HTML file about an evaluation: pictures inside, no scripts, nothing from outside."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from ..home import replacing
from ..text import printable
from .gallery import WORST
from .results import Evaluated
from .table import COLUMNS, citations, figure_rows

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #888; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 82rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.25rem; margin-top: 2.5rem; } h3 { font-size: 1rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem; text-align: left; border-bottom: 1px solid var(--line); }
th { font-weight: 600; } td.n { text-align: right; }
tr.published td { color: var(--soft); font-style: italic; }
tr.published td:first-child, tr.subset td:first-child { padding-left: 2rem; }
img { max-width: 100%; height: auto; }
p.note { color: var(--soft); }
"""


def write_html(
    path: Path, evaluated: Sequence[Evaluated], settings: Mapping[str, Any], ced: Path, sheets: Sequence[Path]
) -> None:
    """What was run, the figures beside published ones, the curves `ced`, and for each result its page of
    worst faces (`sheets`, in the order of `evaluated`)."""
    results = [one.result for one in evaluated]
    averaging = "over faces" if results[0]["averaging"] == "face" else "pooled over points"
    published = f" Published: {'; '.join(citations(results))}." if citations(results) else ""
    worst = "".join(_worst(one, sheet) for one, sheet in zip(evaluated, sheets, strict=True))
    page = f"""<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>popos evaluate</title><style>{_STYLE}</style></head>
<body>
<h1>popos evaluate</h1>
{_table(["setting", "value"], [("", pair) for pair in _settings(settings)])}
<h2>Figures</h2>
{_table(COLUMNS, figure_rows(results))}
<p class="note">NME is averaged {averaging}; FR is the share of faces above the threshold, AUC the area under
the error curve up to it. In italics: the nearest published figure.{_text(published)}</p>
<h2>Errors</h2>
<p class="note">Share of faces (upwards) whose error is at most so large (to the right).</p>
{_image(ced, "cumulative error curves")}
<h2>Worst faces</h2>
{worst}
</body>
</html>
"""
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _settings(settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Names and values, lists joined, what was not given left out; one line for each thing evaluated."""
    lines = []
    for name, value in settings.items():
        if name == "evaluated":
            for one in value:
                what = f"{one['dataset']} {one['split']}, R={one['resolution']}"
                lines.append((what, f"{one['weights']} ({one['file']})"))
        elif value not in (None, []):
            text = ", ".join(value) if isinstance(value, list) else str(value)
            lines.append((name.replace("_", " "), text))
    return lines


def _worst(one: Evaluated, sheet: Path) -> str:
    rows = []
    for place, n in enumerate(one.worst(WORST), start=1):
        face = int(one.measured.face[n])
        error, uncertainty = one.measured.error[n] * 100, one.measured.uncertainty[n].mean()
        of_face = (one.index.image[face], one.index.source[face], one.subsets_of(face))
        rows.append(("", (place, f"{error:.2f}", *of_face, f"{uncertainty:.2f}")))
    columns = ["place", "NME %", "picture", "label", "subsets", "mean uncertainty, px"]
    title = _text(f"{one.title}, {one.result['weights']}")
    return f"<h3>{title}</h3>\n{_image(sheet, 'worst faces')}\n{_table(columns, rows)}\n"


def _table(columns: Sequence[str], rows: Sequence[tuple[str, Sequence[object]]]) -> str:
    """Rows are (CSS class, cells); cells that read as numbers stand to the right."""
    head = "".join(f"<th>{_text(column)}</th>" for column in columns)
    body = "\n".join(
        f'<tr class="{kind}">{"".join(_cell(cell) for cell in cells)}</tr>' for kind, cells in rows
    )
    return f'<div class="wide"><table>\n<tr>{head}</tr>\n{body}\n</table></div>'


def _text(value: object) -> str:
    return escape(printable(str(value)))


def _cell(value: object) -> str:
    text = _text(value)
    number = text.lstrip("-").replace(".", "", 1).isdigit()
    return f"<td{' class=n' if number else ''}>{text}</td>"


def _image(path: Path, what: str) -> str:
    """The picture, or a remark where it could not be drawn."""
    if not path.exists():
        return f'<p class="note">{what}: not drawn</p>'
    kind = "png" if path.suffix == ".png" else "jpeg"
    data = base64.b64encode(path.read_bytes()).decode()
    return f'<img alt="{what}" src="data:image/{kind};base64,{data}">'
