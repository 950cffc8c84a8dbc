"""popos train: what it takes, and what is wrong with that."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import PoposError, UsageError
from . import console
from .options import JSON

if TYPE_CHECKING:
    from ..train.settings import TrainSettings

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
    _check_packages(settings)
    from .training import Place, run_training

    run_training(settings, Place(out, resume, nnodes, rdzv_endpoint, max_restarts), json)


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

    from ..train.runlog import check_tensorboard

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
