"""What popos evaluate writes to its run folder, and prints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..data.pictures import save_picture
from ..evaluate.evaluated import Evaluated
from ..evaluate.gallery import worst_faces
from ..evaluate.plots import save_ced
from ..evaluate.published import compared
from ..evaluate.report import write_html
from ..evaluate.tables import write_per_face
from ..home import write_json
from . import console


def write_run(
    run: Path, evaluated: list[Evaluated], document: dict[str, Any], settings: dict[str, Any]
) -> None:
    """All files of the run folder, `document` as `--json` prints it. The figures come first, since a picture
    of them may fail, with a note."""
    write_json(run / "metrics.json", document)
    write_json(run / "settings.json", settings)
    write_per_face(run / "per_face.csv", evaluated)
    ced = run / "ced.png"
    with console.noted(ced):
        save_ced(evaluated, ced)
    sheets: list[Path] = []
    names: Counter[str] = Counter()
    with console.progress_bar("drawing the worst faces") as (bar, task):
        bar.update(task, total=len(evaluated))
        for one in evaluated:
            r = one.result
            name = f"{r['dataset']}-{r['split']}-{r['resolution']}-{r['decoder']}"
            names[name] += 1
            number = f"-{names[name]}" if names[name] > 1 else ""  # of other weights
            sheets.append(run / "worst" / f"{name}{number}.jpg")
            with console.noted(sheets[-1]):
                save_picture(worst_faces(one), sheets[-1])
            bar.update(task, advance=1)
    write_html(run / "report.html", evaluated, settings, ced, sheets)


def print_results(results: Sequence[dict[str, Any]]) -> None:
    """A table of the figures, published ones below them."""
    rows = []
    for r in results:
        for suffix, m in [("", r), *((f": {name}", part) for name, part in r["subsets"].items())]:
            rows.append([
                f"{r['dataset']} {r['split']}{suffix}", r["weights"], str(r["resolution"]), r["decoder"],
                str(m["faces"]), f"{m['nme']:.3f}", f"{m['failure_rate']:.2f}", f"{m['auc']:.2f}",
                f"{r['normaliser']}, {r['threshold']:g}" + (f"; {r['remark']}" if r["remark"] else ""),
            ])  # fmt: skip
            if row := m["published"]:
                rows.append([
                    "  published", row["method"], str(row["resolution"]), row["decoder"] or "", "",
                    f"{row['nme']:.2f}", "", "", compared(row),
                ])  # fmt: skip
    first = results[0]
    averaging = "faces" if first["averaging"] == "face" else "points, pooled"
    console.print_table(
        f"flip test {'on' if first['flip_test'] else 'off'}, boxes: {first['detector'] or first['boxes']}, "
        f"NME over {averaging}",
        ["dataset", "weights", "R", "decoder", "faces", "NME %", "FR %", "AUC %", "normaliser, threshold"],
        rows,
    )
    published = [m["published"] for r in results for m in (r, *r["subsets"].values()) if m["published"]]
    for citation in dict.fromkeys(row["citation"] for row in published):
        console.stdout.print(f"published: {citation}")
    if first["boxes"] == "detector":
        for name, missed, faces in dict.fromkeys((r["dataset"], r["missed"], r["faces"]) for r in results):
            console.stdout.print(f"{name}: the detector missed {missed} of {missed + faces} faces")
