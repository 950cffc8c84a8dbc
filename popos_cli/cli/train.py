"""popos train: prepared dataset -> weights, in one process, on several GPUs, on several machines."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import PoposError, UsageError
from . import console
from .options import JSON

if TYPE_CHECKING:
    from ..data.index import Index
    from ..engine.launch import Workers, World
    from ..settings.schema import TrainSettings

EXAMPLES = (
    "Examples:  popos train --dataset my_faces --resolution 16   |   popos train --gpus 4 --dataset wflw "
    "--recipe reference   |   popos train --dataset my_faces --set schedule.epochs=20 --dry-run   |   "
    "popos train --resume runs/my_faces-16-1"
)


def train(
    dataset: Annotated[str | None, typer.Option(help="A prepared dataset.")] = None,
    resolution: Annotated[
        int | None, typer.Option(help="Heatmap size: 64, 32, 16, 8 or 4 pixels.", show_default="64")
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(help="popos or reference (the published one).", show_default="popos")
    ] = None,
    gpus: Annotated[
        int | None, typer.Option(help="GPUs of this machine; 0 is the CPU.", show_default="all, else the CPU")
    ] = None,
    processes: Annotated[
        int | None, typer.Option(help="Training processes, with --gpus 0.", show_default="1")
    ] = None,
    nnodes: Annotated[int, typer.Option(min=1, help="Machines that run this same command.")] = 1,
    rdzv_endpoint: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Where they meet: on one of them, any free port.")
    ] = None,
    max_restarts: Annotated[
        int, typer.Option(min=0, help="Times to go on from the last checkpoint after a worker failed.")
    ] = 0,
    epochs: Annotated[int | None, typer.Option(help="schedule.epochs", show_default="the preset's")] = None,
    batch_size: Annotated[
        str | None, typer.Option(help="schedule.batch_size, or auto", show_default="the preset's")
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="Fine-tune these: a name, a file or a run folder (model.init).")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file of settings.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="One setting, e.g. loss.points=0; repeatable."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder.", show_default="runs/DATASET-R-N")] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Go on with the run in this folder, with its own settings.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the resolved settings as TOML (for --config) and stop.")
    ] = False,
    json: JSON = False,
) -> None:
    """Train on a prepared dataset: settings.toml, results.csv, curves.png and the weights go to
    the run folder.

    Settings: preset, then --config, then POPOS_* variables (POPOS_SCHEDULE__EPOCHS=5), then --set,
    then flags; the later wins. Ctrl-C saves; --resume goes on from there, or from the last checkpoint
    of a run that was killed. Under torchrun or srun it joins their processes.
    """
    from ..settings.load import dump_toml, load_train_settings

    if resume:
        clashing = {
            "--dataset": dataset, "--resolution": resolution, "--weights": weights, "--out": out,
            "--config": config, "--recipe": recipe,
        }  # fmt: skip
        config = _settings_of(resume, [flag for flag, value in clashing.items() if value])
    flags = {
        "gpus": gpus,
        "processes": processes,
        "recipe": recipe,
        "model": {"resolution": resolution, "init": weights},
        "schedule": {"epochs": epochs, "batch_size": batch_size},
    }
    # A resumed run keeps the settings it began with.
    settings = load_train_settings(dataset, config, set_ or [], flags, use_environment=not resume)
    if dry_run:
        if json:
            console.print_json(settings.model_dump(mode="json"))
        else:
            sys.stdout.write(dump_toml(settings))
        return
    _check_packages(settings)
    _run(settings, _Place(out, resume, nnodes, rdzv_endpoint, max_restarts), json)


@dataclass(frozen=True)
class _Place:
    """Where a run's files go, and which machines work on it."""

    out: Path | None
    resume: Path | None
    nodes: int
    endpoint: str | None
    max_restarts: int


def _settings_of(run: Path, clashing: list[str]) -> Path:
    """The settings file of a run to resume. Raises UsageError for flags that would change it."""
    if clashing:
        raise UsageError(
            f"{', '.join(clashing)} cannot be given with --resume", "A run goes on with its own settings."
        )
    if not (run / "settings.toml").exists():
        raise PoposError(f"{run}: no settings.toml, so no run to resume there")
    return run / "settings.toml"


def _check_packages(settings: TrainSettings) -> None:
    """Raises PoposError for a package that training would miss: before there is a run folder."""
    # A pair of torch and torchvision that does not match must show, too.
    import torchvision.transforms.v2  # noqa: F401

    from ..engine.runlog import check_tensorboard

    if settings.tensorboard:
        check_tensorboard()
    if settings.loss.sinkhorn:
        try:
            import geomloss  # noqa: F401
        except ImportError:
            raise PoposError(
                f"loss.sinkhorn = {settings.loss.sinkhorn:g} needs the package geomloss",
                "pip install 'popos-cli[sinkhorn]', or --set loss.sinkhorn=0 to train without.",
            ) from None


def _run(settings: TrainSettings, place: _Place, json: bool) -> None:
    """Train into a new run folder, or go on in `place.resume`: here, or in processes that this starts."""
    from ..engine import launch
    from ..engine.build import pick_device

    if launch.surroundings():
        _refuse_launch_flags(place)
        with launch.joined(pick_device(settings.gpus).type == "cuda") as world:
            try:
                _train(settings, place, world, None, json and world.main)
            except Exception as error:
                launch.report_failure(error)
                raise
        return
    workers = _workers(settings, place)
    _train(settings, place, launch.ALONE, workers, json)


def _workers(settings: TrainSettings, place: _Place) -> Workers | None:
    """The processes to start; None where this one does it alone. Raises UsageError or PoposError."""
    import torch

    from ..engine.build import pick_device
    from ..engine.launch import Workers

    gpu = pick_device(settings.gpus).type == "cuda"
    if gpu and settings.processes > 1:
        raise UsageError("processes are for the CPU: there is one a GPU", "Give --gpus 0 with --processes.")
    count = (settings.gpus or torch.cuda.device_count()) if gpu else settings.processes
    if (place.nodes > 1) != (place.endpoint is not None):
        raise UsageError(
            "--nnodes and --rdzv-endpoint belong together",
            "On every machine: popos train ... --nnodes 2 --rdzv-endpoint FIRST_MACHINE:29400 --out DIR",
        )
    if place.nodes > 1 and not (place.out or place.resume):
        raise UsageError("--nnodes needs --out or --resume: a run folder that all machines name alike")
    if count * place.nodes == 1 and not place.max_restarts:
        return None
    return Workers(count, gpu, place.nodes, place.endpoint, place.max_restarts)


def _refuse_launch_flags(place: _Place) -> None:
    if place.nodes > 1 or place.endpoint or place.max_restarts:
        raise UsageError(
            "--nnodes, --rdzv-endpoint and --max-restarts are for runs that popos starts itself",
            "Give them to torchrun or srun here.",
        )
    if not (place.out or place.resume):
        raise UsageError("training in torchrun's or srun's processes needs --out or --resume")


def _train(settings: TrainSettings, place: _Place, world: World, workers: Workers | None, json: bool) -> None:
    from ..data.home import remember
    from ..data.index import prepared_names, read_index
    from ..engine.build import build_info
    from ..engine.checkpoint import has_state
    from ..engine.launch import launch, restarts
    from ..engine.runlog import read_rows
    from ..report.plots import save_training_curves
    from ..weights.find import initial_state
    from .prepare import prepare_remembered

    say = console.note if world.main else lambda message: None
    if settings.dataset not in prepared_names() and world.size == 1 and place.nodes == 1:
        prepare_remembered(settings.dataset)  # where it cannot, read_index says what to do
    index = read_index(settings.dataset)
    settings = _sized(settings, index, world, workers)
    earlier = place.resume or (place.out if restarts() else None)
    initial = None
    if not (earlier and has_state(earlier)):
        model = build_info(settings, index).build_model(index.scheme.landmarks)
        initial, sentence = initial_state(settings.model.init, model)
        say(sentence)
    run = _run_folder(settings, place, world)
    if world.main:
        _announce(settings, index, run, world, workers)
    try:
        given = (settings, initial, run)
        best, first = launch(workers, train_worker, *given) if workers else train_worker(world, *given)
        if first:
            _finish(settings, index, run, best, json)
    except (KeyboardInterrupt, PoposError) as error:
        if has_state(run):
            stopped = isinstance(error, KeyboardInterrupt)
            say(
                f"{'stopped and saved' if stopped else 'the last checkpoint is kept'}; "
                f"go on with: popos train --resume {run}"
            )
        raise
    finally:
        if world.main and (rows := read_rows(run)):
            remember("runs", run)
            save_training_curves(rows, run / "curves.png")


def _sized(settings: TrainSettings, index: Index, world: World, workers: Workers | None) -> TrainSettings:
    """The settings with a number for a batch size of `AUTO`. Raises PoposError where it does not divide
    among the processes."""
    from ..engine.autobatch import fitting_batch
    from ..engine.build import faces_a_step
    from ..engine.launch import Workers, launch
    from ..settings.schema import AUTO

    size = workers.per_node * workers.nodes if workers else world.size
    if settings.schedule.batch_size == AUTO:
        if workers and workers.nodes > 1:
            raise UsageError("--batch-size auto: machines may differ", "Give a number with --nnodes.")
        if workers:  # measured in a process of its own: this one must not keep a GPU's memory
            batch = launch(Workers(1, workers.gpus), measure_batch, settings, size)
        else:
            batch = world.broadcast(fitting_batch(settings, index, size, world))
        schedule = settings.schedule.model_copy(update={"batch_size": batch})
        settings = settings.model_copy(update={"schedule": schedule})
    faces_a_step(settings.schedule, len(index.of_split("train")), size)
    return settings


def measure_batch(world: World, settings: TrainSettings, processes: int) -> int:
    """`fitting_batch` in a process of its own."""
    from ..data.index import read_index
    from ..engine.autobatch import fitting_batch

    return fitting_batch(settings, read_index(settings.dataset), processes)


def _run_folder(settings: TrainSettings, place: _Place, world: World) -> Path:
    """The run folder, created if need be: the first of several processes does that."""
    from ..engine.checkpoint import has_state
    from ..engine.launch import restarts
    from .runs import new_run_folder

    if place.resume:
        return place.resume
    if world.size == 1 and place.nodes == 1:
        return new_run_folder(place.out, f"{settings.dataset}-{settings.model.resolution}")
    assert place.out
    if has_state(place.out) and not restarts():
        raise PoposError(
            f"{place.out} holds a run already",
            f"Go on with it: --resume {place.out}; or choose another --out.",
        )
    place.out.mkdir(parents=True, exist_ok=True)
    return place.out


def _announce(
    settings: TrainSettings, index: Index, run: Path, world: World, workers: Workers | None
) -> None:
    """Write down the settings, and say what they come to."""
    from ..data.home import replacing
    from ..engine.build import faces_a_step, scaled_rate, training_crops
    from ..settings.differences import as_diff, differences
    from ..settings.load import dump_toml

    schedule = settings.schedule
    with replacing(run / "settings.toml") as temporary:
        temporary.write_text(dump_toml(settings), encoding="utf-8")
    console.note(f"run folder: {run}")
    if crops := training_crops(settings, index):
        console.note(f"faces come from the crop cache: {crops.folder}")
    size = workers.per_node * workers.nodes if workers else world.size
    faces = faces_a_step(schedule, len(index.of_split("train")), size)
    if size > 1 or schedule.accumulate > 1:
        console.note(f"a step: {faces} faces, {size} processes x {faces // size}")
    if (rate := scaled_rate(schedule)) != schedule.learning_rate:
        console.note(
            f"learning rate: {rate:.3g}, {schedule.learning_rate:g} x sqrt({schedule.batch_size} / "
            f"{schedule.rate_batch}), as faces a step differ from those it is meant for"
        )
    if found := differences(settings):
        console.note(f"differs from the preset of {settings.dataset} ({settings.recipe}):")
        console.note(as_diff(found))


def train_worker(world: World, settings: TrainSettings, initial: Any, run: Path) -> tuple[float, bool]:
    """One process's training, which the first of all shows: best validation NME, and whether it was that."""
    from ..data.index import read_index
    from ..engine.runlog import Silent
    from ..engine.train import fit
    from .training_bar import training_bar

    index = read_index(settings.dataset)
    if not world.main:
        return fit(settings, index, initial, run, Silent(), world), False
    with training_bar() as bar:
        return fit(settings, index, initial, run, bar, world), True


def _finish(settings: TrainSettings, index: Index, run: Path, best: float, json: bool) -> None:
    """Calibrate the best weights and print the outcome."""
    from ..engine.build import pick_device
    from .calibrate import calibrate_file

    file = run / "best.safetensors"
    calibrate_file(file, file, index, pick_device(settings.gpus), settings.workers)
    if json:
        console.print_json({
            "run": str(run), "weights": str(file), "val_nme": best,
            "epochs": settings.schedule.epochs, "dataset": index.name,
            "resolution": settings.model.resolution,
        })  # fmt: skip
        return
    console.stdout.print(f"best validation NME {best:.3f} % ({index.scheme.normaliser})")
    console.stdout.print(f"weights: {file}")
    console.note(f"next: popos evaluate --dataset {index.name} --weights {run}")
