"""The program at the terminal's edges: pipes, full disks, encodings, Ctrl-C, wrong flags."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.fixture
def shell(environment):
    """Runs a line of bash in which "popos" is the program: (exit code of popos, stdout, stderr)."""

    def run(line, **variables):
        line = line.replace("popos", f"{sys.executable} -m popos_cli")
        done = subprocess.run(
            ["bash", "-c", f"set -o pipefail; {line}"],
            env={**environment, **variables}, capture_output=True, text=True, timeout=600,
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    return run


@pytest.mark.parametrize("command", ["train --help", "--version", "evaluate --threshold x --json"])
def test_stdout_that_cannot_be_written(shell, command):
    for unbuffered in ("", "1"):
        assert shell(f"popos {command} | true", PYTHONUNBUFFERED=unbuffered) == (1, "", "")
    line = "error: cannot write to standard output: No space left on device\n"
    assert shell(f"popos {command} >/dev/full", PYTHONUNBUFFERED="") == (1, "", line)


def test_a_reader_that_stops_within_a_table(shell):
    assert shell("popos download-weights | head -c 5") == (1, "weigh", "")


def test_closed_streams(shell):
    assert shell("popos --version >&-") == (0, "", "")
    assert shell("popos evaluate --threshold x 2>&-") == (2, "", "")


@pytest.mark.parametrize("variables", [
    {"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
], ids=["ascii", "C"])  # fmt: skip
def test_letters_that_the_encoding_lacks_are_escaped(shell, variables):
    code, out, err = shell("popos download-weights Jürgen; popos download-weights Jürgen --json", **variables)
    assert code == 2
    (line, hint) = err.splitlines()
    assert line.startswith("error: unknown weights 'J\\") and hint.startswith("hint: Known: default")
    assert out.startswith('{"error": {"message": "unknown weights \'J\\')


PRESS = "import os, signal, time; os.kill(os.getpid(), signal.SIGINT); time.sleep(10)"
AT_END = "import atexit, os, signal; atexit.register(os.kill, os.getpid(), signal.SIGINT)"


@pytest.mark.parametrize(
    ("module", "code", "exit_code"),
    [("typer", PRESS, 130), ("sitecustomize", AT_END, 0)],
    ids=["import", "end"],
)
def test_ctrl_c_while_python_starts_or_exits(popos_process, environment, tmp_path, module, code, exit_code):
    """In the import of a package that the command line needs; and after the command."""
    (tmp_path / f"{module}.py").write_text(code)
    result = popos_process("--version", env={"PYTHONPATH": f"{tmp_path}:{environment['PYTHONPATH']}"})
    assert (result.code, result.err) == (exit_code, "")


def test_a_backend_of_matplotlib_that_is_not_installed(popos_process, synthetic, tmp_path):
    popos_process("inspect", synthetic, "--faces", "1", env={"MPLBACKEND": "no such backend"}).ok()
    assert (tmp_path / "runs/inspect-synthetic-1/histograms.png").exists()


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        ("eval --threshold x", "popos eval"),
        ("bench decoders --seed -1", "popos bench decoders"),
        ("bench nonsense", "popos bench"),
        ("predict", "popos predict"),
        ("--nonsense", "popos"),
        ("nonsense", "popos"),
    ],
)
def test_a_hint_names_the_command(popos, arguments, command):
    result = popos(*arguments.split())
    assert result.code == 2
    assert result.err.splitlines()[-1] == f"hint: See {command} --help."
