"""What the wheel has, and that this is enough for the README's first command outside the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile

import pytest

import popos_cli

from .conftest import REPOSITORY

MOST = 34e6  # bytes
WEIGHTS = [
    f"popos_cli/weights/bundled/popos-300w-{size}.{kind}"
    for size in (16, 8, 4)
    for kind in ("onnx", "safetensors")
]
DATA = ["core/schemes.toml", "evaluate/published.toml", "evaluate/report.css", "weights/catalog.toml"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=REPOSITORY, check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    return path


@pytest.mark.slow
def test_content(wheel):
    assert wheel.name == f"popos_cli-{popos_cli.__version__}-py3-none-any.whl"
    assert wheel.stat().st_size < MOST
    with zipfile.ZipFile(wheel) as file:
        names = {name for name in file.namelist() if not name.endswith("/")}
        (about,) = {name.split("/")[0] for name in names} - {"popos_cli"}
        entry = file.read(f"{about}/entry_points.txt").decode()
    assert "popos = popos_cli.__main__:run" in entry
    code = {name for name in names if name.startswith("popos_cli/") and name.endswith(".py")}
    assert code == {
        path.relative_to(REPOSITORY).as_posix() for path in (REPOSITORY / "popos_cli").rglob("*.py")
    }
    licences = [f"licenses/{name}" for name in ("LICENSE", "LICENSE-WEIGHTS.md")]
    assert names - code == {
        *WEIGHTS, "popos_cli/py.typed", *(f"popos_cli/{name}" for name in DATA),
        *(f"{about}/{name}" for name in (*licences, "METADATA", "WHEEL", "RECORD", "entry_points.txt")),
    }  # fmt: skip


@pytest.mark.slow
def test_the_first_command(wheel, tmp_path, astronaut):
    """In a process that has the wheel's files and this environment's dependencies."""
    with zipfile.ZipFile(wheel) as file:
        file.extractall(tmp_path / "installed")
    environment = {
        **os.environ,
        "PYTHONPATH": str(tmp_path / "installed"),
        "POPOS_HOME": str(tmp_path / "home"),
    }
    done = subprocess.run(
        [sys.executable, "-m", "popos_cli", "predict", str(astronaut), "--offline"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, f"{astronaut}: 1 face\n"), done.stderr
    assert {path.name for path in (tmp_path / "popos-out").iterdir()} == {
        "astronaut.json",
        "astronaut_landmarks.jpg",
    }
