"""The app: commands, aliases, and what becomes of exceptions: a message and an exit code."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterable
from importlib import import_module
from typing import Annotated

import typer

from .. import __version__
from ..errors import INTERRUPTED, PoposError, UsageError, debugging, explained
from . import console

# Each command: the module here that has it, as a function called like the command, and its other names.
COMMANDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "prepare-data": ("prepare", ("prepare",)),
    "inspect": ("inspect", ()),
    "train": ("train", ()),
    "evaluate": ("evaluate", ("eval",)),
    "predict": ("predict", ()),
    "export": ("export", ()),
    "download-weights": ("weights", ("download",)),
    "import-weights": ("import_weights", ()),
    "push-weights": ("push_weights", ()),
    "calibrate": ("calibrate", ()),
    "doctor": ("doctor", ()),
    "bench": ("bench", ()),
}


def build(commands: Iterable[str] = COMMANDS) -> typer.Typer:
    """The app with these commands. Reading the flags of all takes a tenth of a second."""
    app = typer.Typer(
        name="popos",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        help="Find facial landmarks (jaw, brows, eyes, nose, lips) with sub-pixel accuracy.",
        epilog="Examples:  popos predict photo.jpg   |   popos predict photos/ --json   |   "
        "popos prepare-data custom my_faces/ --scheme 300w   |   popos train --dataset my_faces",
    )
    app.callback()(root)
    for name in commands:
        file, aliases = COMMANDS[name]
        module = import_module(f".{file}", __package__)
        command = getattr(module, name.replace("-", "_"))
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name)
            continue
        app.command(name, epilog=module.EXAMPLES)(command)
        for alias in aliases:
            app.command(alias, epilog=module.EXAMPLES, hidden=True)(command)
    return app


def _version(value: bool) -> None:
    if value:
        console.stdout.print(f"popos {__version__}")
        raise typer.Exit


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
    asked = arguments[0] if arguments else ""
    named = [name for name, (_, aliases) in COMMANDS.items() if asked in (name, *aliases)]
    try:
        typed = shlex.join(["popos", *arguments])  # as typer.Context.obj: reports quote it
        code = build(named or COMMANDS)(arguments, prog_name="popos", standalone_mode=False, obj=typed)
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
