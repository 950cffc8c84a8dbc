"""popos calibrate: make the uncertainty of weights mean something."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import PoposError, UsageError
from . import console
from .options import DEVICE, JSON, WORKERS

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
    from ..data.partial import mark, shortfall
    from ..evaluate.calibrate import calibrate as fit
    from ..evaluate.calibrate import pictures
    from ..evaluate.detections import measured_crop
    from ..weights.find import find_weights, scheme_mismatch
    from ..weights.format import read_info

    torch_device = pick_inference_device(device)
    path, index = find_weights(weights), read_index(dataset)
    info = read_info(path)
    if mismatch := scheme_mismatch(weights, info, index):
        raise mismatch
    if out.suffix != ".safetensors":
        raise UsageError(f"--out {out}: must end in .safetensors")
    if out.exists():
        raise PoposError(f"{out} exists already", "Choose another file with --out.")
    # Known weights keep the squares that they were trained on, which may differ from this dataset's.
    known = info.rule_from_300w("haar")
    crop = None if known else measured_crop(index, info, console.note, console.bar)
    with console.bar("calibrating the uncertainty", pictures(index.validation())) as advance:
        found = fit(path, out, index.validation(), torch_device, workers, advance, crop)
    faces, split = found.faces, str(index.validation_split)
    missing = shortfall(index, split)
    if json:
        console.print_json(
            {"weights": str(out), "dataset": dataset, "split": split, "faces": faces, "partial": missing}
        )
    else:
        partial = f" ({mark(missing)})" if mark(missing) else ""
        console.stdout.print(f"calibrated on {faces} {split} faces of {dataset!r}{partial}: {out}")
