"""docs/popos.ipynb, from top to bottom."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import REPOSITORY


def test_every_cell_runs(environment):
    pytest.importorskip("nbmake")
    scripts = Path(sys.executable).parent  # of the `popos` that its cells call
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--nbmake", "docs/popos.ipynb", "-p", "no:cacheprovider"],
        env=environment | {"PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"},
        cwd=REPOSITORY, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
