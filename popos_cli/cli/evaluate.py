"""popos evaluate: measure weights on prepared faces."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ..core.choices import DECODER_NAMES, DetectorName, Split
from ..errors import UsageError
from . import console
from .options import DEVICE, FLIP_HELP, JSON, OFFLINE, WORKERS, one_of

if TYPE_CHECKING:
    from ..processes.launch import Workers

EXAMPLES = (
    "Examples:  popos evaluate --dataset my_faces   |   popos eval --resolution 8   |   popos eval "
    "--resolution all --decoder ml --decoder dark   |   popos evaluate --dataset wflw "
    "--weights runs/wflw-16-1 --weights runs/wflw-8-1"
)


def evaluate(
    context: typer.Context,
    dataset: Annotated[
        list[str] | None,
        typer.Option(help="A prepared dataset; repeatable.", show_default="all that have weights"),
    ] = None,
    resolution: Annotated[
        Literal["64", "32", "16", "8", "4", "all"] | None,
        typer.Option(help="Heatmap size of the weights to use, or all in turn.", show_default="any"),
    ] = None,
    weights: Annotated[
        list[str] | None,
        typer.Option(
            help="A name, a file or a run folder; repeatable.", show_default="own runs, then bundled"
        ),
    ] = None,
    decoder: Annotated[
        list[str] | None,
        typer.Option(help="Repeatable; the network runs once.", show_default="the weights' own"),
    ] = None,
    split: Annotated[
        Split | None, typer.Option(help="Which faces; 300W alone has private.", show_default="test, else val")
    ] = None,
    averaging: Annotated[
        Literal["face", "pooled"],
        typer.Option(help="NME over faces (face), or over all labelled points of all faces (pooled)."),
    ] = "face",
    boxes: Annotated[
        Literal["truth", "detector"],
        typer.Option(
            help="truth: crops around the labelled landmarks; detector: around the faces that predict finds."
        ),
    ] = "truth",
    detector: Annotated[
        DetectorName, typer.Option(help="For --boxes detector.", show_default="as predict's")
    ] = "auto",
    threshold: Annotated[
        float | None,
        typer.Option(
            min=0.001, max=1, help="Failure threshold, fraction of the normaliser (0.1 is 10 %).",
            show_default="the scheme's",
        ),
    ] = None,
    flip_test: Annotated[bool, typer.Option("--flip-test/--no-flip-test", help=FLIP_HELP)] = True,
    out: Annotated[
        Path | None, typer.Option(help="Run folder.", show_default="runs/eval-DATASET-R-N")
    ] = None,
    workers: WORKERS = 2,
    device: DEVICE = None,
    offline: OFFLINE = False,
    gpus: Annotated[
        int | None, typer.Option(min=1, help="GPUs that share the faces.", show_default="one, else the CPU")
    ] = None,
    processes: Annotated[
        int | None, typer.Option(min=1, help="Processes that share the faces, on the CPU.", show_default="1")
    ] = None,
    json: JSON = False,
) -> None:  # fmt: skip
    """Measure weights: NME, failure rate (FR) and area under the error curve (AUC).

    Several datasets and weights give one report, with the nearest published figures. Where one of them fails,
    the others are still done, and the exit code is 1. The run folder gets report.html and all that is in it.
    """
    for name in decoder or ():
        one_of(name, DECODER_NAMES, "decoder")
    if detector != "auto" and boxes != "detector":
        raise UsageError(f"--detector {detector}: is of no use without --boxes detector")
    from ..core.device import pick_inference_device
    from ..evaluate.choose import choose_jobs
    from ..evaluate.results import Conditions
    from ..evaluate.run import json_document, run_evaluation
    from ..home import refuse_taken

    refuse_taken(out)
    shared = _processes(device, gpus, processes)
    computing = pick_inference_device(device or ("cuda" if gpus else "cpu" if processes else None))
    size = int(resolution) if resolution and resolution != "all" else resolution
    jobs, passed_over = choose_jobs(dataset or [], size, weights or [], split)  # type: ignore[arg-type]
    for reason in passed_over:
        console.note(f"passed over: {reason}")
    for job in jobs:
        scheme = job.info.landmark_scheme(job.label)
        if flip_test and not scheme.mirrors:
            console.note(f"{job.label}: no flip test: {scheme.no_mirror}")
        if boxes == "detector" and job.info.rule_from_300w(detector) is None:
            console.note(f"warning: {job.label}: {job.info.crop_warning}")
    flags = {
        "datasets": dataset or [], "resolution": resolution, "weights": weights or [],
        "decoders": decoder or [], "split": split, "averaging": averaging, "boxes": boxes,
        "detector": detector, "threshold": threshold, "flip_test": flip_test, "command": context.obj,
    }  # fmt: skip
    sizes = {str(job.info.resolution) for job in jobs}
    name = dataset[0] if dataset and len(set(dataset)) == 1 else "all"
    stem = f"eval-{name}-{resolution or (sizes.pop() if len(sizes) == 1 else 'all')}"
    conditions = Conditions(tuple(decoder or ()), averaging, threshold, boxes, detector, flip_test)
    done = run_evaluation(jobs, conditions, computing, workers, console.bar, shared, out, stem, flags)
    for failure in done.failures:
        what = [str(failure[key]) for key in ("dataset", "split", "resolution", "weights")]
        console.stderr.print(f"error: {' '.join(what)}: {failure['message']}", style="red")
    if done.unwritten:
        console.fail(done.unwritten, as_json=False)
    if json:
        console.print_json(json_document(done.results, done.failures))
    elif done.results:
        _print(done.results)
        if done.run:
            console.note(f"report, per-face errors, curves and the worst faces: {done.run}")
    if done.failures or done.unwritten:
        raise typer.Exit(1)


def _processes(device: str | None, gpus: int | None, processes: int | None) -> Workers | None:
    """The processes to start; None where this one does it alone. Raises UsageError or PoposError."""
    from ..core.device import pick_device
    from ..processes.launch import Workers

    flags = {"--device": device, "--gpus": gpus, "--processes": processes}
    given = [name for name, value in flags.items() if value]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} exclude each other")
    pick_device(gpus or 0)  # refuses GPUs that are missing
    count = gpus or processes or 1
    return Workers(count, gpus is not None) if count > 1 else None


def _print(results: Sequence[dict[str, Any]]) -> None:
    from ..evaluate.table import COLUMNS, figure_tables

    first = results[0]
    averaging = "faces" if first["averaging"] == "face" else "points, pooled"
    boxes = first["detector"] or first["boxes"]
    console.stdout.print(
        f"flip test {'on' if first['flip_test'] else 'off'}, boxes: {boxes}, NME over {averaging}"
    )
    tables, notes = figure_tables(results)
    columns = COLUMNS if notes else COLUMNS[:-1]
    for table in tables:
        rows = [
            [f"  {cells[0]}" if kind else cells[0], *cells[1 : len(columns)]] for kind, cells in table.rows
        ]
        console.print_table(table.title, columns, rows)
    for number, note in enumerate(notes, start=1):
        console.stdout.print(f"[{number}] {note}")
    if first["boxes"] == "detector":
        for name, missed, faces in dict.fromkeys((r["dataset"], r["missed"], r["faces"]) for r in results):
            console.stdout.print(f"{name}: the detector missed {missed} of {missed + faces} faces")
