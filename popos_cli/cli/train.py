"""popos train: prepared dataset -> weights, in one process."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import PoposError, UsageError
from . import console
from .options import JSON

if TYPE_CHECKING:
    from ..settings.schema import TrainSettings

EXAMPLES = (
    "Examples:  popos train --dataset my_faces --resolution 16   |   popos train --dataset my_faces "
    "--set schedule.epochs=20 --dry-run   |   popos train --resume runs/my_faces-16-1"
)


class TrainingBar:
    """Shows the trainer's progress on stderr; one line an epoch stays."""

    def __init__(self, bar: Any, task: Any) -> None:
        self.bar, self.task = bar, task

    def start(self, steps: int, done: int) -> None:
        self.bar.update(self.task, total=steps, completed=done)

    def step(self, epoch: int, loss: float) -> None:
        self.bar.update(self.task, advance=1, extra=f"epoch {epoch}  loss {loss:.5f}")

    def epoch(self, row: dict[str, float]) -> None:
        console.note(
            f"epoch {row['epoch']:.0f}: loss {row['loss']:.5f}, validation NME {row['val_nme']:.3f} % "
            f"(best {row['best_nme']:.3f} %), {row['faces_per_second']:.1f} faces/s"
        )


def train(
    dataset: Annotated[str | None, typer.Option(help="A prepared dataset.")] = None,
    resolution: Annotated[
        int | None, typer.Option(help="Heatmap size: 64, 32, 16, 8 or 4 pixels.", show_default="64")
    ] = None,
    gpus: Annotated[
        int | None, typer.Option(help="0 is the CPU.", show_default="a GPU if there is one")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="schedule.epochs", show_default="the preset's")] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="schedule.batch_size", show_default="the preset's")
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
    then flags; the later wins. Ctrl-C saves; --resume goes on from there.
    """
    from ..settings.load import dump_toml, load_train_settings

    if resume:
        clashing = {
            "--dataset": dataset, "--resolution": resolution, "--weights": weights, "--out": out,
            "--config": config,
        }  # fmt: skip
        config = _settings_of(resume, [flag for flag, value in clashing.items() if value])
    flags = {
        "gpus": gpus,
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

    _run(settings, out, resume, json)


def _settings_of(run: Path, clashing: list[str]) -> Path:
    """The settings file of a run to resume. Raises UsageError for flags that would change it."""
    if clashing:
        raise UsageError(
            f"{', '.join(clashing)} cannot be given with --resume", "A run goes on with its own settings."
        )
    if not (run / "settings.toml").exists():
        raise PoposError(f"{run}: no settings.toml, so no run to resume there")
    return run / "settings.toml"


def _run(settings: TrainSettings, out: Path | None, resume: Path | None, json: bool) -> None:
    """Train into a new run folder, or go on in `resume`."""
    # A pair of torch and torchvision that does not match must show before there is a run folder.
    import torchvision.transforms.v2  # noqa: F401

    from ..data.home import remember, replacing
    from ..data.index import prepared_names, read_index
    from ..engine.build import build_info, pick_device, training_crops
    from ..engine.checkpoint import STATE
    from ..engine.runlog import read_rows
    from ..engine.train import fit
    from ..report.plots import save_training_curves
    from ..settings.load import dump_toml
    from ..weights.find import initial_state
    from .calibrate import calibrate_file
    from .prepare import prepare_remembered
    from .runs import new_run_folder

    device = pick_device(settings.gpus)
    if settings.dataset not in prepared_names():
        prepare_remembered(settings.dataset)  # where it cannot, read_index says what to do
    index = read_index(settings.dataset)
    initial = None
    if not resume:
        model = build_info(settings, index).build_model(index.scheme.landmarks)
        initial, sentence = initial_state(settings.model.init, model)
        console.note(sentence)
    run = resume or new_run_folder(out, f"{settings.dataset}-{settings.model.resolution}")
    with replacing(run / "settings.toml") as temporary:
        temporary.write_text(dump_toml(settings), encoding="utf-8")
    console.note(f"run folder: {run}")
    if crops := training_crops(settings, index):
        console.note(f"faces come from the crop cache: {crops.folder}")
    try:
        with console.progress_bar("training") as (bar, task):
            best = fit(settings, index, initial, run, bool(resume), TrainingBar(bar, task))
        best_file = run / "best.safetensors"
        calibrate_file(best_file, best_file, index, device, settings.workers)
    except KeyboardInterrupt:
        if (run / STATE).exists():
            console.note(f"stopped and saved; go on with: popos train --resume {run}")
        raise
    finally:
        if rows := read_rows(run):
            remember("runs", run)
            save_training_curves(rows, run / "curves.png")
    if json:
        console.print_json({
            "run": str(run), "weights": str(run / "best.safetensors"), "val_nme": best,
            "epochs": settings.schedule.epochs, "dataset": index.name,
            "resolution": settings.model.resolution,
        })  # fmt: skip
        return
    console.stdout.print(f"best validation NME {best:.3f} % ({index.scheme.normaliser})")
    console.stdout.print(f"weights: {run / 'best.safetensors'}")
    console.note(f"next: popos evaluate --dataset {index.name} --weights {run}")
