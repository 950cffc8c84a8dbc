"""One self-contained HTML file about an evaluation: pictures inside, no scripts, nothing from outside, and no
folder of this machine, so that it can be sent to others."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

import cv2

from ..data.partial import mark
from ..data.pictures import Picture
from ..home import replacing
from ..text import printable, without_folders
from .plots import by_dataset, curve_names
from .results import Evaluated
from .table import COLUMNS, figure_tables, interval

_QUALITY = 85  # of the faces' JPEGs, about 25 kB each


@dataclass(frozen=True)
class Pictures:
    """ced, groups: the plots; a file that is not there could not be drawn. tiles: of each result its worst
    faces, RGB; none where they could not be drawn."""

    ced: Path
    groups: Path
    tiles: Sequence[Sequence[Picture]]


def write_html(
    path: Path, evaluated: Sequence[Evaluated], settings: Mapping[str, Any], pictures: Pictures
) -> None:
    """What was measured, the figures beside published ones, curves, errors of the landmark groups, worst
    faces, and the settings last. settings: as in settings.json."""
    datasets = by_dataset(evaluated)
    title = _text(f"popos evaluate: {', '.join(datasets)}")
    averaging = "over faces" if evaluated[0].result["averaging"] == "face" else "over all labelled points"
    groups = "".join(_groups(name, results) for name, results in datasets.items())
    if groups:
        groups = f"""<h2>Error of each landmark group</h2>
{_image(pictures.groups, "errors of the landmark groups")}
{groups}"""
    style = resources.files(__package__).joinpath("report.css").read_text(encoding="utf-8")
    page = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<h1>{title}</h1>
{_pairs(_measured(datasets, settings))}
<h2>Summary</h2>
{_summary([one.result for one in evaluated])}
<p class="note">NME: normalised mean error, averaged {averaging}, with its 95 % confidence interval (bootstrap
over faces). FR: share of faces above the threshold. AUC: area under the error curve up to it. Bold: the
lowest error. In italics: the nearest published figure, if there is one.</p>
<h2>Cumulative error curve</h2>
<p class="note">Share of faces (upwards) whose error is at most so large (to the right).</p>
{_image(pictures.ced, "cumulative error curves")}
{groups}
<h2>Worst faces</h2>
<p class="note">Green: the labels. Pink: what was found.</p>
{_worst_faces(evaluated, pictures)}
<h2>Settings</h2>
{_pairs(_settings(settings))}
</body>
</html>
"""
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _measured(
    datasets: Mapping[str, Sequence[Evaluated]], settings: Mapping[str, Any]
) -> list[tuple[str, str]]:
    """Weights and their hashes, data, date, version, command, and what could not be measured."""
    lines = []
    for one in {one["file"]: one for one in settings.get("evaluated", [])}.values():
        what = f"{one['weights']} ({Path(one['file']).name}), {one['resolution']}-pixel heatmaps"
        lines.append(("weights", f"{what}, SHA-256 {one['sha256']}"))
    for name, results in datasets.items():
        first = results[0]
        scheme = first.index.scheme
        benchmark = first.index.notes.get("benchmark")
        parts = [
            f"{name}: {first.result['faces']} faces",
            f"benchmark {benchmark}" if benchmark else "",
            f"{scheme.landmarks} landmarks (scheme {scheme.name})",
            mark(first.result.get("partial")),
        ]
        if first.result["boxes"] == "detector":
            parts.append(f"{first.result['missed']} more faces missed by {first.result['detector']}")
        lines.append(("data", ", ".join(filter(None, parts))))
    lines += [(key, str(settings[key])) for key in ("date", "command") if settings.get(key)]
    lines.append(("popos", str(settings.get("popos"))))
    return lines + [("not measured", failure) for failure in settings.get("failed", [])]


_NOT_SETTINGS = ("evaluated", "failed", "date", "command", "popos")  # these are above


def _settings(settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Names and values, lists joined, what was not given left out."""
    given = {key: value for key, value in settings.items() if key not in _NOT_SETTINGS}
    switch = {True: "on", False: "off"}
    return [
        (
            name.replace("_", " "),
            ", ".join(value) if isinstance(value, list) else switch.get(value, str(value)),
        )
        for name, value in given.items()
        if value not in (None, [])
    ]


def _summary(results: Sequence[Mapping[str, Any]]) -> str:
    """One table: the results of each dataset under its name."""
    tables, notes = figure_tables(results)
    columns = COLUMNS if notes else COLUMNS[:-1]
    nme = COLUMNS.index("NME %")
    rows = ""
    for table in tables:
        rows += f'<tr><th class="group" colspan="{len(columns)}">{_text(table.title)}</th></tr>\n'
        best = min((cells[nme] for kind, cells in table.rows if not kind), key=float)
        for kind, cells in table.rows:
            texts = [_text(cell) for cell in cells[: len(columns)]]
            if not kind and cells[nme] == best:
                texts[nme] = f"<b>{texts[nme]}</b>"
            rows += _row(texts, kind)
    numbered = "".join(f"<li>{_text(note)}</li>" for note in notes)
    return _table(columns, rows, "summary") + (f'<ol class="note">{numbered}</ol>' if notes else "")


def _groups(dataset: str, results: Sequence[Evaluated]) -> str:
    """A table of one dataset: a row for each group of landmarks, a column for each result, the best first.
    Empty where the scheme has no groups."""
    scheme = results[0].index.scheme
    if not scheme.groups:
        return ""
    names = curve_names([one.result for one in results])
    ordered = sorted(zip(results, names, strict=True), key=lambda entry: entry[0].result["nme"])
    rows = ""
    for group in (None, *scheme.groups):
        name = f"{group} ({len(scheme.groups[group])})" if group else f"all ({scheme.landmarks})"
        cells = [_text(name)]
        for one, _ in ordered:
            figures = one.result["groups"].get(group) if group else one.result
            bounds = interval(figures["nme_interval"]) if figures else ""
            cells.append(f"{figures['nme']:.2f} <small>{bounds}</small>" if figures else "")
        rows += _row(cells)
    columns = ["landmarks", *(name for _, name in ordered)]
    note = f"{dataset}: NME in % of {results[0].result['normaliser']}, and its 95 % interval"
    return f'<p class="note">{_text(note)}</p>\n{_table(columns, rows)}\n'


def _worst_faces(evaluated: Sequence[Evaluated], pictures: Pictures) -> str:
    """The faces of each result, the worst first; of several results half of them."""
    names = {}
    for dataset, results in by_dataset(evaluated).items():
        for one, name in zip(results, curve_names([one.result for one in results]), strict=True):
            names[id(one)] = f"{dataset}: {name}"
    sections = ""
    for one, tiles in zip(evaluated, pictures.tiles, strict=True):
        sections += f"<h3>{_text(names[id(one)])}</h3>\n"
        shown = tiles if len(evaluated) == 1 else tiles[: len(tiles) // 2 or None]
        sections += f'<div class="faces">{_faces(one, shown)}</div>\n' if tiles else _missing("worst faces")
    return sections


def _faces(one: Evaluated, tiles: Sequence[Picture]) -> str:
    figures = ""
    for place, (row, tile) in enumerate(zip(one.worst(len(tiles)), tiles, strict=True), start=1):
        face = int(one.measured.face[row])
        image, source, subsets = one.index.image[face], one.index.source[face], one.subsets_of(face)
        uncertainty = f"uncertainty {one.measured.uncertainty[row].mean():.1f} px"
        told = "; ".join(filter(None, (f"label {source}" if source else "", subsets, uncertainty)))
        done, data = cv2.imencode(
            ".jpg", cv2.cvtColor(tile, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]
        )
        assert done
        figures += (
            f"<figure>{_picture(data.tobytes(), 'jpeg', f'face {place}')}<figcaption>{place}. "
            f"<b>{one.measured.error[row] * 100:.2f} %</b> {_text(image)}<br><small>{_text(told)}</small>"
            "</figcaption></figure>\n"
        )
    return figures


def _table(columns: Sequence[str], rows: str, kind: str = "") -> str:
    """rows: HTML. kind: a CSS class. What is wider than the page scrolls."""
    head = "".join(f"<th>{_text(column)}</th>" for column in columns)
    return f'<div class="wide"><table class="{kind}">\n<tr>{head}</tr>\n{rows}</table></div>'


def _row(cells: Sequence[str], kind: str = "") -> str:
    """cells: HTML. kind: a CSS class."""
    return f'<tr class="{kind}">{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>\n'


def _pairs(pairs: Sequence[tuple[str, str]]) -> str:
    return "<dl>\n" + "".join(f"<dt>{_text(k)}</dt><dd>{_text(v)}</dd>\n" for k, v in pairs) + "</dl>"


def _text(value: object) -> str:
    return escape(printable(without_folders(str(value))))


def _image(path: Path, what: str) -> str:
    """A plot, or a remark where it could not be drawn."""
    return f"<p>{_picture(path.read_bytes(), 'png', what)}</p>" if path.exists() else _missing(what)


def _missing(what: str) -> str:
    return f'<p class="note">{what}: not drawn</p>\n'


def _picture(data: bytes, kind: str, what: str) -> str:
    return f'<img alt="{what}" src="data:image/{kind};base64,{base64.b64encode(data).decode()}">'
