"""popos calibrate: make the uncertainty of weights mean something."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import PoposError
from . import console
from .options import DEVICE, JSON, WORKERS

if TYPE_CHECKING:
    import torch

    from ..data.index import Index
    from ..weights.format import CropInfo, WeightsInfo

EXAMPLES = (
    "Examples:  popos calibrate --weights old.safetensors --dataset my_faces --out calibrated.safetensors"
)


def calibrate(
    weights: Annotated[str, typer.Option(help="A name, a file or a run folder.")],
    dataset: Annotated[str, typer.Option(help="A prepared dataset that the weights were not trained on.")],
    out: Annotated[Path, typer.Option(help="The calibrated weight file; must not exist.")],
    device: DEVICE = None,
    workers: WORKERS = 2,
    json: JSON = False,
) -> None:
    """Fit the expected error of each landmark to the errors on a dataset's validation faces (its test
    faces where it has none), clean and degraded. For weights of an own scheme that do not say so, also
    measure where its landmarks lie in a detector's box. Training does both by itself.
    """
    from ..core.device import pick_inference_device
    from ..data.index import read_index
    from ..weights.find import find_weights, scheme_mismatch
    from ..weights.format import read_info

    torch_device = pick_inference_device(device)
    path, index = find_weights(weights), read_index(dataset)
    info = read_info(path)
    if mismatch := scheme_mismatch(weights, info, index):
        raise mismatch
    if out.exists():
        raise PoposError(f"{out} exists already", "Choose another file with --out.")
    # Known weights keep the squares that they were trained on, which may differ from this dataset's.
    crop = measured_crop(index, info) if info.rule_from_300w("haar") is None else None
    faces = calibrate_file(path, out, index, torch_device, workers, crop)
    if json:
        console.print_json(
            {"weights": str(out), "dataset": dataset, "split": index.validation_split, "faces": faces}
        )
    else:
        console.stdout.print(f"calibrated on {faces} {index.validation_split} faces of {dataset!r}: {out}")


def measured_crop(index: Index, info: WeightsInfo) -> CropInfo:
    """The crop of weights that are trained on this dataset's squares, with what detectors find of its
    training faces."""
    from ..evaluate.detections import FACES, measure_crop
    from ..predict.detect import detectors_here

    faces = index.of_split("train" if "train" in index.splits else index.splits[0])
    detectors = detectors_here()
    with console.progress_bar("finding faces, for the way from box to crop") as (bar, task):
        bar.update(task, total=min(len(faces), FACES) * len(detectors))
        crop = measure_crop(faces, info.crop.padding, detectors, lambda n: bar.update(task, advance=n))
    if crop.detectors:
        console.note(f"measured from box to crop, for predict: {', '.join(crop.detectors)}")
    else:
        console.note("from box to crop: not measured, since detectors find too few of the training faces")
    return crop


def calibrate_file(
    source: Path, target: Path, index: Index, device: torch.device, workers: int, crop: CropInfo | None
) -> int:
    """Calibrate a weight file under a progress bar, and give it `crop`; returns the number of faces."""
    from ..evaluate.calibrate import calibrate as fit
    from ..evaluate.calibrate import pictures

    faces = index.validation()
    with console.progress_bar("calibrating the uncertainty") as (bar, task):
        bar.update(task, total=pictures(faces))
        told = fit(
            source, target, faces, device, workers, lambda count: bar.update(task, advance=count), crop
        )
    return told.faces
