"""popos train: flags -> a run -> its outcome, and what is shown meanwhile."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import Progress

from ..errors import PoposError, UsageError
from . import console
from .options import JSON, SETTINGS

if TYPE_CHECKING:
    from ..train.run import TrainedRun
    from ..train.runlog import Meter

EXAMPLES = (
    "Examples:  popos train --dataset my_faces --resolution 16   |   popos train --gpus 4 --dataset wflw "
    "--recipe reference   |   popos train --dataset my_faces --set schedule.epochs=20 --dry-run   |   "
    "popos train --resume runs/my_faces-16-1"
)
WAITING = 0.1  # share of time spent waiting for data from which an epoch's line names it


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
        int, typer.Option(min=0, help="How often to resume from the last checkpoint after a worker failed.")
    ] = 0,
    epochs: Annotated[int | None, typer.Option(help="schedule.epochs", show_default="the preset's")] = None,
    batch_size: Annotated[
        str | None, typer.Option(help="schedule.batch_size, or auto", show_default="the preset's")
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="Fine-tune these: a name, a file or a run folder (model.init).")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file of settings.")] = None,
    set_: SETTINGS = None,
    out: Annotated[Path | None, typer.Option(help="Run folder.", show_default="runs/DATASET-R-N")] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Resume the run in this folder, with its own settings.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the resolved settings as TOML (for --config) and stop.")
    ] = False,
    json: JSON = False,
) -> None:
    """Train on a prepared dataset: settings.toml, results.csv, curves.png and the weights go to
    the run folder.

    Settings: preset, then --config, then POPOS_* variables (POPOS_SCHEDULE__EPOCHS=5), then --set,
    then flags; the later wins. Ctrl-C saves; --resume continues from there, or from the last checkpoint
    of a run that was killed. Under torchrun or srun it joins their processes.
    """
    from ..train.load import dump_toml, load_train_settings

    if resume:
        clashing = {
            "--dataset": dataset, "--resolution": resolution, "--weights": weights, "--out": out,
            "--config": config, "--recipe": recipe,
        }  # fmt: skip
        config = _settings_of(resume, [flag for flag, value in clashing.items() if value])
    flags = {
        "gpus": gpus,
        "processes": processes or (1 if gpus else None),  # of a run that began on the CPU
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
            console.write(dump_toml(settings))
        return
    from ..train.run import Display, RunOptions, run_training

    options = RunOptions(out, resume, nnodes, rdzv_endpoint, max_restarts)
    display = Display(console.note, console.bar, console.counter, training_bar)
    if run := run_training(settings, options, display):
        _report(run, json)


def _settings_of(run: Path, clashing: list[str]) -> Path:
    """The settings file of a run to resume. Raises UsageError for flags that would change it."""
    if clashing:
        raise UsageError(
            f"{', '.join(clashing)} cannot be given with --resume", "A run keeps its own settings."
        )
    if not (run / "settings.toml").exists():
        raise PoposError(f"{run}: no settings.toml, so no run to resume there")
    return run / "settings.toml"


def _report(run: TrainedRun, json: bool) -> None:
    from ..data.partial import mark, shortfall

    split = run.index.validation_split
    remark = "epoch selected on the test faces" if split == "test" else None
    short = [shortfall(run.index, str(name)) for name in ("train", split)]
    partial = {missing["split"]: missing for missing in short if missing}  # validation faces are of train
    if json:
        console.print_json({
            "run": str(run.folder), "weights": str(run.weights),
            "val_nme": run.best if math.isfinite(run.best) else None,
            "start_nme": run.start if math.isfinite(run.start) else None, "dataset": run.index.name,
            "epochs": run.epochs, "resolution": run.resolution, "selected_on": split, "remark": remark,
            "partial": partial,
        })  # fmt: skip
        return
    marks = [run.index.scheme.normaliser, remark, *map(mark, partial.values())]
    console.stdout.print(f"best validation NME {run.best:.3f} % ({'; '.join(filter(None, marks))})")
    console.stdout.print(f"weights: {run.weights}")
    console.note(f"next: popos evaluate --dataset {run.index.name} --weights {run.folder}")


class TrainingBar:
    """A live line on stderr, and for each epoch a line that stays (train.runlog.TrainingProgress)."""

    def __init__(self, bar: Progress, task: Any) -> None:
        self.bar, self.task = bar, task

    def start(self, steps: int, done: int) -> None:
        self.bar.update(self.task, total=steps, completed=done)

    def step(self, epoch: int, loss: float, meter: Meter) -> None:
        state = (
            f"loss {loss:.5f}  {meter.faces_per_second:.1f} faces/s  data wait {100 * meter.wait:.0f} %  "
            f"{meter.memory():.1f} GiB"
        )
        self.bar.update(self.task, advance=1, description=f"epoch {epoch}", extra=state)

    def epoch(self, row: dict[str, float]) -> None:
        waiting = f", data wait {100 * row['data_wait']:.0f} %" if row["data_wait"] > WAITING else ""
        partial = "partial, " if row.get("partial") else ""
        console.note(
            f"epoch {row['epoch']:.0f}: loss {row['loss']:.5f}, validation NME {row['val_nme']:.3f} % "
            f"({partial}best {row['best_nme']:.3f} %), {row['faces_per_second']:.1f} faces/s{waiting}"
        )

    def note(self, message: str) -> None:
        console.note(message)


@contextmanager
def training_bar() -> Iterator[TrainingBar]:
    with console.progress_bar("training") as (bar, task):
        yield TrainingBar(bar, task)
