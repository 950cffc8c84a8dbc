"""With real processes over gloo: each start costs a few seconds of importing torch."""

import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jobs
import pytest
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

from popos_cli.errors import PoposError, UsageError
from popos_cli.processes.launch import Workers, launch
from popos_cli.processes.launch import launch as launching
from popos_cli.processes.world import ALONE, first_host, joined, report_failure, surroundings

PLACES = ("RANK", "WORLD_SIZE", "TORCHELASTIC_", "SLURM_", "OMP_NUM_THREADS", "MASTER_")


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch):
    for name in list(os.environ):
        if name.startswith(PLACES):
            monkeypatch.delenv(name)


def start(*arguments, module=(), **environment):
    """A process group of its own that runs jobs.py."""
    return subprocess.Popen(
        [sys.executable, *module, jobs.__file__, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, start_new_session=True, env={**os.environ, **environment},
    )  # fmt: skip


def outcome(process):
    """What it printed, as one JSON document on stdout; and its stderr."""
    out, err = process.communicate(timeout=180)
    return json.loads(out), err


def gone(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] == "Z"
    except OSError:
        return True


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def assert_agreed(found, size):
    """What `jobs.agree` returned on one of `size` processes."""
    assert [one["rank"] for one in found] == list(range(size))
    assert len({tuple(one["sums"]) for one in found}) == 1  # the same bits
    assert found[0]["sums"] == pytest.approx([0.1 * size * (size + 1) / 2, size])
    assert all(one["first"] == {"rank": 0, "tensor": [0, 0]} for one in found)


def test_alone_nothing_is_sent():
    with joined(gpu=False) as world:
        assert world == ALONE and world.main
        assert world.sums(1, 2.5) == [1, 2.5]
        value = object()
        assert world.broadcast(value) is value and world.gather(value) == [value]


def test_three_workers_agree_and_leave_no_trace(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    logger = logging.getLogger("torch.distributed.elastic")
    numbers = (signal.SIGINT, signal.SIGTERM)

    def traces():
        handlers = [signal.getsignal(number) for number in numbers]
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        return (
            handlers,
            mask,
            logger.propagate,
            os.environ.get("TORCH_CPP_LOG_LEVEL"),
            list(tmp_path.iterdir()),
        )

    before = traces()
    found = launch(Workers(3, gpus=False), jobs.agree)
    assert traces() == before
    assert_agreed(found, 3)
    assert [one["local"] for one in found] == [(0, 3), (1, 3), (2, 3)]
    assert found[0]["threads"] == max(1, len(os.sched_getaffinity(0)) // 3)
    assert capfd.readouterr().out == ""


def test_a_workers_error_arrives_whole(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(PoposError) as caught:
        launch(Workers(2, gpus=False), jobs.fail, PoposError("the loss is not finite", "Lower it."))
    assert (caught.value.message, caught.value.hint) == ("the loss is not finite", "Lower it.")
    assert capfd.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []


def test_a_bugs_cause_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "error.json"))
    report_failure(ValueError("one\ntwo"))
    failure = ProcessFailure(1, 1234, 1, str(tmp_path / "error.json"))  # the agent's reading of it
    assert failure.message["message"] == "worker 1 of 2: ValueError: one"
    assert "Traceback" not in failure.message["extraInfo"]["py_callstack"]  # torchrun prints this
    from_loader = (
        "Caught OSError in DataLoader worker process 0.\nOriginal Traceback ...\nOSError: cannot read"
    )
    report_failure(OSError(from_loader))
    message = json.loads((tmp_path / "error.json").read_text())["message"]["message"]
    assert message == "worker 1 of 2: OSError: cannot read"


@pytest.mark.slow
def test_a_killed_worker_is_named_and_the_others_end(tmp_path):
    with pytest.raises(PoposError, match=r"worker 1 of 2 \(pid \d+\) was killed by SIGKILL") as caught:
        launch(Workers(2, gpus=False), jobs.die, str(tmp_path))
    assert time.time() - (tmp_path / "1").stat().st_mtime < 30  # when all were ready, just before
    assert "memory" in caught.value.hint
    assert all(gone(int((tmp_path / str(rank)).read_text())) for rank in range(2))


@pytest.mark.slow
def test_a_failed_run_starts_anew():
    assert launch(Workers(2, gpus=False, max_restarts=1), jobs.fail_at_first) == [2]


def signal_steps(number, send):
    """Signal workers that are at their steps. The process that launched them, and the pids of all."""
    process = start("steps")
    pids = [int(process.stderr.readline().removeprefix("running ")) for _ in range(2)]
    send(process.pid, number)
    return process, pids


@pytest.mark.slow
def test_ctrl_c_lets_workers_finish():
    """A terminal's Ctrl-C reaches all processes, and the agent repeats it."""
    process, pids = signal_steps(signal.SIGINT, os.killpg)
    result, words = outcome(process)
    assert result == {"interrupted": True}
    first, second = words.splitlines()
    assert first == second and first.startswith("saved ")
    assert all(gone(pid) for pid in pids)


@pytest.mark.slow
def test_sigterm_to_the_parent_ends_all():
    process, pids = signal_steps(signal.SIGTERM, os.kill)
    assert outcome(process) == ({"interrupted": True}, "")
    assert all(gone(pid) for pid in pids)


@pytest.mark.slow
def test_workers_of_a_killed_parent_save_and_end():
    process, pids = signal_steps(signal.SIGKILL, os.kill)
    words = process.stderr.read()  # to its end, which is theirs
    saved = re.findall(r"^saved \d+$", words, re.MULTILINE)
    assert len(saved) == 2 and saved[0] == saved[1], words
    deadline = time.monotonic() + 10
    while not all(gone(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.slow
def test_ctrl_c_while_workers_import_is_quiet():
    process = start("steps")
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    importing = 0
    while importing < 2:
        time.sleep(0.01)
        found = children.read_text().split()
        importing = sum("libtorch" in Path(f"/proc/{child}/maps").read_text() for child in found)
    os.killpg(process.pid, signal.SIGINT)
    result, words = outcome(process)
    assert result == {"interrupted": True}
    assert "Traceback" not in words


@pytest.mark.slow
def test_two_machines_are_one_world():
    endpoint = f"127.0.0.1:{free_port()}"
    machines = [start("agree", "1", "2", endpoint) for _ in range(2)]
    for machine in machines:
        found = outcome(machine)[0]["value"]
        assert_agreed(found, 2)
        assert [one["local"] for one in found] == [[0, 1], [0, 1]]


@pytest.mark.slow
def test_a_machine_that_lost_another_says_so():
    endpoint = f"127.0.0.1:{free_port()}"
    machines = [start("die", "1", "2", endpoint) for _ in range(2)]
    messages = sorted(outcome(machine)[0]["error"] for machine in machines)
    assert messages[0].startswith("worker 0 of 2 lost another: Connection closed by peer")
    assert re.fullmatch(r"worker 1 of 2 \(pid \d+\) was killed by SIGKILL", messages[1])


def test_a_rendezvous_that_cannot_be(monkeypatch):
    monkeypatch.setattr(launching, "MEET", 0)
    monkeypatch.setattr(launching, "ANSWER", 1)
    with pytest.raises(PoposError, match=r"endpoint nowhere\.invalid:29400 cannot be reached: "):
        launch(Workers(1, False, nodes=2, endpoint="nowhere.invalid:29400"), jobs.agree)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(PoposError, match=f"another program has the port .* {endpoint}"):
            launch(Workers(1, False, nodes=2, endpoint=endpoint), jobs.agree)
    with pytest.raises(UsageError, match="not a rendezvous endpoint: 'nowhere'"):
        launch(Workers(1, False, nodes=2, endpoint="nowhere"), jobs.agree)


@pytest.mark.slow
def test_torchruns_processes_are_joined():
    process = start("join", module=["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"])
    out, _ = process.communicate(timeout=180)
    for line in out.splitlines():
        assert_agreed(json.loads(line)["value"], 2)
    assert len(out.splitlines()) == 2


def test_sruns_tasks_are_joined():
    step = {
        "SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "2", "SLURM_NODEID": "0",
        "SLURM_STEP_TASKS_PER_NODE": "2", "SLURM_STEP_NODELIST": "localhost", "MASTER_PORT": str(free_port()),
    }  # fmt: skip
    tasks = [start("join", **step, SLURM_PROCID=str(n), SLURM_LOCALID=str(n)) for n in range(2)]
    for task in tasks:
        found = outcome(task)[0]["value"]
        assert_agreed(found, 2)
        assert [one["local"] for one in found] == [[0, 2], [1, 2]]


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, None),
        ({"TORCHELASTIC_RUN_ID": "x", "RANK": "0", "WORLD_SIZE": "1"}, "torchrun"),
        ({"RANK": "1", "WORLD_SIZE": "4"}, "torchrun"),
        ({"RANK": "0", "WORLD_SIZE": "1"}, None),
        ({"SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "8"}, "slurm"),
        ({"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1", "SLURM_NTASKS": "8"}, None),
        ({"SLURM_NTASKS": "8", "SLURM_PROCID": "0"}, None),  # a batch script's shell
        # one torchrun a node, each started by srun
        ({"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2", "TORCHELASTIC_RUN_ID": "x"}, "torchrun"),
    ],
)
def test_surroundings(variables, expected, monkeypatch):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert surroundings() == expected


@pytest.mark.parametrize(
    ("hosts", "first"),
    [
        ("node1", "node1"),
        ("gpu[07-09,12],cpu1", "gpu07"),
        ("a,b[1-2]", "a"),
        ("r[1-2]n[3,5]-ib,x", "r1n3-ib"),
    ],
)
def test_first_host(hosts, first):
    assert first_host(hosts) == first
