"""docs/popos.ipynb from top to bottom, and the drawings of docs/explanation/method.md."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import REPOSITORY


def run_python(environment: dict[str, str], *arguments: object) -> None:
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        env=environment, cwd=REPOSITORY, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_cell_runs(environment):
    pytest.importorskip("nbmake")
    scripts = Path(sys.executable).parent  # of the `popos` that its cells call
    environment["PATH"] = f"{scripts}{os.pathsep}{environment['PATH']}"
    run_python(environment, "-m", "pytest", "--nbmake", "docs/popos.ipynb", "-p", "no:cacheprovider")


@pytest.mark.slow
def test_drawings(environment, tmp_path):
    run_python(environment, "docs/drawings.py", tmp_path)
    for name in ("distances.png", "decoders.png", "face_distances.jpg"):
        assert 10_000 < (tmp_path / name).stat().st_size < 80_000
