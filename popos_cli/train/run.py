"""`popos train` from a prepared dataset to calibrated weights, alone or in several processes."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..core.device import pick_device
from ..data.flip_check import mirror, mirror_remarks
from ..data.index import Index, check_pictures, prepared_names, read_index
from ..data.partial import described, shortfalls
from ..errors import PoposError, UsageError
from ..evaluate.calibrate import calibrate, pictures
from ..evaluate.detections import measured_crop
from ..evaluate.plots import noted, save_training_curves
from ..home import new_run_folder, remember
from ..prepare.run import prepare_remembered
from ..processes.launch import Workers, check_endpoint, launch
from ..processes.place import outer_launcher
from ..processes.world import ALONE, World, joined, restarts
from ..progress import Bar, Counter
from .autobatch import fitting_batch, with_batch_size
from .build import build_info, global_batch_size, loader_processes, scaled_rate, training_crops
from .checkpoint import has_state
from .initial import initial_state
from .load import preset_differences
from .runlog import Silent, TrainingProgress, read_rows, write_settings
from .settings import AUTO, TrainSettings
from .trainer import Trainer

Note = Callable[[str], None]


@dataclass(frozen=True)
class Display:
    """How a run is shown. `training` follows the trainer; started processes get it pickled, so it is a
    function of a module."""

    note: Note
    bar: Bar
    preparing: Counter
    training: Callable[[], AbstractContextManager[TrainingProgress]]


@dataclass(frozen=True)
class RunOptions:
    """Where a run's files go (out: a new folder, resume: that of a run to resume), and which machines work
    on it (as in `Workers`)."""

    out: Path | None = None
    resume: Path | None = None
    nodes: int = 1
    endpoint: str | None = None
    max_restarts: int = 0


@dataclass(frozen=True)
class TrainedRun:
    """What came of a run.

    best: validation NME in percent, infinite if it could not be measured. start: that of the first weights,
    NaN if they find no landmarks yet. epochs: how many are done.
    """

    folder: Path
    index: Index
    resolution: int
    best: float
    start: float
    epochs: int

    @property
    def weights(self) -> Path:
        return self.folder / "best.safetensors"


def run_training(settings: TrainSettings, options: RunOptions, display: Display) -> TrainedRun | None:
    """Train into a new run folder, or resume a run: here, in processes that this starts, or as one of
    torchrun's or SLURM's. Only the first of several processes returns the outcome.

    A benchmark that is not prepared is looked for under the remembered roots, and prepared. Raises UsageError
    or PoposError; after Ctrl-C, KeyboardInterrupt once the state is saved.
    """
    _check_packages(settings)
    if outer_launcher():
        _check_joining(options)
        with joined(pick_device(settings.gpus).type == "cuda") as world:
            return _run(settings, options, display, world, None)
    workers = _workers(settings, options)
    if settings.dataset not in prepared_names() and options.nodes == 1:
        # Where that fails, read_index says what to do.
        prepare_remembered(settings.dataset, display.note, display.preparing)
    return _run(settings, options, display, ALONE, workers)


def _check_packages(settings: TrainSettings) -> None:
    """Raises PoposError for a package that training would miss, before there is a run folder."""
    import torchvision.transforms.v2  # noqa: F401  (one that does not match torch must show, too)

    for key, value, package, extra in (
        ("loss.sinkhorn", settings.loss.sinkhorn, "geomloss", "sinkhorn"),
        ("tensorboard", settings.tensorboard, "tensorboard", "tensorboard"),
    ):
        if value and not find_spec(package):
            raise PoposError(
                f"{key} = {value:g} needs the package {package}",
                f"pip install 'popos-cli[{extra}]', or --set {key}=0 to train without.",
            )


def _check_joining(options: RunOptions) -> None:
    if options.nodes > 1 or options.endpoint or options.max_restarts:
        raise UsageError(
            "--nnodes, --rdzv-endpoint and --max-restarts are for runs that popos starts itself",
            "Give them to torchrun or srun here.",
        )
    if not (options.out or options.resume):
        raise UsageError("training in torchrun's or srun's processes needs --out or --resume")


def _workers(settings: TrainSettings, options: RunOptions) -> Workers | None:
    """The processes to start; None if this one trains alone. Raises UsageError or PoposError."""
    gpu = pick_device(settings.gpus).type == "cuda"
    if gpu and settings.processes > 1:
        raise UsageError("processes are for the CPU: there is one a GPU", "Give --gpus 0 with --processes.")
    count = (settings.gpus or torch.cuda.device_count()) if gpu else settings.processes
    several = options.nodes > 1, options.endpoint is not None
    if any(several) and not (all(several) and (options.out or options.resume)):
        raise UsageError(
            "--nnodes, --rdzv-endpoint and --out (or --resume) belong together",
            "On every machine: popos train ... --nnodes 2 --rdzv-endpoint FIRST_MACHINE:29400 --out DIR",
        )
    if options.endpoint:
        check_endpoint(options.endpoint)
    if count * options.nodes == 1 and not options.max_restarts:
        return None
    return Workers(count, gpu, options.nodes, options.endpoint, options.max_restarts)


def _run(
    settings: TrainSettings, options: RunOptions, display: Display, world: World, workers: Workers | None
) -> TrainedRun | None:
    note = display.note if world.main else _silent
    index = read_index(settings.dataset)
    if world.main:
        check_pictures(index.select(np.isin(index.split, ["train", index.validation_split or ""])))
    settings = _with_number(settings, index, world, workers)
    # Tensors would go to other processes as open files, of which there may be too few.
    initial = {
        name: tensor.numpy() for name, tensor in _first_weights(settings, index, options, note).items()
    }
    folder = _run_folder(settings, options, world)
    if world.main:
        if not options.resume:
            write_settings(folder, settings)
        _announce(settings, index, folder, workers.size if workers else world.size, note)
    try:
        given = (settings, index, initial, folder, display.training)
        best = launch(workers, train_worker, *given) if workers else train_worker(world, *given)
        return None if best is None else _finish(settings, index, folder, best, display)
    except (KeyboardInterrupt, PoposError) as error:
        # A run that failed when it was to be resumed may fail for what is in its folder.
        if has_state(folder) and (isinstance(error, KeyboardInterrupt) or not options.resume):
            note(f"resume from the last checkpoint with: popos train --resume {folder}")
        raise
    finally:
        if world.main and (rows := read_rows(folder)):
            remember("runs", folder)
            with noted(folder / "curves.png"):
                title = f"{folder.name}: {index.name}, {settings.model.resolution}-pixel heatmaps"
                save_training_curves(rows, folder / "curves.png", title)


def _silent(message: str) -> None:
    """What processes other than the first say."""


def _with_number(
    settings: TrainSettings, index: Index, world: World, workers: Workers | None
) -> TrainSettings:
    """The settings with a number for a batch size of `AUTO`. Raises PoposError if it does not divide among
    the processes."""
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
    """`fitting_batch` in a worker."""
    return fitting_batch(settings, index, processes)


def _first_weights(
    settings: TrainSettings, index: Index, options: RunOptions, note: Note
) -> dict[str, torch.Tensor]:
    """The tensors to start from, by name; those that are missing start at random. Empty for a run that has a
    checkpoint."""
    earlier = options.resume or (options.out if restarts() else None)
    if earlier and has_state(earlier):
        return {}
    if options.resume:
        note(f"{options.resume} has no checkpoint yet: it starts from the beginning")
    model = build_info(settings, index).build_model(index.scheme.landmarks)
    initial, sentence = initial_state(settings.model.init, model)
    note(sentence)
    return initial or {}


def _run_folder(settings: TrainSettings, options: RunOptions, world: World) -> Path:
    """The run folder, created if need be: the first of several processes does that."""
    if options.resume:
        return options.resume
    if world.size == 1 and options.nodes == 1:
        return new_run_folder(options.out, f"{settings.dataset}-{settings.model.resolution}")
    assert options.out
    options.out.mkdir(parents=True, exist_ok=True)
    others = [path for path in options.out.iterdir() if "settings.toml" not in path.name]  # another process's
    if others and not restarts():
        raise PoposError(
            f"{options.out} exists already", f"Resume it: --resume {options.out}; or choose another --out."
        )
    return options.out


def _announce(settings: TrainSettings, index: Index, folder: Path, processes: int, note: Note) -> None:
    """Say what the settings come to."""
    schedule = settings.schedule
    note(f"run folder: {folder}")
    if crops := training_crops(settings, index):
        note(f"faces come from the crop cache: {crops.folder}")
    if settings.augment.flip:
        for line in mirror_remarks(mirror(index), index.scheme):
            note(line)
    faces = global_batch_size(schedule, len(index.of_split("train")), processes)
    if processes > 1 or schedule.accumulate > 1:
        note(f"a step: {faces} faces, {processes} processes x {faces // processes}")
    if (rate := scaled_rate(schedule)) != schedule.learning_rate:
        note(
            f"learning rate: {rate:.3g}, {schedule.learning_rate:g} x sqrt({schedule.batch_size} / "
            f"{schedule.rate_batch}), since it is meant for {schedule.rate_batch} faces per step"
        )
    for missing in shortfalls(index).values():
        note(f"{missing['benchmark']} is partial: {described(missing)}; its figures are marked")
    if index.validation_split == "test":
        note(
            "epoch selected on the test faces; prepare-data --val-fraction 0.05 would hold training faces "
            "back instead"
        )
    if lines := preset_differences(settings):
        note(f"differs from the preset of {settings.dataset} ({settings.recipe}):")
        for line in lines:
            note(line)


def train_worker(
    world: World, settings: TrainSettings, index: Index, arrays: dict[str, NDArray[Any]], folder: Path,
    training: Callable[[], AbstractContextManager[TrainingProgress]],
) -> float | None:  # fmt: skip
    """One process's training. The first one shows it, and returns the best validation NME in percent."""
    initial = {name: torch.from_numpy(array) for name, array in arrays.items()}
    if not world.main:
        Trainer(settings, index, initial, folder, Silent(), world).fit()
        return None
    with training() as shown:
        return Trainer(settings, index, initial, folder, shown, world).fit()


def _finish(settings: TrainSettings, index: Index, folder: Path, best: float, display: Display) -> TrainedRun:
    """Calibrate the best weights, and measure where a detector's box lies about their crop."""
    rows = read_rows(folder)
    start = rows[0]["val_nme"] if rows and rows[0]["epoch"] == 0 else math.nan
    epochs = int(rows[-1]["epoch"]) if rows else settings.schedule.epochs
    run = TrainedRun(folder, index, settings.model.resolution, best, start, epochs)
    if start <= best:
        display.note(f"no epoch was better than the first weights, whose validation NME is {start:.3f} %")
    device, workers = pick_device(settings.gpus), loader_processes(settings, cached=False)
    crop = measured_crop(index, build_info(settings, index), display.note, display.bar)
    faces = index.validation()
    with display.bar("calibrating the uncertainty", pictures(faces)) as advance:
        calibrate(run.weights, run.weights, faces, device, workers, advance, crop)
    return run
