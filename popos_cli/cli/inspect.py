"""popos inspect: what a prepared dataset holds, and its faces as training sees them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..core.choices import Split
from . import console
from .options import JSON, SETTINGS

if TYPE_CHECKING:
    from ..core.schemes import Scheme

EXAMPLES = (
    "Examples:  popos inspect 300w   |   popos inspect my_faces --set augment.flip=1   |   "
    "popos inspect wflw --split test --faces 20 --json"
)
ODD_FACES = {
    "not_measurable": "faces without a normaliser (an eye corner is not labelled)",
    "tiny_normaliser": "faces whose normaliser is below 5 % of their square, like profiles",
    "far_from_square": "faces with points more than a side from their square's centre: another scale?",
}


def inspect(
    dataset: Annotated[str, typer.Argument(help="A prepared dataset.")],
    split: Annotated[
        Split | None, typer.Option(help="Which faces.", show_default="all; the sheet shows train")
    ] = None,
    faces: Annotated[int, typer.Option(min=1, max=200, help="Faces on the sheet.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Picks these faces.")] = 0,
    config: Annotated[Path | None, typer.Option(help="TOML file of training settings.")] = None,
    set_: SETTINGS = None,
    out: Annotated[
        Path | None, typer.Option(help="Run folder.", show_default="runs/inspect-DATASET-N")
    ] = None,
    json: JSON = False,
) -> None:
    """Look at a dataset before you train on it: counts, sizes, odd labels; and faces.jpg, a sheet of faces
    as training sees them, and histograms.png.

    The sheet has a row for each face: the photo, the crop, four augmented crops, at least one of them
    mirrored, and two details. Settings as in popos train.
    """
    from ..train.load import load_train_settings

    settings = load_train_settings(dataset, config, set_ or [], {})
    from ..inspect.run import inspect_dataset

    report, scheme = inspect_dataset(settings, split, faces, seed, out, console.bar)
    if json:
        console.print_json(report)
    else:
        _print(report, scheme)


def _print(report: dict[str, Any], scheme: Scheme) -> None:
    from ..data.flip_check import mirror_remarks

    partial = ", partial" if report["partial"] else ""
    console.stdout.print(
        f"{report['dataset']}: {report['faces']} faces, scheme {report['scheme']} "
        f"({report['landmarks']} landmarks), source {report['source'] or 'unknown'}{partial}"
    )
    rows = []
    for split, part in report["splits"].items():
        rows.append([split, str(part["faces"]), str(part["pictures"]), str(part["groups"] or "")])
        rows += [[f"  {name}", str(count), "", ""] for name, count in part["subsets"].items()]
    console.print_table("", ["split", "faces", "pictures", "people"], rows)
    lengths = {
        "picture's width": report["picture_width"],
        "picture's height": report["picture_height"],
        "side of the face's square": report["square_side"],
        f"normaliser, {report['normaliser']['name']}": report["normaliser"]["quantiles"],
    }
    console.print_table(
        "",
        ["pixels", "min", "5 %", "median", "95 %", "max"],
        [[name, *(f"{v:.1f}" for v in values.values())] for name, values in lengths.items() if values],
    )
    for line in [*_remarks(report), *mirror_remarks(report["mirror"], scheme)]:
        console.stdout.print(line)
    console.stdout.print(f"pictures: {report['root']}")
    console.stdout.print(f"sheet of {report['sheet']['split']} faces: {report['sheet']['file']}")
    if report["histograms"]:
        console.stdout.print(f"histograms: {report['histograms']}")


def _remarks(report: dict[str, Any]) -> list[str]:
    """A line for the points, and one for each kind of odd label."""
    from ..data.partial import described

    points, outside = report["points"], report["outside"]
    lines = [
        *(f"partial: {described(split)}" for split in report["missing"].values()),
        f"points: {points['visible']} visible, {points['occluded']} labelled but occluded, "
        f"{points['not_labelled']} not labelled",
    ]
    if base := report["coordinate_base"]:
        lines.append(f"labels counted from {base}; {base} was subtracted")
    if report["pictures_with_several_faces"]:
        lines.append(f"pictures with several faces: {report['pictures_with_several_faces']}")
    if worst := outside["worst"]:
        lines.append(
            f"points outside their picture: {outside['points']}, of {outside['faces']} faces; farthest: "
            f"landmark {worst['landmark']} of {worst['image']} ({worst['source']}), {worst['pixels']:.1f} px"
        )
    for key, what in ODD_FACES.items():
        count, examples = report[key]["faces"], report[key]["examples"]
        if count:
            named = ", ".join(f"{e['image']} ({e['source']})" for e in examples)
            lines.append(f"{what}: {count}; {named}{' ...' if count > len(examples) else ''}")
    return lines
