"""popos predict: pictures -> landmarks as text, JSON and overlays."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import PoposError, PoposWarning, UsageError, debugging
from ..failures import explained
from . import console
from .options import DEVICE, FLIP_HELP, JSON, one_of, parse_box

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..core.schemes import Scheme
    from ..predict.predictor import Face, Predictor

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
        str, typer.Option(help="haar, yunet, or auto: yunet where it has been downloaded.")
    ] = "auto",
    flip_test: Annotated[bool, typer.Option("--flip-test/--no-flip-test", help=FLIP_HELP)] = False,
    device: DEVICE = None,
    json: JSON = False,
) -> None:
    """Find faces and their landmarks in pictures.

    Coordinates are 0-based pixels of the picture as a person sees it (EXIF orientation applied).
    An unreadable picture is reported, the others are still done, and the exit code is 1.
    """
    from ..predict.detect import DETECTORS

    one_of(detector, ("auto", *DETECTORS), "detector")
    boxes = [parse_box(text) for text in box or []]
    if boxes and whole_image:
        raise UsageError("--box and --whole-image exclude each other")
    from ..data.pictures import max_pixels
    from ..predict.sources import expand

    max_pixels()  # a wrong setting is found now
    paths = expand(sources)
    if boxes and len(paths) != 1:
        raise UsageError(f"--box is for one picture, but {len(paths)} were named")
    from ..predict.predictor import Predictor

    warnings.simplefilter("ignore", PoposWarning)  # this command says it itself, once
    predictor = Predictor(weights, device, detector, flip_test)
    if flip_test and not predictor.scheme.mirrors:
        console.note(f"no flip test: {predictor.scheme.no_mirror}")
    if predictor.rule is None and not (boxes or whole_image):
        console.note(f"warning: {weights}: {predictor.info.crop_is_a_guess}")
    if predictor.codec.calibration is None:
        console.note(f"{weights}: its uncertainty is not calibrated (see popos calibrate --help)")
    folder = out if json else out or DEFAULT_OUT
    if folder:
        _create(folder)
    names = _output_names(paths, folder)
    report: dict[str, Any] = {"images": [], "weights": weights, "scheme": predictor.scheme.name}
    failed = 0
    for path in paths:
        document: dict[str, Any] = {"source": _text(str(path)), "frame": 0, "faces": []}
        report["images"].append(document)
        try:
            image, faces = _faces(path, predictor, whole_image, boxes)
            height, width = image.shape[:2]
            document |= {"width": width, "height": height, "faces": [face.to_dict() for face in faces]}
            if folder:
                _write(folder, names[path], image, faces, predictor.scheme, {**report, "images": [document]})
            if not json:
                _print_faces(document["source"], faces, predictor.scheme)
        except Exception as error:
            # Whatever it is, it is this picture's trouble: the others, and what has been found, are not lost.
            if debugging() and not isinstance(error, PoposError):
                raise
            failed += 1
            document["error"] = _text(error.message if isinstance(error, PoposError) else _bug(path, error))
            console.note(f"error: {document['error']}")
    if json:
        console.print_json(report)
    elif folder and failed < len(paths):
        console.note(f"overlays and JSON: {folder}")
    if failed:
        raise typer.Exit(1)


def _faces(
    path: Path, predictor: Predictor, whole_image: bool, boxes: list[tuple[float, float, float, float]]
) -> tuple[NDArray[np.uint8], list[Face]]:
    """The picture and the faces in it. Raises PoposError also for boxes that are not in it."""
    from ..data.pictures import read_image
    from ..predict.predictor import whole_image_box

    image = read_image(path, upright=True)
    given = whole_image_box(image, predictor.info.crop.padding) if whole_image else boxes or None
    try:
        return image, predictor(image, given)  # type: ignore[arg-type]
    except ValueError as error:
        raise PoposError(f"{path}: {error}") from None


def _text(text: str) -> str:
    """`text` as every reader of JSON takes it: bytes of a file's name that are no UTF-8 become \\udcNN."""
    return text.encode("utf-8", "backslashreplace").decode()


def _bug(path: Path, error: Exception) -> str:
    return f"{path}: {explained(error).message} (POPOS_DEBUG=1 shows the full report)"


def _create(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PoposError(
            f"cannot write {folder}: {error.strerror or error}", "Choose a folder you may write to."
        ) from None


def _output_names(paths: list[Path], folder: Path | None) -> dict[Path, str]:
    """A file stem for each picture; one that another picture, or a file of the user's, has gets a number."""
    names: dict[Path, str] = {}
    taken: set[str] = set()
    numbers: Counter[str] = Counter()  # the last number of each stem: 8,000 of one stem are no search
    for path in paths:
        stem = _shortened(path.stem)
        name = ""
        while not name or name.lower() in taken or (folder and _is_anothers(folder, name)):
            numbers[stem.lower()] += 1
            number = numbers[stem.lower()]
            name = stem if number == 1 else f"{stem}-{number}"
        taken.add(name.lower())
        names[path] = name
    return names


def _shortened(stem: str) -> str:
    """At most 200 bytes, of the 255 that a file's name may have: an ending, and more while it is written."""
    encoded = os.fsencode(stem)
    return stem if len(encoded) <= 200 else encoded[:200].decode("utf-8", "ignore")


def _is_anothers(folder: Path, name: str) -> bool:
    """Whether files of this name are there that `popos predict` did not write."""
    from ..predict.sources import OVERLAY, written_by_predict

    document = folder / f"{name}.json"
    there = document.exists() or (folder / f"{name}{OVERLAY}").exists()
    return there and not written_by_predict(document)


def _write(
    folder: Path, name: str, image: NDArray[np.uint8], faces: list[Face], scheme: Scheme,
    report: dict[str, Any],
) -> None:  # fmt: skip
    from ..data.pictures import save_picture
    from ..home import write_json
    from ..predict.overlay import draw_box, draw_points
    from ..predict.sources import OVERLAY

    write_json(folder / f"{name}.json", report)
    canvas = image.copy()
    for face in faces:
        draw_box(canvas, face.box)
        draw_points(canvas, face.points, scheme.edges)
    save_picture(canvas, folder / f"{name}{OVERLAY}")


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
