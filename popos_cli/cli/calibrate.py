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
    faces where it has none), clean and degraded. Training does this by itself.
    """
    from ..data.index import read_index
    from ..weights.find import find_weights, pick_inference_device, scheme_mismatch
    from ..weights.format import read_info

    torch_device = pick_inference_device(device)
    path, index = find_weights(weights), read_index(dataset)
    if mismatch := scheme_mismatch(weights, read_info(path), index):
        raise mismatch
    if out.exists():
        raise PoposError(f"{out} exists already", "Choose another file with --out.")
    faces = calibrate_file(path, out, index, torch_device, workers)
    if json:
        console.print_json(
            {"weights": str(out), "dataset": dataset, "split": index.validation_split, "faces": faces}
        )
    else:
        console.stdout.print(f"calibrated on {faces} {index.validation_split} faces of {dataset!r}: {out}")


def calibrate_file(source: Path, target: Path, index: Index, device: torch.device, workers: int) -> int:
    """Calibrate a weight file under a progress bar; returns the number of faces."""
    from ..engine.calibrate import calibrate as fit
    from ..engine.calibrate import pictures

    faces = index.validation()
    with console.progress_bar("calibrating the uncertainty") as (bar, task):
        bar.update(task, total=pictures(faces))
        told = fit(source, target, faces, device, workers, lambda count: bar.update(task, advance=count))
    return told.faces
