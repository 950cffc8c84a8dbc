"""The app: commands, aliases, and what becomes of exceptions: a message and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from .. import __version__
from ..errors import INTERRUPTED, PoposError, UsageError, debugging, explained
from . import (
    bench,
    calibrate,
    console,
    doctor,
    evaluate,
    export,
    import_weights,
    inspect,
    predict,
    prepare,
    push_weights,
    train,
    weights,
)

app = typer.Typer(
    name="popos",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Find facial landmarks (jaw, brows, eyes, nose, lips) with sub-pixel accuracy.",
    epilog="Examples:  popos predict photo.jpg   |   popos predict photos/ --json   |   "
    "popos prepare-data custom my_faces/ --scheme 300w   |   popos train --dataset my_faces",
)

COMMANDS: tuple[tuple[Callable[..., Any], str, tuple[str, ...], str], ...] = (
    (prepare.prepare_data, "prepare-data", ("prepare",), prepare.EXAMPLES),
    (inspect.inspect, "inspect", (), inspect.EXAMPLES),
    (train.train, "train", (), train.EXAMPLES),
    (evaluate.evaluate, "evaluate", ("eval",), evaluate.EXAMPLES),
    (predict.predict, "predict", (), predict.EXAMPLES),
    (export.export, "export", (), export.EXAMPLES),
    (weights.download_weights, "download-weights", ("download",), weights.EXAMPLES),
    (import_weights.import_weights, "import-weights", (), import_weights.EXAMPLES),
    (push_weights.push_weights, "push-weights", (), push_weights.EXAMPLES),
    (calibrate.calibrate, "calibrate", (), calibrate.EXAMPLES),
    (doctor.doctor, "doctor", (), doctor.EXAMPLES),
)
for function, name, aliases, examples in COMMANDS:
    app.command(name, epilog=examples)(function)
    for alias in aliases:
        app.command(alias, epilog=examples, hidden=True)(function)
app.add_typer(bench.bench, name="bench")


def _version(value: bool) -> None:
    if value:
        console.stdout.print(f"popos {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code. Tracebacks only under POPOS_DEBUG=1."""
    arguments = sys.argv[1:] if arguments is None else arguments
    console.prepare_streams()
    os.environ["MPLBACKEND"] = "agg"  # figures go to files; another backend set here may not be installed
    if not debugging():  # no stack frames of torch's C++, no warnings of OpenCV about a damaged picture
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
        os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # quiet: what is wrong with a video, we say
    # Of a command that torchrun or srun runs many times, only the first process prints JSON.
    first = os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")) == "0"
    try:
        code = _run(arguments, bool({"--json", "--jsonl"} & set(arguments)) and first)
        console.write("")  # flush typer's help
        return code
    except SystemExit as end:  # stdout cannot be written, or the command has reported its interruption
        return int(end.code or 0)


def _run(arguments: list[str], as_json: bool) -> int:
    """Run one command and report its failure."""
    try:
        code = app(arguments, prog_name="popos", standalone_mode=False)
        if code == INTERRUPTED:  # typer's return value for a KeyboardInterrupt
            raise KeyboardInterrupt
        return code if isinstance(code, int) else 0
    except (KeyboardInterrupt, typer.Abort):
        console.fail(PoposError("interrupted"), as_json)
        return INTERRUPTED
    except typer.Exit as stop:
        return stop.exit_code
    except typer.TyperException as error:  # a wrong flag or value, found by the parser
        message = error.format_message().replace("Value error, ", "")  # pydantic's, in front of "'x' is not"
        if not message:  # no arguments at all: typer has printed the help
            return UsageError.exit_code
        command = getattr(getattr(error, "ctx", None), "command_path", "popos")
        return console.fail(UsageError(message, f"See {command} --help."), as_json)
    except Exception as error:
        if debugging():
            raise
        console.write("")  # ends here if it was typer's help that could not be written
        return console.fail(explained(error), as_json)
