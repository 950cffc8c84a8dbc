"""popos predict: pictures -> landmarks as text, JSON and overlays."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import PoposError, PoposWarning, UsageError
from . import console
from .options import DEVICE, FLIP_HELP, JSON, one_of, parse_box

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..core.schemes import Scheme
    from ..engine.predict import Face, Predictor

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
    from ..detect import DETECTORS

    one_of(detector, ("auto", *DETECTORS), "detector")
    boxes = [parse_box(text) for text in box or []]
    if boxes and whole_image:
        raise UsageError("--box and --whole-image exclude each other")
    from ..sources import expand, read_image

    paths = expand(sources)
    if boxes and len(paths) != 1:
        raise UsageError(f"--box is for one picture, but {len(paths)} were named")
    from ..engine.predict import Predictor, whole_image_box

    warnings.simplefilter("ignore", PoposWarning)  # this command says it itself, once
    predictor = Predictor(weights, device, detector, flip_test)
    if flip_test and not predictor.scheme.mirrors:
        console.note(f"no flip test: {predictor.scheme.no_mirror}")
    if predictor.rule is None and not (boxes or whole_image):
        console.note(f"warning: {weights}: {predictor.info.crop_is_a_guess}")
    if predictor.codec.calibration is None:
        console.note(f"{weights}: its uncertainty is not calibrated (see popos calibrate --help)")
    folder = out if json else out or DEFAULT_OUT
    names = _output_names(paths)
    documents = []
    for path in paths:
        try:
            image = read_image(path, upright=True)
        except PoposError as error:
            documents.append({"source": str(path), "frame": 0, "faces": [], "error": error.message})
            console.note(f"error: {error.message}")
            continue
        given = whole_image_box(image, predictor.info.crop.padding) if whole_image else boxes or None
        faces = predictor(image, given)  # type: ignore[arg-type]
        height, width = image.shape[:2]
        document = {
            "source": str(path), "frame": 0, "width": width, "height": height,
            "faces": [face.to_dict() for face in faces],
        }  # fmt: skip
        documents.append(document)
        if folder:
            _write(folder, names[path], image, faces, predictor, _report([document], predictor, weights))
        if not json:
            _print_faces(path, faces, predictor.scheme)
    if json:
        console.print_json(_report(documents, predictor, weights))
    elif folder and any("error" not in d for d in documents):
        console.note(f"overlays and JSON: {folder}")
    if any("error" in d for d in documents):
        raise typer.Exit(1)


def _report(documents: list[dict[str, Any]], predictor: Predictor, weights: str) -> dict[str, Any]:
    return {"images": documents, "weights": weights, "scheme": predictor.scheme.name}


def _output_names(paths: list[Path]) -> dict[Path, str]:
    """A file stem for each picture; pictures of one stem get their ending or a number added."""
    names: dict[Path, str] = {}
    taken: set[str] = set()
    for path in paths:
        name, number = path.stem, 1
        while name.lower() in taken:
            number += 1
            name = f"{path.stem}-{number}"
        taken.add(name.lower())
        names[path] = name
    return names


def _write(
    folder: Path, name: str, image: NDArray[np.uint8], faces: list[Face], predictor: Predictor,
    report: dict[str, Any],
) -> None:  # fmt: skip
    import cv2

    from ..data.home import replacing, write_json
    from ..report.overlay import draw_box, draw_points

    canvas = image.copy()
    for face in faces:
        draw_box(canvas, face.box)
        draw_points(canvas, face.points, predictor.scheme.edges)
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(canvas, cv2.COLOR_RGB2BGR))
    with replacing(folder / f"{name}_landmarks.jpg") as temporary:
        temporary.write_bytes(encoded.tobytes())
    write_json(folder / f"{name}.json", report)


def _print_faces(path: Path, faces: list[Face], scheme: Scheme) -> None:
    count = "no face found" if not faces else f"{len(faces)} face{'s' if len(faces) > 1 else ''}"
    console.stdout.print(f"{path}: {count}")
    for number, face in enumerate(faces, start=1):
        x, y, w, h = face.box
        console.stdout.print(
            f"  face {number}: box {x:.0f},{y:.0f},{w:.0f},{h:.0f}  mean score {face.scores.mean():.2f}"
        )
        for group, indices in scheme.groups.items():
            points = " ".join(f"{px:.1f},{py:.1f}" for px, py in face.points[list(indices)])
            console.stdout.print(f"    {group + ':':<13} {points}")
