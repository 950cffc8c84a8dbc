"""popos predict: pictures -> landmarks as text, JSON and overlays."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..core.choices import SMALLEST_BOX, DetectorName
from ..errors import PoposWarning, UsageError
from . import console
from .options import DEVICE, FLIP_HELP, JSON, parse_numbers

if TYPE_CHECKING:
    from ..core.schemes import Scheme
    from ..predict.face import Face
    from ..predict.predictor import Predictor

EXAMPLES = (
    "Examples:  popos predict photo.jpg   |   popos predict photos/ --out found   |   "
    "popos predict 'shots/*.png' --json > found.json   |   popos predict face.jpg --box 120,80,200,210"
)
DEFAULT_OUT = Path("popos-out")


def predict(
    sources: Annotated[list[str], typer.Argument(help="Images, folders (searched below) or globs.")],
    weights: Annotated[
        str, typer.Option(help="A catalog name, a .safetensors file or a run folder.")
    ] = "default",
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for overlays and JSON files.", show_default="popos-out; with --json none"),
    ] = None,
    box: Annotated[
        list[str] | None,
        typer.Option(
            metavar="x,y,w,h",
            help="Tight landmark box in pixels instead of the detector; one source; repeatable.",
        ),
    ] = None,
    whole_image: Annotated[
        bool, typer.Option("--whole-image", help="Each picture is one face crop.")
    ] = False,
    detector: Annotated[
        DetectorName, typer.Option(help="auto: yunet where it has been downloaded, else haar.")
    ] = "auto",
    flip_test: Annotated[bool, typer.Option("--flip-test/--no-flip-test", help=FLIP_HELP)] = False,
    device: DEVICE = None,
    json: JSON = False,
) -> None:
    """Find faces and their landmarks in pictures.

    Coordinates are 0-based pixels of the picture as a person sees it (EXIF orientation applied).
    An unreadable picture is reported, the others are still done, and the exit code is 1.
    """
    boxes = [_parse_box(text) for text in box or []]
    if boxes and whole_image:
        raise UsageError("--box and --whole-image exclude each other")
    from ..data.pictures import max_pixels
    from ..predict.sources import expand

    max_pixels()  # a wrong setting is found now, not at the first picture
    paths = expand(sources)
    if boxes and len(paths) != 1:
        raise UsageError(f"--box is for one picture, but {len(paths)} were named")
    from ..predict.predictor import Predictor
    from ..predict.writers import predict_files

    warnings.simplefilter("ignore", PoposWarning)  # the notes below say the same, once
    predictor = Predictor(weights, device, detector, flip_test)
    _print_remarks(predictor, weights, flip_test, detects=not (boxes or whole_image))
    folder = out if json else out or DEFAULT_OUT
    head = {"weights": weights, "scheme": predictor.scheme.name, "groups": predictor.scheme.groups}
    entries: list[dict[str, Any]] = []
    for entry, faces in predict_files(predictor, paths, head, folder, boxes, whole_image):
        entries.append(entry)
        if "error" in entry:
            console.note(f"error: {entry['error']}")
        elif not json:
            _print_faces(entry["source"], faces, predictor.scheme)
    failed = sum("error" in entry for entry in entries)
    if json:
        console.print_json({"images": entries, **head})
    elif failed < len(entries):
        console.note(f"overlays and JSON: {folder}")
    if failed:
        raise typer.Exit(1)


def _parse_box(text: str) -> tuple[float, float, float, float]:
    """ "x,y,w,h" in pixels -> numbers. Raises UsageError."""
    x, y, w, h = parse_numbers("--box", text, "x,y,w,h")
    if min(w, h) <= 0:
        raise UsageError(f"--box {text!r}: width and height must be above 0")
    if max(w, h) <= SMALLEST_BOX:
        hint = "Multiply a box in 0..1 by the picture's width and height."
        raise UsageError(f"--box {text!r}: must be in pixels", hint)
    return x, y, w, h


def _print_remarks(predictor: Predictor, weights: str, flip_test: bool, detects: bool) -> None:
    """What to know of these weights before their results are used."""
    if flip_test and not predictor.scheme.mirrors:
        console.note(f"no flip test: {predictor.scheme.no_mirror}")
    if predictor.rule is None and detects:
        console.note(f"warning: {weights}: {predictor.info.crop_warning}")
    if predictor.info.uncertainty is None:
        console.note(f"{weights}: its uncertainty is not calibrated (see popos calibrate --help)")


def _print_faces(source: str, faces: list[Face], scheme: Scheme) -> None:
    count = "no face found" if not faces else f"{len(faces)} face{'s' if len(faces) > 1 else ''}"
    console.stdout.print(f"{source}: {count}")
    for number, face in enumerate(faces, start=1):
        x, y, w, h = face.box
        console.stdout.print(
            f"  face {number}: box {x:.0f},{y:.0f},{w:.0f},{h:.0f}  mean score {face.scores.mean():.2f}"
        )
        for group, indices in scheme.groups.items():
            points = " ".join(f"{px:.1f},{py:.1f}" for px, py in face.points[list(indices)])
            console.stdout.print(f"    {group + ':':<13} {points}")
