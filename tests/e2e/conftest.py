"""Runners of the real commands, and a small dataset and run that the tests share."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from huggingface_hub import constants

from popos_cli.cli.app import main

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Result:
    """What a command left behind: exit code, stdout, stderr."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """stdout as one JSON document; NaN and infinities, which JSON has not, are refused."""

        def refuse(constant: str) -> None:
            raise AssertionError(f"{constant} in the JSON")

        return json.loads(self.out, parse_constant=refuse)

    @property
    def errors(self) -> list[str]:
        return [line for line in self.err.splitlines() if line.startswith("error:")]

    def ok(self) -> Result:
        assert self.code == 0, self
        return self


Popos = Callable[..., Result]


@dataclass(frozen=True)
class Shop:
    """What the session prepared and trained, read-only. home: its POPOS_HOME; pictures: ROOT of the dataset
    "synthetic"; run: the run folder; train: the arguments of training; log: what it printed."""

    home: Path
    pictures: Path
    run: Path
    train: tuple[str, ...]
    log: Result


def _clean_environment(patch: pytest.MonkeyPatch, home: Path, folder: Path) -> None:
    for name in [name for name in os.environ if name.startswith("POPOS_")]:
        patch.delenv(name)
    patch.setenv("POPOS_HOME", str(home))
    patch.setenv("HF_HUB_OFFLINE", "1")
    # Hide what this machine has downloaded: from processes, and from this one.
    patch.setenv("HF_HUB_CACHE", str(home / "hub"))
    patch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    patch.setenv("OMP_NUM_THREADS", "1")  # as in this process, see below
    patch.chdir(folder)


def _call(*arguments: object) -> Result:
    """One command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(a) for a in arguments])
    return Result(code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small gain nothing from more threads; and the number of threads sets the order of a sum,
    and with it the last bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("shop")
    # Small steps of few faces: enough for a loss that falls, and seconds on one core.
    train = (
        "train", "--dataset", "synthetic", "--resolution", "4", "--gpus", "0", "--epochs", "3",
        "--batch-size", "6", "--set", "model.init=scratch", "--set", "workers=0",
        "--set", "codec.sigma=2",  # at 4 pixels these flat maps are learned soonest
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        _clean_environment(patch, folder / "home", folder)
        _call("prepare-data", "synthetic", "pictures", "--count", "24", "--val-fraction", "0.25").ok()
        log = _call(*train, "--json").ok()
    run = folder / "runs" / "synthetic-4-1"
    yield Shop(folder / "home", folder / "pictures", run, train, log)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty POPOS_HOME; the working folder is tmp_path and no setting comes from outside."""
    _clean_environment(monkeypatch, tmp_path / "home", tmp_path)
    return tmp_path / "home"


@pytest.fixture
def popos(home: Path, capsys: pytest.CaptureFixture[str]) -> Popos:
    """Runs a command in this process: popos("predict", "a.jpg")."""

    def run(*arguments: object) -> Result:
        capsys.readouterr()
        code = main([str(a) for a in arguments])
        return Result(code, *capsys.readouterr())

    return run


@pytest.fixture
def environment(home: Path) -> dict[str, str]:
    """The environment for a real process that finds this source tree."""
    return {**os.environ, "PYTHONPATH": str(REPOSITORY)}


@pytest.fixture
def popos_process(environment: dict[str, str]) -> Popos:
    """Runs `python -m popos_cli` as a process of its own, which takes seconds. `env` adds variables."""

    def run(*arguments: object, env: dict[str, str] | None = None) -> Result:
        done = subprocess.run(
            [sys.executable, "-m", "popos_cli", *map(str, arguments)],
            env={**environment, **(env or {})}, capture_output=True, text=True, timeout=600,
        )  # fmt: skip
        return Result(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def synthetic(home: Path, shop: Shop) -> str:
    """The name of the shop's dataset, prepared in this test's POPOS_HOME."""
    shutil.copytree(shop.home / "datasets", home / "datasets")
    return "synthetic"


@pytest.fixture
def trained(synthetic: str, home: Path, shop: Shop) -> Path:
    """The shop's run folder, remembered in this test's POPOS_HOME."""
    shutil.copy(shop.home / "registry.json", home)
    return shop.run


@pytest.fixture(scope="session")
def astronaut() -> Path:
    return REPOSITORY / "docs/assets/astronaut.jpg"


@pytest.fixture(scope="session")
def hopper() -> Path:
    return REPOSITORY / "docs/assets/grace_hopper.jpg"


@pytest.fixture(scope="session")
def empty_picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Smooth colours: nobody is in it."""
    path = tmp_path_factory.mktemp("pictures") / "nobody.jpg"
    y, x = np.mgrid[0:160, 0:200]
    cv2.imwrite(str(path), np.stack([x, y, (x + y) // 2], axis=-1).astype(np.uint8))
    return path
