"""popos predict: pictures and videos -> landmarks as text, JSON, tables, overlays."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..core.choices import MIN_SCORE, SMALLEST_BOX, DetectorName
from ..errors import PoposWarning, UsageError
from . import console
from .options import DEVICE, FLIP_HELP, JSON, OFFLINE, parse_numbers, parse_time
from .predict_report import Report

if TYPE_CHECKING:
    from ..predict.frames import Span
    from ..predict.predictor import Predictor

EXAMPLES = (
    "Examples:  popos predict photo.jpg   |   popos predict photos/ --out found   |   "
    "popos predict 'shots/*.png' --json > found.json   |   popos predict face.jpg --box 120,80,200,210   |   "
    "popos predict clip.mp4 --start 1:30 --end 2:00 --csv clip.csv   |   popos predict 0 --show   |   "
    "popos predict rtsp://camera/1 --jsonl"
)
DEFAULT_OUT = Path("popos-out")


def predict(
    sources: Annotated[
        list[str],
        typer.Argument(
            help="Pictures and videos, folders of them (searched below), globs, a camera's number, "
            "a stream's address (rtsp://, http://)."
        ),
    ],
    weights: Annotated[
        str, typer.Option(help="A catalog name, a .safetensors file or a run folder.")
    ] = "default",
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for overlays, annotated videos and JSON files.",
            show_default="popos-out; with --json none",
        ),
    ] = None,
    csv: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A table, a row a face, with OpenFace's columns.")
    ] = None,
    coco: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="COCO keypoints of pictures, to be corrected in CVAT or the like and read by prepare-data.",
        ),
    ] = None,
    parts: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Append JSON lines to a file there; what one has is not done again. Under torchrun, srun or "
            "--gpus each process does its share.",
        ),
    ] = None,
    gpus: Annotated[
        int, typer.Option(min=0, help="Processes that share the pictures, each on a GPU; with --parts.")
    ] = 0,
    crops: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write each face, upright and aligned, as a PNG.")
    ] = None,
    size: Annotated[int, typer.Option(min=16, max=4096, help="Width of the crops of --crops.")] = 256,
    uncertainty: Annotated[
        bool, typer.Option("--uncertainty", help="Draw a circle of that radius around each landmark.")
    ] = False,
    show: Annotated[bool, typer.Option("--show", help="Open a window; q ends.")] = False,
    box: Annotated[
        list[str] | None,
        typer.Option(
            metavar="x,y,w,h",
            help="Tight landmark box in pixels instead of the detector's; one picture; repeatable.",
        ),
    ] = None,
    whole_image: Annotated[
        bool, typer.Option("--whole-image", help="Each picture is one face crop.")
    ] = False,
    detector: Annotated[
        DetectorName,
        typer.Option(help="auto: yunet where it is here or can be fetched in 3 seconds, else haar."),
    ] = "auto",
    min_score: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            help="Leave out what is a face with a lower probability; 0 keeps what detectors find.",
        ),
    ] = MIN_SCORE,
    max_faces: Annotated[
        int | None,
        typer.Option(min=1, help="Only so many faces of a picture, the largest.", show_default="all"),
    ] = None,
    turn: Annotated[
        bool,
        typer.Option("--turn/--no-turn", help="Search pictures in which nothing is found turned, too."),
    ] = True,
    every: Annotated[int, typer.Option(min=1, help="Of a video only every N-th frame.")] = 1,
    start: Annotated[
        str | None, typer.Option(metavar="TIME", help="Begin there in a video: seconds, m:ss or h:mm:ss.")
    ] = None,
    end: Annotated[str | None, typer.Option(metavar="TIME", help="End there.")] = None,
    smooth: Annotated[
        bool, typer.Option("--smooth/--no-smooth", help="Filter the landmarks of a video over time.")
    ] = True,
    flip_test: Annotated[bool, typer.Option("--flip-test/--no-flip-test", help=FLIP_HELP)] = False,
    device: DEVICE = None,
    offline: OFFLINE = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Print every landmark.")] = False,
    json: JSON = False,
    jsonl: Annotated[
        bool,
        typer.Option(
            "--jsonl", help="Print a JSON object a frame, as it is found, as --json does of a video."
        ),
    ] = False,
) -> None:
    """Find faces and their landmarks in pictures, videos, and what a camera sees.

    Coordinates are 0-based pixels of the picture as a person sees it (EXIF orientation applied).
    What cannot be read is reported, the others are still done, and the exit code is 1. Ctrl-C keeps
    what is done.
    """
    boxes, span = [_parse_box(text) for text in box or []], _parse_span(every, start, end)
    from ..predict.checks import check_processes, check_sources
    from ..predict.parts import own_share, predict_on_gpus
    from ..predict.sources import expand

    named = expand(sources, span)
    check_sources(named, span, bool(boxes), whole_image, bool(coco))
    given, others = bool(boxes) or whole_image, bool(out or csv or coco or crops or show)
    check_processes(gpus, bool(parts), others, one_place=given or bool(device))
    settings: dict[str, Any] = {
        "weights": weights, "detector": detector, "flip_test": flip_test,
        "min_score": min_score, "max_faces": max_faces, "turn": turn,
    }  # fmt: skip
    if parts and gpus:
        raise typer.Exit(int(predict_on_gpus(gpus, named, settings, parts) > 0))
    if parts:
        named = own_share(named, parts, weights)
    from ..predict.predictor import Predictor
    from ..predict.run import Outputs, run_prediction

    warnings.simplefilter("ignore", PoposWarning)  # the remarks say the same, once
    alone = len(named) == 1 and not named[0].moving
    predictor = Predictor(**settings, device=device, quick_start=alone)
    _print_remarks(predictor, weights, flip_test, detects=not given)
    quiet = json or jsonl or parts is not None
    head = {"weights": weights, "scheme": predictor.scheme.name, "groups": predictor.scheme.groups}
    folder = out if quiet else out or DEFAULT_OUT
    outputs = Outputs(head, folder, csv, coco, show, crops, size, uncertainty, parts)
    results = run_prediction(predictor, named, outputs, boxes, whole_image, smooth)
    report = Report(named, outputs, verbose, quiet)
    lines = jsonl or (json and any(source.moving for source in named))
    raise typer.Exit(report.show(results, as_json=json, as_lines=lines))


def _parse_box(text: str) -> tuple[float, float, float, float]:
    """ "x,y,w,h" in pixels -> numbers. Raises UsageError."""
    x, y, w, h = parse_numbers("--box", text, "x,y,w,h")
    if min(w, h) <= 0:
        raise UsageError(f"--box {text!r}: width and height must be above 0")
    if max(w, h) <= SMALLEST_BOX:
        hint = "Multiply a box in 0..1 by the picture's width and height."
        raise UsageError(f"--box {text!r}: must be in pixels", hint)
    return x, y, w, h


def _parse_span(every: int, start: str | None, end: str | None) -> Span:
    """Which frames of a video. Raises UsageError."""
    from ..predict.frames import Span

    first = parse_time("--start", start) if start else 0.0
    last = parse_time("--end", end) if end else None
    if last is not None and last <= first:
        raise UsageError(f"--end {end}: must be behind --start {start or 0}")
    return Span(every, first, last)


def _print_remarks(predictor: Predictor, weights: str, flip_test: bool, detects: bool) -> None:
    """What to know of these weights before their results are used."""
    if flip_test and not predictor.scheme.mirrors:
        console.note(f"no flip test: {predictor.scheme.no_mirror}")
    if predictor.rule is None and detects:
        console.note(f"warning: {weights}: {predictor.info.crop_warning}")
    if predictor.info.uncertainty is None:
        console.note(f"{weights}: its uncertainty is not calibrated (see popos calibrate --help)")
