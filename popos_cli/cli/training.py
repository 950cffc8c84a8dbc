"""What `popos train` does: prepared dataset -> weights, here or in the processes that it starts or joins."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..core.device import pick_device
from ..data.index import Index, prepared_names, read_index
from ..data.stamps import check_pictures
from ..errors import PoposError, UsageError
from ..evaluate.plots import save_training_curves
from ..home import new_run_folder, remember
from ..inspect.describe import mirror, mirror_remarks
from ..prepare.dataset import prepare_remembered
from ..processes.launch import Workers, launch, parse_endpoint
from ..processes.world import ALONE, World, joined, report_failure, restarts, surroundings
from ..train.autobatch import fitting_batch, with_batch_size
from ..train.build import build_info, global_batch_size, loader_processes, scaled_rate, training_crops
from ..train.checkpoint import has_state
from ..train.differences import as_diff, differences
from ..train.runlog import Silent, read_rows, write_settings
from ..train.settings import AUTO, TrainSettings
from ..train.trainer import Trainer
from ..weights.find import initial_state
from . import console
from .calibrate import calibrate_file, measured_crop
from .prepare import progress
from .training_bar import training_bar

NAMED = 5  # rows that a message names


@dataclass(frozen=True)
class Place:
    """Where a run's files go, and which machines work on it."""

    out: Path | None
    resume: Path | None
    nodes: int
    endpoint: str | None
    max_restarts: int


def run_training(settings: TrainSettings, place: Place, json: bool) -> None:
    """Train into a new run folder, or go on in `place.resume`: here, or in processes that this starts."""
    if surroundings():
        _refuse_launch_flags(place)
        with joined(pick_device(settings.gpus).type == "cuda") as world:
            try:
                _train(settings, place, world, None, json and world.main)
            except Exception as error:
                report_failure(error)
                raise
        return
    _train(settings, place, ALONE, _workers(settings, place), json)


def _workers(settings: TrainSettings, place: Place) -> Workers | None:
    """The processes to start; None where this one does it alone. Raises UsageError or PoposError."""
    gpu = pick_device(settings.gpus).type == "cuda"
    if gpu and settings.processes > 1:
        raise UsageError("processes are for the CPU: there is one a GPU", "Give --gpus 0 with --processes.")
    count = (settings.gpus or torch.cuda.device_count()) if gpu else settings.processes
    if (place.nodes > 1) != (place.endpoint is not None):
        raise UsageError(
            "--nnodes and --rdzv-endpoint belong together",
            "On every machine: popos train ... --nnodes 2 --rdzv-endpoint FIRST_MACHINE:29400 --out DIR",
        )
    if place.endpoint:
        parse_endpoint(place.endpoint)
    if place.nodes > 1 and not (place.out or place.resume):
        raise UsageError("--nnodes needs --out or --resume: a run folder that all machines name alike")
    if count * place.nodes == 1 and not place.max_restarts:
        return None
    return Workers(count, gpu, place.nodes, place.endpoint, place.max_restarts)


def _refuse_launch_flags(place: Place) -> None:
    if place.nodes > 1 or place.endpoint or place.max_restarts:
        raise UsageError(
            "--nnodes, --rdzv-endpoint and --max-restarts are for runs that popos starts itself",
            "Give them to torchrun or srun here.",
        )
    if not (place.out or place.resume):
        raise UsageError("training in torchrun's or srun's processes needs --out or --resume")


def _train(settings: TrainSettings, place: Place, world: World, workers: Workers | None, json: bool) -> None:
    say = console.note if world.main else lambda message: None
    if settings.dataset not in prepared_names() and world.size == 1 and place.nodes == 1:
        prepare_remembered(settings.dataset, say, progress)  # where it cannot, read_index says what to do
    index = _plausible(read_index(settings.dataset), say)
    if world.main:
        check_pictures(index.select(np.isin(index.split, ["train", index.validation_split or ""])))
    settings = _sized(settings, index, world, workers)
    earlier = place.resume or (place.out if restarts() else None)
    initial = None
    if not (earlier and has_state(earlier)):
        if place.resume:
            say(f"{place.resume} has no checkpoint yet: it starts from the beginning")
        model = build_info(settings, index).build_model(index.scheme.landmarks)
        initial, sentence = initial_state(settings.model.init, model)
        say(sentence)
    run = _run_folder(settings, place, world)
    if world.main:
        if not place.resume:
            write_settings(run, settings)
        _announce(settings, index, run, world, workers)
    try:
        # Tensors would go to other processes as open files, of which there may be too few.
        given = (settings, index, {name: tensor.numpy() for name, tensor in (initial or {}).items()}, run)
        best, first = launch(workers, train_worker, *given) if workers else train_worker(world, *given)
        if first:
            _finish(settings, index, run, best, json)
    except (KeyboardInterrupt, PoposError) as error:
        refused = str(error).startswith(f"{run}: ")  # the folder itself is what is wrong
        if has_state(run) and not refused:
            say(f"go on from the last checkpoint with: popos train --resume {run}")
        raise
    finally:
        if world.main and (rows := read_rows(run)):
            remember("runs", run)
            with console.noted(run / "curves.png"):
                save_training_curves(rows, run / "curves.png")


def _plausible(index: Index, say: Callable[[str], None]) -> Index:
    """The faces but for those whose labels lie far outside their pictures: one would drown all others."""
    far = index.far_out()
    if not far.any():
        return index
    rows = ", ".join(index.source[far][:NAMED]) + (", ..." if far.sum() > NAMED else "")
    say(f"left out: {far.sum()} of {len(index)} faces, labelled far outside their pictures ({rows})")
    return index.select(~far)


def _sized(settings: TrainSettings, index: Index, world: World, workers: Workers | None) -> TrainSettings:
    """The settings with a number for a batch size of `AUTO`. Raises PoposError where it does not divide
    among the processes."""
    size = workers.size if workers else world.size
    if settings.schedule.batch_size == AUTO:
        if workers and workers.nodes > 1:
            raise UsageError("--batch-size auto: machines may differ", "Give a number with --nnodes.")
        if workers:  # measured in a process of its own: this one must not keep a GPU's memory
            batch = launch(Workers(1, workers.gpus), measure_batch, settings, index, size)
        else:
            batch = world.broadcast(fitting_batch(settings, index, size, world))
        settings = with_batch_size(settings, batch)
    global_batch_size(settings.schedule, len(index.of_split("train")), size)
    return settings


def measure_batch(world: World, settings: TrainSettings, index: Index, processes: int) -> int:
    """`fitting_batch` in a process of its own."""
    return fitting_batch(settings, index, processes)


def _run_folder(settings: TrainSettings, place: Place, world: World) -> Path:
    """The run folder, created if need be: the first of several processes does that."""
    if place.resume:
        return place.resume
    if world.size == 1 and place.nodes == 1:
        return new_run_folder(place.out, f"{settings.dataset}-{settings.model.resolution}")
    assert place.out
    place.out.mkdir(parents=True, exist_ok=True)
    others = [path for path in place.out.iterdir() if "settings.toml" not in path.name]  # another process's
    if others and not restarts():
        raise PoposError(
            f"{place.out} exists already", f"Go on with it: --resume {place.out}; or choose another --out."
        )
    return place.out


def _announce(
    settings: TrainSettings, index: Index, run: Path, world: World, workers: Workers | None
) -> None:
    """Say what the settings come to."""
    schedule = settings.schedule
    console.note(f"run folder: {run}")
    if crops := training_crops(settings, index):
        console.note(f"faces come from the crop cache: {crops.folder}")
    if settings.augment.flip:
        for line in mirror_remarks(mirror(index), index.scheme):
            console.note(line)
    size = workers.size if workers else world.size
    faces = global_batch_size(schedule, len(index.of_split("train")), size)
    if size > 1 or schedule.accumulate > 1:
        console.note(f"a step: {faces} faces, {size} processes x {faces // size}")
    if (rate := scaled_rate(schedule)) != schedule.learning_rate:
        console.note(
            f"learning rate: {rate:.3g}, {schedule.learning_rate:g} x sqrt({schedule.batch_size} / "
            f"{schedule.rate_batch}), as faces a step differ from those it is meant for"
        )
    if remark := _selection(index):
        console.note(f"{remark}; prepare-data --val-fraction 0.05 would hold training faces back instead")
    if found := differences(settings):
        console.note(f"differs from the preset of {settings.dataset} ({settings.recipe}):")
        for line in as_diff(found).splitlines():
            console.note(line)


def train_worker(
    world: World, settings: TrainSettings, index: Index, arrays: dict[str, NDArray[Any]], run: Path
) -> tuple[float, bool]:
    """One process's training, which the first of all shows: best validation NME, and whether it was that."""
    initial = {name: torch.from_numpy(array) for name, array in arrays.items()}
    if not world.main:
        return Trainer(settings, index, initial, run, Silent(), world).fit(), False
    with training_bar() as bar:
        return Trainer(settings, index, initial, run, bar, world).fit(), True


def _selection(index: Index) -> str | None:
    """What to say of the epoch's choice where the dataset has no validation faces."""
    return "epoch selected on the test faces" if index.validation_split == "test" else None


def _finish(settings: TrainSettings, index: Index, run: Path, best: float, json: bool) -> None:
    """Calibrate the best weights and print the outcome."""
    file, rows = run / "best.safetensors", read_rows(run)
    start = rows[0]["val_nme"] if rows and rows[0]["epoch"] == 0 else math.nan
    if start <= best:
        console.note(f"no epoch was better than the starting weights, whose validation NME is {start:.3f} %")
    workers = loader_processes(settings, cached=False)
    crop = measured_crop(index, build_info(settings, index))
    calibrate_file(file, file, index, pick_device(settings.gpus), workers, crop)
    if json:
        console.print_json({
            "run": str(run), "weights": str(file), "val_nme": best if math.isfinite(best) else None,
            "start_nme": start if math.isfinite(start) else None, "dataset": index.name,
            "epochs": int(rows[-1]["epoch"]) if rows else settings.schedule.epochs,
            "resolution": settings.model.resolution, "selected_on": index.validation_split,
            "remark": _selection(index),
        })  # fmt: skip
        return
    remark = _selection(index)
    what = f"{index.scheme.normaliser}; {remark}" if remark else index.scheme.normaliser
    console.stdout.print(f"best validation NME {best:.3f} % ({what})")
    console.stdout.print(f"weights: {file}")
    console.note(f"next: popos evaluate --dataset {index.name} --weights {run}")
