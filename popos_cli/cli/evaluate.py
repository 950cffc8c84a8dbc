"""popos evaluate: weights on prepared datasets -> NME, failure rate, AUC."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import UsageError
from . import console
from .options import DEVICE, FLIP_HELP, JSON, WORKERS, one_of

if TYPE_CHECKING:
    from ..engine.choose import Job, Resolution
    from ..engine.launch import Workers
    from ..engine.results import Detected
    from ..engine.world import World
    from ..report.evaluated import Evaluated

EXAMPLES = (
    "Examples:  popos evaluate --dataset my_faces   |   popos eval --resolution 8   |   popos eval "
    "--resolution all --decoder ml --decoder dark   |   popos evaluate --dataset wflw "
    "--weights runs/wflw-16-1 --averaging pooled"
)


def evaluate(
    dataset: Annotated[
        str | None, typer.Option(help="A prepared dataset.", show_default="all that have weights")
    ] = None,
    resolution: Annotated[
        str | None,
        typer.Option(
            help="Heatmap size of the weights to use: 64, 32, 16, 8, 4, or all of them in turn.",
            show_default="any",
        ),
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

    The nearest published figures stand beside them. The run folder gets report.html and all that is in it.
    """
    size = _check(resolution, decoder or [], split, averaging, boxes, detector, threshold)
    from ..engine.choose import choose_jobs
    from ..engine.launch import launch
    from ..engine.results import Conditions
    from ..engine.world import ALONE
    from ..weights.find import pick_inference_device
    from .runs import new_run_folder, refuse_taken

    refuse_taken(out)
    share = _sharing(device, gpus, processes)
    torch_device = pick_inference_device(device or ("cuda" if gpus else "cpu" if processes else None))
    jobs, passed_over = choose_jobs(dataset, size, weights, split)
    for reason in passed_over:
        console.note(f"passed over: {reason}")
    conditions = Conditions(averaging, threshold, boxes, flip_test)  # type: ignore[arg-type]
    found: dict[str, Detected] = {}  # by dataset: the detector looks once
    for job in jobs:
        if boxes == "detector" and job.index.name not in found:
            found[job.index.name] = _detect(job, detector)
    given = (jobs, decoder or [], conditions, found, workers)
    if share:
        evaluated = launch(share, share_evaluation, gpus, *given)
    else:
        evaluated = _evaluate(ALONE, torch_device, *given)
    sizes = {job.info.resolution for job in jobs}
    part = resolution or (str(sizes.pop()) if len(sizes) == 1 else "all")
    run = new_run_folder(out, f"eval-{dataset or 'all'}-{part}")
    for one in evaluated:
        one.result["run"] = str(run)
    results = [one.result for one in evaluated]
    settings = {
        "dataset": dataset, "resolution": resolution, "weights": weights, "decoders": decoder or [],
        "split": split, "averaging": averaging, "boxes": boxes, "detector": detector,
        "threshold": threshold, "flip_test": flip_test, "device": str(torch_device),
    }  # fmt: skip
    _write(run, evaluated, settings, jobs)
    if json:
        console.print_json({"results": results})
    else:
        _print(results, run)


def _check(
    resolution: str | None, decoders: list[str], split: str | None, averaging: str, boxes: str,
    detector: str, threshold: float | None,
) -> Resolution:  # fmt: skip
    """Raises UsageError for a value that there is not; returns the resolution."""
    from ..core.decoders import DECODERS
    from ..data.index import SPLITS
    from ..detect import DETECTORS
    from ..settings.schema import RESOLUTIONS

    for name in decoders:
        one_of(name, tuple(DECODERS), "decoder")
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
    from ..engine.results import detect_faces

    with console.progress_bar(f"finding faces of {job.index.name}") as (bar, task):
        bar.update(task, total=len(job.index))
        return detect_faces(job.index, detector, lambda: bar.update(task, advance=1))


def _sharing(device: str | None, gpus: int | None, processes: int | None) -> Workers | None:
    """The processes to start; None where this one does it alone. Raises UsageError or PoposError."""
    from ..engine.build import pick_device
    from ..engine.launch import Workers

    given = [
        name for name, value in [("--device", device), ("--gpus", gpus), ("--processes", processes)] if value
    ]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} exclude each other")
    pick_device(gpus or 0)
    count = gpus or processes or 1
    return Workers(count, gpus is not None) if count > 1 else None


def share_evaluation(world: World, gpus: int | None, *given: Any) -> list[Evaluated]:
    """One process's part; the first shows it, and all have the outcome."""
    from ..engine.build import pick_device

    return _evaluate(world, pick_device(gpus or 0, world.local_rank), *given)


def _evaluate(
    world: World, device: Any, jobs: list[Job], decoders: list[str], conditions: Any,
    found: dict[str, Detected], workers: int,
) -> list[Evaluated]:  # fmt: skip
    from ..engine.results import evaluate_job

    evaluated = []
    for job in jobs:
        detected = found.get(job.index.name)
        faces = len(detected.index if detected else job.index)
        with _shown(world, f"evaluating {job.index.name}, R={job.info.resolution}", faces) as advance:
            evaluated += evaluate_job(job, decoders, conditions, device, workers, detected, advance, world)
    return evaluated


@contextmanager
def _shown(world: World, title: str, faces: int) -> Iterator[Callable[[int], None]]:
    """A bar that the first process draws, its own faces standing for all processes'."""
    if not world.main:
        yield lambda count: None
        return
    with console.progress_bar(title) as (bar, task):
        bar.update(task, total=faces)
        yield lambda count: bar.update(task, advance=count * world.size)


def _write(run: Path, evaluated: list[Evaluated], settings: dict[str, Any], jobs: list[Job]) -> None:
    """All files of the run folder."""
    from .. import __version__
    from ..data.home import write_json
    from ..report.gallery import worst_faces
    from ..report.html import write_html
    from ..report.plots import save_ced
    from ..report.sheet import save_picture
    from ..report.tables import write_per_face

    settings = {"popos": __version__, **settings, "evaluated": [
        {
            "dataset": job.index.name, "split": str(job.index.split[0]), "weights": job.label,
            "resolution": job.info.resolution, "file": str(job.path),
        }
        for job in jobs
    ]}  # fmt: skip
    write_json(run / "metrics.json", {"results": [one.result for one in evaluated]})
    write_json(run / "settings.json", settings)
    write_per_face(run / "per_face.csv", evaluated)
    save_ced(evaluated, run / "ced.png")
    sheets = []
    with console.progress_bar("drawing the worst faces") as (bar, task):
        bar.update(task, total=len(evaluated))
        for one in evaluated:
            r = one.result
            name = f"{r['dataset']}-{r['split']}-{r['resolution']}-{r['decoder']}.jpg"
            sheets.append(run / "worst" / name)
            save_picture(worst_faces(one), sheets[-1])
            bar.update(task, advance=1)
    write_html(run / "report.html", evaluated, settings, run / "ced.png", sheets)


def _print(results: Sequence[dict[str, Any]], run: Path) -> None:
    from ..report.published import compared

    rows = []
    for r in results:
        for suffix, m in [("", r), *((f": {name}", part) for name, part in r["subsets"].items())]:
            rows.append([
                f"{r['dataset']} {r['split']}{suffix}", r["weights"], str(r["resolution"]), r["decoder"],
                str(m["faces"]), f"{m['nme']:.3f}", f"{m['failure_rate']:.2f}", f"{m['auc']:.2f}",
                f"{r['normaliser']}, {r['threshold']:g}" + (f"; {r['remark']}" if r["remark"] else ""),
            ])  # fmt: skip
            if row := m["published"]:
                rows.append([
                    "  published", row["method"], str(row["resolution"]), row["decoder"] or "", "",
                    f"{row['nme']:.2f}", "", "", compared(row),
                ])  # fmt: skip
    first = results[0]
    averaging = "faces" if first["averaging"] == "face" else "points, pooled"
    console.print_table(
        f"flip test {'on' if first['flip_test'] else 'off'}, boxes: {first['detector'] or first['boxes']}, "
        f"NME over {averaging}",
        ["dataset", "weights", "R", "decoder", "faces", "NME %", "FR %", "AUC %", "normaliser, threshold"],
        rows,
    )
    published = [m["published"] for r in results for m in (r, *r["subsets"].values()) if m["published"]]
    for citation in dict.fromkeys(row["citation"] for row in published):
        console.stdout.print(f"published: {citation}")
    if first["boxes"] == "detector":
        for name, missed, faces in dict.fromkeys((r["dataset"], r["missed"], r["faces"]) for r in results):
            console.stdout.print(f"{name}: the detector missed {missed} of {missed + faces} faces")
    console.note(f"report, per-face errors, curves and the worst faces: {run}")
