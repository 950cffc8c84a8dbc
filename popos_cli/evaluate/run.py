"""`popos evaluate` from its jobs to its run folder."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .. import __version__
from ..core.device import pick_device
from ..data.pictures import Picture, save_picture
from ..errors import PoposError, debugging, explained
from ..home import new_run_folder, replacing, write_json
from ..processes.launch import Workers, launch
from ..processes.world import ALONE, World
from ..progress import Bar
from ..weights.download import sha256
from .choose import Job
from .gallery import worst_page, worst_tiles
from .html import Pictures, write_html
from .plots import noted, save_ced, save_cost, save_groups
from .results import Conditions, Detected, Evaluated, detect_faces, evaluate_job

PER_FACE = (
    "nme_percent", "dataset", "split", "weights", "resolution", "decoder", "image", "source", "group",
    "subsets", "mean_score", "mean_uncertainty_px",
)  # fmt: skip


@dataclass(frozen=True)
class Evaluation:
    """What came of an evaluation.

    results, failures: as `popos evaluate --json` has them. run: its folder; None where there is none.
    unwritten: why it could not be written: the figures are there all the same.
    """

    results: list[dict[str, Any]]
    failures: list[dict[str, Any]]
    run: Path | None = None
    unwritten: PoposError | None = None


def run_evaluation(
    jobs: Sequence[Job], conditions: Conditions, device: torch.device, workers: int, bar: Bar,
    processes: Workers | None, out: Path | None, stem: str, flags: dict[str, Any],
) -> Evaluation:  # fmt: skip
    """Evaluate every job, and write the run folder: `out`, or runs/STEM-N.

    workers: loader processes. processes: that share each job's faces; None: this one alone, on `device`.
    flags: what the user asked for, for settings.json and the report; "command": as it was typed. Of several
    jobs, a failed one is among the failures; a single job's failure is raised.
    """
    evaluated, failures = _evaluate_jobs(jobs, conditions, device, workers, bar, processes)
    results = [one.result for one in evaluated]
    if not evaluated:
        return Evaluation(results, failures)
    settings = {
        "popos": __version__, "date": f"{datetime.now().astimezone():%Y-%m-%d %H:%M %z}",
        **flags, "device": str(device),
        "evaluated": [{**job.labels, "file": str(job.path), "sha256": sha256(job.path)} for job in jobs],
        "failed": [f"{f['dataset']} {f['split']}, {f['weights']}: {f['message']}" for f in failures],
    }  # fmt: skip
    try:
        run = new_run_folder(out, stem)
        for result in results:
            result["run"] = str(run)
        write_run(run, evaluated, failures, settings)
    except Exception as error:
        if debugging():
            raise
        return Evaluation(results, failures, unwritten=explained(error))
    return Evaluation(results, failures, run)


def _evaluate_jobs(
    jobs: Sequence[Job], conditions: Conditions, device: torch.device, workers: int, bar: Bar,
    processes: Workers | None,
) -> tuple[list[Evaluated], list[dict[str, Any]]]:  # fmt: skip
    evaluated: list[Evaluated] = []
    failures: list[dict[str, Any]] = []
    detected: dict[str, Detected] = {}  # by dataset: the detector runs once
    for job in jobs:
        try:
            name = job.index.name
            if conditions.boxes == "detector" and name not in detected:
                with bar(f"finding faces of {name}", len(job.index)) as advance:
                    detected[name] = detect_faces(job.index, conditions.detector, advance)
            arguments = (job, conditions, workers, detected.get(name), bar)
            if processes:
                evaluated += launch(processes, _in_process, processes.gpus, *arguments)
            else:
                evaluated += _evaluate(ALONE, device, *arguments)
        except Exception as error:
            if len(jobs) == 1 or debugging():
                raise
            reason = explained(error)
            failures.append({**job.labels, "message": reason.message, "hint": reason.hint})
    return evaluated, failures


def _in_process(world: World, gpus: bool, *arguments: Any) -> list[Evaluated]:
    """One process's share; every one of them returns the whole outcome."""
    return _evaluate(world, pick_device(None if gpus else 0, world.local_rank), *arguments)


def _evaluate(
    world: World, device: torch.device, job: Job, conditions: Conditions, workers: int,
    detected: Detected | None, bar: Bar,
) -> list[Evaluated]:  # fmt: skip
    title = f"evaluating {job.index.name}, R={job.info.resolution}"
    with bar(title, len(job.index)) if world.main else nullcontext(lambda count: None) as advance:
        return evaluate_job(
            job, conditions, device, workers, detected, lambda count: advance(count * world.size), world
        )


def json_document(results: list[dict[str, Any]], failures: list[dict[str, Any]]) -> dict[str, Any]:
    """What `popos evaluate --json` prints, and metrics.json."""
    return {"results": results} | ({"failures": failures} if failures else {})


def write_run(
    run: Path, evaluated: Sequence[Evaluated], failures: list[dict[str, Any]], settings: dict[str, Any]
) -> None:
    """All files of the run folder. The figures come first, since a picture of them may fail: that is a note,
    no failure."""
    write_json(run / "metrics.json", json_document([one.result for one in evaluated], failures))
    write_json(run / "settings.json", settings)
    write_per_face(run / "per_face.csv", evaluated)
    ced, groups = run / "ced.png", run / "groups.png"
    with noted(ced):
        save_ced(evaluated, ced)
    with noted(groups):
        save_groups(evaluated, groups)
    if len({one.result["resolution"] for one in evaluated}) > 1:
        with noted(run / "cost.png"):
            save_cost(evaluated, run / "cost.png")
    tiles: list[list[Picture]] = []
    names: Counter[str] = Counter()
    for one in evaluated:
        r = one.result
        name = f"{r['dataset']}-{r['split']}-{r['resolution']}-{r['decoder']}"
        names[name] += 1
        number = f"-{names[name]}" if names[name] > 1 else ""  # of other weights
        sheet = run / "worst" / f"{name}{number}.jpg"
        tiles.append([])
        with noted(sheet):
            tiles[-1] += worst_tiles(one)
            save_picture(worst_page(one, tiles[-1]), sheet)
    write_html(run / "report.html", evaluated, settings, Pictures(ced, groups, tiles))


def write_per_face(path: Path, evaluated: Sequence[Evaluated]) -> None:
    """CSV, one row a face and result, the worst first; NME in percent, mean uncertainty in pixels."""
    rows = []
    for one in evaluated:
        index, measured = one.index, one.measured
        same = [one.result[key] for key in PER_FACE[1:6]]
        score, uncertainty = measured.scores.mean(1), measured.uncertainty.mean(1)
        for n, face in enumerate(measured.face):
            of_face = (index.image[face], index.source[face], index.group[face], one.subsets_of(face))
            rows.append(
                (measured.error[n] * 100, *same, *of_face, f"{score[n]:.4f}", f"{uncertainty[n]:.4f}")
            )
    rows.sort(key=lambda row: (np.isnan(row[0]), -row[0]))
    odd = "backslashreplace"  # a picture's name may be no UTF-8
    with replacing(path) as whole, whole.open("w", newline="", encoding="utf-8", errors=odd) as file:
        writer = csv.writer(file)
        writer.writerow(PER_FACE)
        writer.writerows((f"{error:.4f}", *rest) for error, *rest in rows)
