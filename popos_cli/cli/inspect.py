"""popos inspect: what a prepared dataset holds, and its faces as training sees them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import console
from .options import JSON, one_of

if TYPE_CHECKING:
    from ..core.schemes import Scheme
    from ..data.index import Index
    from ..data.pictures import Picture
    from ..train.settings import TrainSettings

EXAMPLES = (
    "Examples:  popos inspect 300w   |   popos inspect my_faces --set augment.flip=1   |   "
    "popos inspect wflw --split test --faces 20 --json"
)


def inspect(
    dataset: Annotated[str, typer.Argument(help="A prepared dataset.")],
    split: Annotated[
        str | None,
        typer.Option(help="train, val, test or private.", show_default="all; the sheet shows train"),
    ] = None,
    faces: Annotated[int, typer.Option(min=1, max=200, help="Faces on the sheet.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Picks these faces.")] = 0,
    config: Annotated[Path | None, typer.Option(help="TOML file of training settings.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="One setting, e.g. augment.flip=1; repeatable."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Run folder.", show_default="runs/inspect-DATASET-N")
    ] = None,
    json: JSON = False,
) -> None:
    """Look at a dataset before you train on it: counts, sizes, odd labels; and faces.jpg, a sheet of faces
    as training sees them, and histograms.png.

    The sheet has a row for each face: the photo, the crop, four augmented crops, one of them at least
    mirrored, and two close looks. Settings as in popos train.
    """
    from ..core.choices import SPLITS
    from ..train.load import load_train_settings

    if split is not None:
        one_of(split, SPLITS, "split")
    settings = load_train_settings(dataset, config, set_ or [], {})
    from ..data.index import read_index
    from ..data.stamps import check_pictures
    from ..home import new_run_folder, refuse_taken

    refuse_taken(out)
    index = read_index(dataset)
    if split is not None:
        index = index.of_split(split)
    check_pictures(index)
    from ..data.pictures import save_picture
    from ..inspect.describe import describe
    from ..inspect.histograms import save_histograms

    report = describe(index)
    shown = split or ("train" if "train" in index.splits else index.splits[0])
    page = _draw(settings, index.of_split(shown), faces, seed)
    run = new_run_folder(out, f"inspect-{dataset}")
    save_picture(page, run / "faces.jpg")
    histograms = run / "histograms.png"
    with console.noted(histograms):
        save_histograms(index, histograms)
    report |= {
        "sheet": {"split": shown, "file": str(run / "faces.jpg")},
        "histograms": str(histograms) if histograms.exists() else None,
        "run": str(run),
    }
    if json:
        console.print_json(report)
    else:
        _print(report, index.scheme)


def _draw(settings: TrainSettings, index: Index, faces: int, seed: int) -> Picture:
    """The sheet of some of the index's faces."""
    from ..inspect.augmented import look_at
    from ..inspect.samples import draw_faces, spread
    from ..train.build import augmented_faces, build_info, plain_faces

    codec = build_info(settings, index).build_codec()
    plain, augmented = plain_faces(settings, index, codec), augmented_faces(settings, index, codec)
    chosen = spread(len(index), faces, seed)
    samples = []
    with console.progress_bar("drawing faces") as (bar, task):
        bar.update(task, total=len(chosen))
        for face in chosen:
            samples.append(look_at(face, plain, augmented))
            bar.update(task, advance=1)
    return draw_faces(index, samples)


def _print(report: dict[str, Any], scheme: Scheme) -> None:
    from ..data.flip_check import mirror_remarks

    rows = []
    for split, part in report["splits"].items():
        people = str(part["groups"]) if part["groups"] else ""
        rows.append([split, str(part["faces"]), str(part["pictures"]), people])
        rows += [[f"  {name}", str(count), "", ""] for name, count in part["subsets"].items()]
    partial = ", partial" if report["partial"] else ""
    console.stdout.print(
        f"{report['dataset']}: {report['faces']} faces, scheme {report['scheme']} "
        f"({report['landmarks']} landmarks), source {report['source'] or 'unknown'}{partial}"
    )
    console.print_table("", ["split", "faces", "pictures", "people"], rows)
    normaliser = report["normaliser"]
    lengths = {
        "picture's width": report["picture_width"],
        "picture's height": report["picture_height"],
        "side of the face's square": report["square_side"],
        f"normaliser, {normaliser['name']}": normaliser["quantiles"],
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
    """What is worth a line: the points, then what is odd about some faces."""
    points, outside = report["points"], report["outside"]
    lines = [
        f"points: {points['visible']} visible, {points['occluded']} labelled but occluded, "
        f"{points['not_labelled']} not labelled"
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
    odd = {
        "not_measurable": "faces without a normaliser (an eye corner is not labelled)",
        "tiny_normaliser": "faces whose normaliser is below 5 % of their square, like profiles",
        "far_from_square": "faces with points more than a side from their square's centre: another scale?",
    }
    for key, what in odd.items():
        if count := report[key]["faces"]:
            named = ", ".join(f"{e['image']} ({e['source']})" for e in report[key]["examples"])
            lines.append(f"{what}: {count}; {named}{' ...' if count > len(report[key]['examples']) else ''}")
    return lines
