"""The app: commands, aliases, and the one table from exceptions to messages and exit codes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from .. import __version__
from ..errors import PoposError, UsageError, debugging
from . import (
    bench,
    calibrate,
    console,
    doctor,
    evaluate,
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

INTERRUPTED = 130  # a shell's code for Ctrl-C

COMMANDS: tuple[tuple[Callable[..., Any], str, tuple[str, ...], str], ...] = (
    (prepare.prepare_data, "prepare-data", ("prepare",), prepare.EXAMPLES),
    (inspect.inspect, "inspect", (), inspect.EXAMPLES),
    (train.train, "train", (), train.EXAMPLES),
    (evaluate.evaluate, "evaluate", ("eval",), evaluate.EXAMPLES),
    (predict.predict, "predict", (), predict.EXAMPLES),
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
        print(f"popos {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def explain_import_error(error: Exception) -> PoposError | None:
    """What to install when a dependency does not import; None where the cause is another."""
    if not isinstance(error, ImportError | RuntimeError | OSError):
        return None
    text = _own_words(str(error))
    if "libGL" in text or "libgthread" in text or "libglib" in text:
        return PoposError(
            f"OpenCV does not import: {text.splitlines()[0]}",
            "Install the system libraries: apt-get install libgl1 libglib2.0-0",
        )
    if "torchvision::" in text or ("torchvision" in text and "torch" in text):
        return PoposError(
            "torch and torchvision do not match: " + text.splitlines()[0],
            "Reinstall both from one index: pip install --force-reinstall torch torchvision",
        )
    if isinstance(error, ImportError):
        return PoposError(
            f"a package does not import: {text.splitlines()[0]}",
            "Repair the installation: pip install --force-reinstall popos-cli",
        )
    return None


def _own_words(text: str) -> str:
    """What an exception said. From a loader's process torch brings the text of a traceback, with
    the class and these words in its last line."""
    if text.startswith("Caught ") and "Original Traceback" in text:
        return text.splitlines()[-1].partition(": ")[2]
    return text


def _from_worker(error: PoposError) -> PoposError:
    words = _own_words(error.message.strip())
    return error if words == error.message.strip() else PoposError(words, error.hint)


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code. Tracebacks only under POPOS_DEBUG=1."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not debugging():  # torch reads it at import: no stack frames of its C++ on the terminal
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    # Of a command that torchrun or srun runs many times, one speaks to the program that reads stdout.
    first = os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")) == "0"
    as_json = "--json" in arguments and first
    try:
        code = app(arguments, standalone_mode=False)
        if code == INTERRUPTED:  # what typer makes of a KeyboardInterrupt, without a word
            raise KeyboardInterrupt
        return code if isinstance(code, int) else 0
    except (KeyboardInterrupt, typer.Abort):
        console.fail(PoposError("interrupted"), as_json)
        return INTERRUPTED
    except typer.Exit as stop:
        return stop.exit_code
    except PoposError as error:
        if debugging():
            raise
        return console.fail(_from_worker(error), as_json)
    except typer.TyperException as error:  # a wrong flag or value, found by the parser
        if not error.format_message():  # no arguments at all: typer has printed the help
            return UsageError.exit_code
        return console.fail(UsageError(error.format_message(), "See popos --help."), as_json)
    except BrokenPipeError:  # `popos ... | head`: the reader has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if debugging():
            raise
        known = explain_import_error(error)
        text = _own_words(str(error).strip()) or type(error).__name__
        return console.fail(
            known
            or PoposError(
                f"{type(error).__name__}: {text.splitlines()[0]}",
                "This looks like a bug; run again with POPOS_DEBUG=1 for the full report.",
            ),
            as_json,
        )


def run() -> None:
    sys.exit(main())
