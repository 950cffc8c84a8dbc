"""Training in several processes, and training that is killed: real processes, real signals."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from run_folders import assert_same_run, rows
from safetensors.torch import load_file

from popos_cli.home import TEMPORARY

TWO = ("--processes", "2")
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


@pytest.fixture
def start(environment):
    """Starts `python -m popos_cli` in a process group of its own; what is left of it is killed at the end."""
    begun = []

    def begin(*arguments, launcher=()):
        process = subprocess.Popen(
            [sys.executable, *launcher, "-m", "popos_cli", *map(str, arguments)], env=environment,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        begun.append(process)
        return process

    yield begin
    for process in begun:
        kill_group(process)
        process.communicate()


def kill_group(process):
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def read_until(process, text):
    """Read stderr up to the line that has `text`."""
    assert any(text in line for line in iter(process.stderr.readline, ""))


def workers_of(process):
    """Process numbers of the workers, oldest first."""
    found = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return sorted(int(pid) for pid in found if "spawn_main" in Path(f"/proc/{pid}/cmdline").read_text())


needs_proc = pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="reads /proc")


@needs_proc
@pytest.mark.slow
def test_a_killed_worker_ends_the_run_with_its_name(synthetic, shop, start, tmp_path):
    process = start(*shop.train, *TWO, "--epochs", "500", "--out", "run")
    read_until(process, "epoch 1:")
    first, second = workers_of(process)
    os.kill(second, signal.SIGKILL)
    killed = time.monotonic()
    out, log = process.communicate(timeout=60)
    assert time.monotonic() - killed < 30
    assert process.returncode == 1
    errors = [line for line in log.splitlines() if line.startswith("error:")]
    assert len(errors) == 1 and "of 2" in errors[0] and "SIGKILL" in errors[0], log
    assert "popos train --resume run" in log
    assert "Traceback" not in log and out == ""
    assert not os.path.exists(f"/proc/{first}")


@needs_proc
@pytest.mark.slow  # half a minute; tests/processes/test_launch.py has a restart too
def test_a_killed_worker_is_replaced_where_restarts_are_allowed(synthetic, shop, start, popos, tmp_path):
    """And the run ends with the weights of one that nobody killed."""
    given = (*shop.train, *TWO, "--epochs", "6")
    process = start(*given, "--max-restarts", "1", "--out", "killed")
    read_until(process, "epoch 2:")
    os.kill(workers_of(process)[1], signal.SIGKILL)
    _, log = process.communicate(timeout=120)
    assert process.returncode == 0, log
    popos(*given, "--out", "whole").ok()
    assert_same_run(tmp_path / "killed", tmp_path / "whole")


@pytest.mark.slow
def test_ctrl_c_in_two_processes_and_resuming_in_one(synthetic, shop, start, popos, tmp_path):
    process = start(*shop.train, *TWO, "--epochs", "500", "--out", "run")
    read_until(process, "epoch 1:")
    os.killpg(process.pid, signal.SIGINT)
    out, log = process.communicate(timeout=60)
    assert process.returncode == 130, log
    assert log.splitlines()[-1] == "error: interrupted" and out == ""
    assert log.count("popos train --resume run") == 1
    done = len(rows(tmp_path / "run/results.csv"))
    popos("train", "--resume", "run", "--processes", "1", "--epochs", done + 2).ok()
    epochs = [float(row["epoch"]) for row in rows(tmp_path / "run/results.csv")]
    assert epochs == list(range(1, done + 3))


FROZEN = (
    "train", "--dataset", "synthetic", "--gpus", "0", "--weights", "small", "--resolution", "8",
    "--batch-size", "6", "--set", "schedule.freeze_batch_norm=true", "--set", "schedule.ema=0",
    "--set", "precision=fp32", "--set", "schedule.learning_rate=1e-4",
)  # fmt: skip


@pytest.fixture
def few_open_files():
    """What most shells allow; the first weights have as many tensors."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_two_processes_take_the_steps_of_one(synthetic, popos, tmp_path, few_open_files):
    """Nine steps of the same batches with frozen batch norms: equal but for the order of sums.

    Adam divides a gradient by its own size, and so makes whole steps of the rounding noise that some filters'
    gradients are: the rate is low, yet a wrong gradient would move weights by 1e-3 of their norm.
    """
    nine = ("--epochs", "3", "--set", "workers=0", "--set", "schedule.learning_rate=3e-6")  # of 3 steps
    popos(*FROZEN, *nine, "--out", "one").ok()
    popos(*FROZEN, *nine, *TWO, "--out", "two").ok()
    one, two = (load_file(tmp_path / run / "last.safetensors") for run in ("one", "two"))
    apart = {
        name: float((one[name] - two[name]).double().norm() / one[name].double().norm().clamp(min=1e-6))
        for name in one
    }
    worst = max(apart, key=apart.get)
    assert apart[worst] < 1e-5, (worst, apart[worst])


@pytest.mark.slow
def test_processes_do_not_change_what_evaluation_finds(popos, shop, tmp_path):
    """To the last bit, on a number of faces that 3 does not divide."""
    popos(
        "prepare-data", "synthetic", "many", "--count", "239", "--val-fraction", "0.9", "--name", "many"
    ).ok()
    found = []
    for processes in (1, 3):
        given = ("--dataset", "many", "--weights", shop.run, "--workers", "0", "--no-flip-test")
        out = ("--out", f"run-{processes}", "--processes", processes, "--json")
        (result,) = popos("evaluate", *given, *out).ok().json["results"]
        assert result["faces"] % 3
        table = (tmp_path / f"run-{processes}/per_face.csv").read_text()
        found.append(({k: v for k, v in result.items() if k != "run"}, table))
    assert found[0] == found[1]


@pytest.mark.slow
def test_torchruns_processes_are_joined(synthetic, shop, start, popos, tmp_path):
    """One JSON document, and the weights that popos's own two processes give."""
    process = start(*shop.train, "--out", "joined", "--json", launcher=TORCHRUN)
    out, log = process.communicate(timeout=120)
    assert process.returncode == 0, log
    assert json.loads(out)["run"] == "joined"
    popos(*shop.train, *TWO, "--out", "own").ok()
    assert_same_run(tmp_path / "joined", tmp_path / "own")


@pytest.mark.slow
def test_two_machines_meet(synthetic, shop, start, tmp_path):
    """Two launchers on this one, each with one process."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        endpoint = f"localhost:{free.getsockname()[1]}"
    nodes = ("--nnodes", "2", "--rdzv-endpoint", endpoint, "--out", "run", "--json")
    both = [start(*shop.train, *nodes) for _ in range(2)]
    outcomes = [process.communicate(timeout=180) for process in both]
    assert [process.returncode for process in both] == [0, 0], outcomes
    documents = [json.loads(out) for out, _ in outcomes if out]
    assert len(documents) == 1 and documents[0]["run"] == "run"
    assert len(rows(tmp_path / "run/results.csv")) == 3


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        ("--processes 4", 1, ["not divisible by 4", "Take 4"]),  # a step has 6 faces
        ("--nnodes 2", 2, ["belong together"]),
        ("--rdzv-endpoint here:1", 2, ["belong together"]),
        ("--nnodes 2 --rdzv-endpoint h:1", 2, ["belong together"]),
        ("--nnodes 2 --rdzv-endpoint h --out r", 2, ["not a rendezvous endpoint: 'h'"]),
    ],
)
def test_processes_that_cannot_be_are_refused_before_any_work(
    synthetic, shop, popos, tmp_path, flags, code, words
):
    result = popos(*shop.train, *flags.split())
    assert (result.code, len(result.errors)) == (code, 1)
    assert all(word in result.err for word in words)
    assert not (tmp_path / "runs").exists() and not (tmp_path / "r").exists()


@pytest.mark.slow
def test_batch_norm_sees_half_the_faces_and_learns_as_well(synthetic, popos, tmp_path):
    """With batch norms of its own a process sees half a batch: final NME within 5 % all the same."""
    nme = []
    free = (*FROZEN, "--set", "schedule.freeze_batch_norm=false", "--set", "workers=0", "--epochs", "12")
    for processes in (1, 2):
        document = popos(*free, "--processes", processes, "--out", f"run-{processes}", "--json").ok().json
        nme.append(document["val_nme"])
    assert nme[1] == pytest.approx(nme[0], rel=0.05)


@pytest.mark.slow
def test_twenty_kills_change_nothing(synthetic, shop, start, popos, tmp_path):
    """SIGKILL to trainer and loaders at seeded random moments, from the first import to the last file."""
    moments = random.Random(5)
    given = (*shop.train, "--epochs", "40", "--set", "workers=1", "--set", "checkpoint_minutes=0.001")
    for kill in range(20):
        resumed = (tmp_path / "killed/settings.toml").exists()
        process = start(*(("train", "--resume", "killed") if resumed else (*given, "--out", "killed")))
        try:
            process.wait(moments.uniform(1.0, 12.0))
        except subprocess.TimeoutExpired:
            kill_group(process)
        _, log = process.communicate()
        assert process.returncode in (-signal.SIGKILL, 0), (kill, log)
        if not resumed and not (tmp_path / "killed/settings.toml").exists():
            for path in sorted((tmp_path / "killed").glob("*")):  # killed before the run had begun
                path.unlink()
    popos("train", "--resume", "killed").ok()
    popos(*given, "--out", "whole").ok()
    assert_same_run(tmp_path / "killed", tmp_path / "whole")
    left = [path.name for path in (tmp_path / "killed").iterdir() if TEMPORARY.fullmatch(path.name)]
    assert left == []
    losses = np.array([float(row["val_nme"]) for row in rows(tmp_path / "killed/results.csv")])
    assert len(losses) == 40 and np.isfinite(losses).all()


def test_a_refused_resume_leaves_the_run_as_it_was(synthetic, shop, popos, tmp_path):
    run = shutil.copytree(shop.run, tmp_path / "run")
    before = (run / "settings.toml").read_bytes()
    log = popos("train", "--resume", "run", "--set", "model.resolution=8", "--epochs", "9")
    assert log.code == 1
    assert "of another network" in log.errors[0] and "resume from the last" not in log.err
    assert (run / "settings.toml").read_bytes() == before
    popos("train", "--resume", "run").ok()


def test_a_resumed_run_takes_another_rate_and_decay(synthetic, shop, popos, tmp_path):
    """The checkpoint brings the moments, the settings bring the rate."""
    shutil.copytree(shop.run, tmp_path / "run")
    changed = ("schedule.learning_rate=1e-6", "schedule.rate_batch=0", "schedule.shape=step")
    popos("train", "--resume", "run", "--epochs", "4", *(f"--set={one}" for one in changed)).ok()
    last = rows(tmp_path / "run/results.csv")[-1]
    assert (last["epoch"], float(last["learning_rate"])) == ("4", pytest.approx(1e-8))


@pytest.mark.slow
def test_a_folder_that_is_taken_is_refused_to_several_processes_too(synthetic, shop, start, tmp_path):
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "results.csv").write_text("mine")
    process = start(*shop.train, "--out", "taken", "--json", launcher=TORCHRUN)
    out, log = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "taken exists already" in json.loads(out)["error"]["message"], log
    assert [path.name for path in taken.iterdir()] == ["results.csv"]
    assert (taken / "results.csv").read_text() == "mine"
