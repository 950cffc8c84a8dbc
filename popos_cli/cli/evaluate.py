"""popos evaluate: weights on prepared datasets -> NME, failure rate, AUC."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import PoposError, UsageError, debugging
from . import console
from .failures import explained
from .options import DEVICE, FLIP_HELP, JSON, WORKERS, one_of

if TYPE_CHECKING:
    from ..evaluate.choose import Job, Resolution
    from ..evaluate.evaluated import Evaluated
    from ..evaluate.results import Conditions, Detected
    from ..processes.launch import Workers
    from ..processes.world import World

    Measure = Callable[[Job, dict[str, Detected]], list[Evaluated]]

EXAMPLES = (
    "Examples:  popos evaluate --dataset my_faces   |   popos eval --resolution 8   |   popos eval "
    "--resolution all --decoder ml --decoder dark   |   popos evaluate --dataset wflw "
    "--weights runs/wflw-16-1 --weights runs/wflw-8-1"
)


def evaluate(
    dataset: Annotated[
        list[str] | None,
        typer.Option(help="A prepared dataset; repeatable.", show_default="all that have weights"),
    ] = None,
    resolution: Annotated[
        str | None,
        typer.Option(
            help="Heatmap size of the weights to use: 64, 32, 16, 8, 4, or all of them in turn.",
            show_default="any",
        ),
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
        str | None, typer.Option(help="train, val, test or private.", show_default="test, else val")
    ] = None,
    averaging: Annotated[
        str,
        typer.Option(help="NME over faces (face), or over all labelled points of all faces (pooled)."),
    ] = "face",
    boxes: Annotated[
        str,
        typer.Option(
            help="truth: crops around the labelled landmarks; detector: around the faces that predict finds."
        ),
    ] = "truth",
    detector: Annotated[
        str, typer.Option(help="auto, haar or yunet; for --boxes detector.", show_default="as predict's")
    ] = "auto",
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
    gpus: Annotated[
        int | None, typer.Option(min=1, help="GPUs that share the faces.", show_default="one, else the CPU")
    ] = None,
    processes: Annotated[
        int | None, typer.Option(min=1, help="Processes that share the faces, on the CPU.", show_default="1")
    ] = None,
    json: JSON = False,
) -> None:
    """Measure weights: NME, failure rate (FR) and area under the error curve (AUC).

    Several datasets and weights give one report, with the nearest published figures. Where one of them fails,
    the others are still done, and the exit code is 1. The run folder gets report.html and all that is in it.
    """
    size = _check(resolution, decoder or [], split, averaging, boxes, detector, threshold)
    from ..core.device import pick_inference_device
    from ..evaluate.choose import choose_jobs
    from ..evaluate.results import Conditions
    from ..home import refuse_taken
    from . import evaluation_report  # noqa: F401  (a package that does not import shows before the work)

    refuse_taken(out)
    share = _sharing(device, gpus, processes)
    torch_device = pick_inference_device(device or ("cuda" if gpus else "cpu" if processes else None))
    jobs, passed_over = choose_jobs(dataset or [], size, weights or [], split)
    for reason in passed_over:
        console.note(f"passed over: {reason}")
    for job in jobs:
        scheme = job.info.landmark_scheme(job.label)
        if flip_test and not scheme.mirrors:
            console.note(f"{job.label}: no flip test: {scheme.no_mirror}")
        if boxes == "detector" and job.info.rule_from_300w(detector) is None:
            console.note(f"warning: {job.label}: {job.info.crop_is_a_guess}")
    conditions = Conditions(averaging, threshold, boxes, flip_test)  # type: ignore[arg-type]
    measure = partial(_measure, share, torch_device, gpus, decoder or [], conditions, detector, workers)
    evaluated, failures = _sweep(jobs, measure)
    settings = {
        "datasets": dataset or [], "resolution": resolution, "weights": weights or [],
        "decoders": decoder or [], "split": split, "averaging": averaging, "boxes": boxes,
        "detector": detector, "threshold": threshold, "flip_test": flip_test, "device": str(torch_device),
    }  # fmt: skip
    sizes = {job.info.resolution for job in jobs}
    part = resolution or (str(sizes.pop()) if len(sizes) == 1 else "all")
    name = dataset[0] if dataset and len(set(dataset)) == 1 else "all"
    _report(evaluated, failures, settings, jobs, (out, f"eval-{name}-{part}"), json)


def _sweep(jobs: list[Job], measure: Measure) -> tuple[list[Evaluated], list[dict[str, Any]]]:
    """The outcome of every job, and the failures of those that have none: of several, the others are done."""
    evaluated, failures = [], []
    found: dict[str, Detected] = {}  # by dataset: the detector looks once
    for job in jobs:
        try:
            evaluated += measure(job, found)
        except Exception as error:
            if len(jobs) == 1 or debugging():
                raise
            why, what = explained(error), {**_named(job), "weights": job.label}
            console.fail(PoposError(f"{' '.join(map(str, what.values()))}: {why.message}", why.hint), False)
            failures.append({**what, "message": why.message, "hint": why.hint})
    return evaluated, failures


def _report(
    evaluated: list[Evaluated], failures: list[dict[str, Any]], settings: dict[str, Any], jobs: list[Job],
    folder: tuple[Path | None, str], json: bool,
) -> None:  # fmt: skip
    """Print the figures, and write them to a new run folder. Raises typer.Exit where anything failed."""
    from .. import __version__
    from ..home import new_run_folder
    from .evaluation_report import print_results, write_run

    evaluated_from = [{**_named(job), "weights": job.label, "file": str(job.path)} for job in jobs]
    failed = [f"{f['dataset']} {f['split']}, {f['weights']}: {f['message']}" for f in failures]
    settings = {"popos": __version__, **settings, "evaluated": evaluated_from, "failed": failed}
    document: dict[str, Any] = {"results": [one.result for one in evaluated]}
    if failures:
        document["failures"] = failures
    run = unwritten = None
    if evaluated:
        try:
            run = new_run_folder(*folder)
            for one in evaluated:
                one.result["run"] = str(run)
            write_run(run, evaluated, document, settings)
        except Exception as error:  # the figures are shown all the same
            if debugging():
                raise
            unwritten = explained(error)
    if json:
        console.print_json(document)
    elif evaluated:
        print_results(document["results"])
    if unwritten:
        console.fail(unwritten, as_json=False)
    elif run and not json:
        console.note(f"report, per-face errors, curves and the worst faces: {run}")
    if failures or unwritten:
        raise typer.Exit(1)


def _named(job: Job) -> dict[str, Any]:
    return {
        "dataset": job.index.name, "split": str(job.index.split[0]), "resolution": job.info.resolution,
    }  # fmt: skip


def _check(
    resolution: str | None, decoders: list[str], split: str | None, averaging: str, boxes: str,
    detector: str, threshold: float | None,
) -> Resolution:  # fmt: skip
    """Raises UsageError for a value that there is not; returns the resolution."""
    from ..core.choices import DECODER_NAMES, RESOLUTIONS
    from ..data.index import SPLITS
    from ..predict.detect import DETECTORS

    for name in decoders:
        one_of(name, DECODER_NAMES, "decoder")
    if resolution is not None and resolution not in ("all", *map(str, RESOLUTIONS)):
        raise UsageError(
            f"--resolution {resolution}: must be one of {', '.join(map(str, RESOLUTIONS))}, or all"
        )
    if split is not None:
        one_of(split, SPLITS, "split")
    one_of(averaging, ("face", "pooled"), "--averaging")
    one_of(boxes, ("truth", "detector"), "--boxes")
    one_of(detector, ("auto", *DETECTORS), "detector")
    if detector != "auto" and boxes != "detector":
        raise UsageError(f"--detector {detector}: without --boxes detector no detector looks")
    if threshold is not None and not 0.001 <= threshold <= 1:
        raise UsageError(
            f"--threshold {threshold}: must lie between 0.001 and 1 (0.1 is 10 % of the normaliser)"
        )
    if resolution is None or resolution == "all":
        return resolution  # type: ignore[return-value]
    return int(resolution)


def _detect(job: Job, detector: str) -> Detected:
    from ..evaluate.results import detect_faces

    with console.progress_bar(f"finding faces of {job.index.name}") as (bar, task):
        bar.update(task, total=len(job.index))
        return detect_faces(job.index, detector, lambda: bar.update(task, advance=1))


def _sharing(device: str | None, gpus: int | None, processes: int | None) -> Workers | None:
    """The processes to start; None where this one does it alone. Raises UsageError or PoposError."""
    from ..core.device import pick_device
    from ..processes.launch import Workers

    given = [
        name for name, value in [("--device", device), ("--gpus", gpus), ("--processes", processes)] if value
    ]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} exclude each other")
    pick_device(gpus or 0)
    count = gpus or processes or 1
    return Workers(count, gpus is not None) if count > 1 else None


def _measure(
    share: Workers | None, device: Any, gpus: int | None, decoders: list[str], conditions: Conditions,
    detector: str, workers: int, job: Job, found: dict[str, Detected],
) -> list[Evaluated]:  # fmt: skip
    """One job's results, by this process or by those that it starts."""
    from ..processes.launch import launch
    from ..processes.world import ALONE

    if conditions.boxes == "detector" and job.index.name not in found:
        found[job.index.name] = _detect(job, detector)
    given = (job, decoders, conditions, found.get(job.index.name), workers)
    return launch(share, share_evaluation, gpus, *given) if share else _evaluate(ALONE, device, *given)


def share_evaluation(world: World, gpus: int | None, *given: Any) -> list[Evaluated]:
    """One process's part; the first shows it, and all have the outcome."""
    from ..core.device import pick_device

    return _evaluate(world, pick_device(gpus or 0, world.local_rank), *given)


def _evaluate(
    world: World, device: Any, job: Job, decoders: list[str], conditions: Conditions,
    detected: Detected | None, workers: int,
) -> list[Evaluated]:  # fmt: skip
    from ..evaluate.results import evaluate_job

    title = f"evaluating {job.index.name}, R={job.info.resolution}"
    with _shown(world, title, len(job.index)) as advance:
        return evaluate_job(job, decoders, conditions, device, workers, detected, advance, world)


@contextmanager
def _shown(world: World, title: str, faces: int) -> Iterator[Callable[[int], None]]:
    """A bar that the first process draws, its own faces standing for all processes'."""
    if not world.main:
        yield lambda count: None
        return
    with console.progress_bar(title) as (bar, task):
        bar.update(task, total=faces)
        yield lambda count: bar.update(task, advance=count * world.size)
