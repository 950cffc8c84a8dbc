"""popos evaluate: weights on prepared datasets -> NME, failure rate, AUC."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import PoposError, UsageError
from . import console
from .options import DEVICE, FLIP_HELP, JSON, WORKERS, one_of

if TYPE_CHECKING:
    from ..data.index import Index

EXAMPLES = (
    "Examples:  popos evaluate --dataset my_faces   |   popos eval --resolution 8   |   popos evaluate "
    "--dataset my_faces --weights runs/my_faces-16-1 --decoder ml --decoder dark"
)


def evaluate(
    dataset: Annotated[
        str | None, typer.Option(help="A prepared dataset.", show_default="all that have weights")
    ] = None,
    resolution: Annotated[
        int | None, typer.Option(help="Heatmap size of the weights to use.", show_default="any")
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(help="A name, a file or a run folder.", show_default="own runs, then bundled"),
    ] = None,
    decoder: Annotated[
        list[str] | None,
        typer.Option(help="Repeatable; the network runs once.", show_default="the weights' own"),
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="train, val or test.", show_default="test, else val")
    ] = None,
    boxes: Annotated[
        str,
        typer.Option(
            help="truth: crops around the labelled landmarks; detector: around the faces that predict finds."
        ),
    ] = "truth",
    threshold: Annotated[
        float | None,
        typer.Option(help="Failure threshold, fraction of the normaliser.", show_default="the scheme's"),
    ] = None,
    flip_test: Annotated[bool, typer.Option("--flip-test/--no-flip-test", help=FLIP_HELP)] = True,
    out: Annotated[
        Path | None, typer.Option(help="Run folder.", show_default="runs/eval-DATASET-R-N")
    ] = None,
    workers: WORKERS = 2,
    device: DEVICE = None,
    json: JSON = False,
) -> None:
    """Measure weights: NME, failure rate (FR) and area under the error curve (AUC).

    metrics.json, per_face.csv (worst first), ced.png and settings.json go to the run folder.
    """
    from ..core.decoders import DECODERS
    from ..settings.schema import RESOLUTIONS

    for name in decoder or []:
        one_of(name, tuple(DECODERS), "decoder")
    if resolution is not None and resolution not in RESOLUTIONS:
        raise UsageError(f"--resolution {resolution}: must be one of {', '.join(map(str, RESOLUTIONS))}")
    one_of(boxes, ("truth", "detector"), "--boxes")
    if split is not None:
        one_of(split, ("train", "val", "test"), "split")
    if threshold is not None and not 0.001 <= threshold <= 1:
        raise UsageError(
            f"--threshold {threshold}: must lie between 0.001 and 1 (0.1 is 10 % of the normaliser)"
        )
    if out and dataset is None:
        raise UsageError("--out needs --dataset: without it there may be several results")
    from ..weights.find import find_weights, pick_inference_device
    from ..weights.format import read_info

    torch_device = pick_inference_device(device)
    chosen = None
    if weights:
        path = find_weights(weights)
        chosen = (weights, path, read_info(path))
        if resolution is not None and chosen[2].resolution != resolution:
            raise PoposError(
                f"{weights}: has {chosen[2].resolution}-pixel heatmaps, not the {resolution} asked for",
                "Leave --resolution out, or name other weights.",
            )
    results = []
    for index, (name, path, _) in _pairs(dataset, resolution, chosen):
        results += _evaluate(
            index.of_split(split or ("test" if "test" in index.splits else "val")), name, path,
            decoder or [], boxes, threshold, flip_test, out, workers, torch_device,
        )  # fmt: skip
    if json:
        console.print_json({"results": results})
        return
    _print(results, flip_test, boxes)


def _print(results: list[dict[str, Any]], flip_test: bool, boxes: str) -> None:
    rows = [
        [
            f"{r['dataset']} {r['split']}{suffix}", str(r["weights"]), str(r["resolution"]), r["decoder"],
            str(m["faces"]), f"{m['nme']:.3f}", f"{m['failure_rate']:.2f}", f"{m['auc']:.2f}",
            f"{r['normaliser']}, {r['threshold']:g}",
        ]
        for r in results
        for suffix, m in [("", r), *((f": {k}", v) for k, v in r["subsets"].items())]
    ]  # fmt: skip
    console.print_table(
        f"flip test {'on' if flip_test else 'off'}, boxes: {boxes}",
        ["dataset", "weights", "R", "decoder", "faces", "NME %", "FR %", "AUC %", "normaliser, threshold"],
        rows,
    )
    for r in results:
        if r["boxes"] == "detector":
            console.stdout.print(
                f"{r['dataset']}: the detector missed {r['missed']} of {r['missed'] + r['faces']} faces"
            )
    for folder in dict.fromkeys(r["run"] for r in results):
        console.note(f"per-face errors and curves: {folder}")


def _pairs(dataset: str | None, resolution: int | None, chosen: Any) -> list[tuple[Index, Any]]:
    """Datasets with the weights to use on each. Raises PoposError where nothing fits."""
    from ..data.index import prepared_names, read_index
    from ..weights.find import face_weights, scheme_mismatch

    pairs = []
    names = [dataset] if dataset else prepared_names()
    if not names:
        raise PoposError(
            "no dataset is prepared", "Run: popos prepare-data custom ROOT (see popos prepare-data --help)"
        )
    for name in names:
        index = read_index(name)
        mismatch = chosen and scheme_mismatch(chosen[0], chosen[2], index)
        if mismatch:
            if dataset:
                raise mismatch
            continue
        found = chosen or next(
            (
                (label, path, info)
                for label, path, info in face_weights()
                if not scheme_mismatch(label, info, index) and resolution in (None, info.resolution)
                and (info.training.get("dataset") in (name, None) or "bundled" in path.parts)
            ),
            None,
        )  # fmt: skip
        if found:
            pairs.append((index, found))
    if not pairs:
        at = f" at resolution {resolution}" if resolution else ""
        raise PoposError(
            f"no weights{at} fit {', '.join(names)}",
            f"Train some: popos train --dataset {names[0]} --resolution {resolution or 16}, "
            "or see popos download-weights.",
        )
    return pairs


def _evaluate(
    index: Index, name: str, path: Path, decoders: list[str], boxes: str, threshold: float | None,
    flip_test: bool, out: Path | None, workers: int, device: Any,
) -> list[dict[str, Any]]:  # fmt: skip
    """One dataset, one set of weights, every decoder; writes the run folder."""
    from ..core.metrics import summary, uncertainty_quality
    from ..data.home import write_json
    from ..engine.evaluate import detected_squares, evaluate_weights
    from ..report.plots import save_ced
    from ..report.tables import write_per_face
    from ..weights.format import read_weights
    from .runs import new_run_folder

    weights = read_weights(path)
    info = weights[2]
    names = decoders or [info.codec.decoder]
    limit = threshold or index.scheme.threshold
    run = new_run_folder(out, f"eval-{index.name}-{info.resolution}")
    missed, squares = 0, None
    if boxes == "detector":
        with console.progress_bar("finding faces") as (bar, task):
            bar.update(task, total=len(index))
            rows, squares = detected_squares(index, lambda: bar.update(task, advance=1))
        missed = len(index) - len(rows)
        if not len(rows):
            raise PoposError(f"the detector found none of the {len(index)} faces of {index.name!r}")
        index = index.select(rows)
    with console.progress_bar(f"evaluating {index.name}") as (bar, task):
        bar.update(task, total=len(index))
        measured = evaluate_weights(
            weights, index, names, device, flip_test, workers, squares,
            lambda faces: bar.update(task, advance=faces),
        )  # fmt: skip
    results: list[dict[str, Any]] = []
    for decoder, outcome in measured.items():
        error = outcome.error
        results.append({
            "dataset": index.name, "split": str(index.split[0]), "weights": name,
            "resolution": info.resolution, "decoder": decoder, **summary(error, limit),
            "normaliser": index.scheme.normaliser, "threshold": limit, "averaging": "face",
            "flip_test": flip_test, "boxes": boxes, "missed": missed, "run": str(run),
            "uncertainty": {
                "calibrated": weights[1].with_decoder(decoder).calibration is not None,
                **uncertainty_quality(outcome.points, index.points[outcome.face], outcome.uncertainty),
            },
            "subsets": {
                label: summary(error[index.subset[outcome.face, n]], limit)
                for n, label in enumerate(index.subsets)
            },
        })  # fmt: skip
    write_json(run / "metrics.json", {"results": results})
    settings = {
        "dataset": index.name, "split": str(index.split[0]), "weights": str(path), "decoders": names,
        "boxes": boxes, "threshold": limit, "flip_test": flip_test, "device": str(device),
    }  # fmt: skip
    write_json(run / "settings.json", settings)
    write_per_face(run / "per_face.csv", index, measured)
    curves = {decoder: m.error for decoder, m in measured.items()}
    save_ced(curves, limit, index.scheme.normaliser, run / "ced.png")
    return results
