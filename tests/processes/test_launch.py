"""With real processes over gloo: each start costs a few seconds of importing torch."""

import json
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
from torch.distributed.elastic.rendezvous import c10d_rendezvous_backend

from popos_cli.errors import PoposError, UsageError
from popos_cli.processes.launch import Workers, check_endpoint, launch


@pytest.fixture(autouse=True)
def _outside_a_cluster(no_cluster):
    pass


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


def assert_agreed(found, local=None):
    """What `jobs.agree` returned on one process; `local`: the local rank and size of each."""
    size = len(found)
    assert [one["rank"] for one in found] == list(range(size))
    assert len({tuple(one["sums"]) for one in found}) == 1  # bit-identical
    assert found[0]["sums"] == pytest.approx([0.1 * size * (size + 1) / 2, size])
    assert all(one["first"] == {"rank": 0, "tensor": [0, 0]} for one in found)
    assert [list(one["local"]) for one in found] == (local or [[rank, size] for rank in range(size)])


def test_three_workers_agree_and_leave_no_trace(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def traces():
        handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
        return handlers, list(tmp_path.iterdir())

    before = traces()
    found = launch(Workers(3, gpus=False), jobs.agree)
    assert traces() == before
    assert_agreed(found)
    assert found[0]["threads"] == max(1, len(os.sched_getaffinity(0)) // 3)
    assert capfd.readouterr().out == ""


def test_a_workers_error_arrives_whole(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(PoposError) as caught:
        launch(Workers(2, gpus=False), jobs.fail, PoposError("the loss is not finite", "Lower it."))
    assert (caught.value.message, caught.value.hint) == ("the loss is not finite", "Lower it.")
    assert capfd.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []


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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "send", "saves"),
    [
        (
            signal.SIGINT,
            os.killpg,
            True,
        ),  # a terminal's Ctrl-C reaches all processes, and the agent repeats it
        (signal.SIGTERM, os.kill, False),
        (signal.SIGKILL, os.kill, True),
    ],
)
def test_a_signal_ends_all_workers(number, send, saves):
    """While they are at their steps: those that save do so at the same step."""
    process = start("steps")
    pids = [int(process.stderr.readline().removeprefix("running ")) for _ in range(2)]
    send(process.pid, number)
    out, words = process.communicate(timeout=180)  # to the end of stderr, which is the workers'
    if number != signal.SIGKILL:
        assert json.loads(out) == {"interrupted": True}
        assert len(words.splitlines()) == 2 * saves
    saved = re.findall(r"^saved \d+$", words, re.MULTILINE)
    assert len(saved) == 2 * saves and len(set(saved)) == saves, words
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
        assert_agreed(outcome(machine)[0]["value"], [[0, 1], [0, 1]])


@pytest.mark.slow
def test_a_machine_that_lost_another_says_so():
    endpoint = f"127.0.0.1:{free_port()}"
    machines = [start("die", "1", "2", endpoint) for _ in range(2)]
    messages = [outcome(machine)[0]["error"] for machine in machines]
    killed = [re.fullmatch(r"worker 1 of 2 \(pid \d+\) was killed by SIGKILL", one) for one in messages]
    (other,) = (one for one, match in zip(messages, killed, strict=True) if not match)
    # The second where the killed one's machine was that of the endpoint.
    assert "worker 0 of 2 cannot reach the others: " in other or "or one has left" in other


def test_a_rendezvous_that_never_comes_ends_in_one_line(monkeypatch):
    """After a minute, which this does not wait for."""
    real = c10d_rendezvous_backend.TCPStore
    monkeypatch.setattr(
        c10d_rendezvous_backend, "TCPStore",
        lambda *given, timeout, **more: real(*given, timeout=timeout / 60, **more),
    )  # fmt: skip
    with pytest.raises(PoposError, match=r"2 machines did not meet at nowhere\.invalid:29400"):
        launch(Workers(1, False, nodes=2, endpoint="nowhere.invalid:29400"), jobs.agree)


@pytest.mark.parametrize("endpoint", ["nowhere", "node1:", ":29400", "node1:port", "node1:0", "::1:29400"])
def test_a_wrong_endpoint_is_refused(endpoint):
    with pytest.raises(UsageError, match=re.escape(f"not a rendezvous endpoint: {endpoint!r}")):
        check_endpoint(endpoint)


@pytest.mark.parametrize("endpoint", ["node1:29400", "10.0.0.7:65535", "[::1]:29400"])
def test_a_right_endpoint_passes(endpoint):
    check_endpoint(endpoint)


@pytest.mark.slow
def test_torchruns_processes_are_joined():
    process = start("join", module=["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"])
    out, _ = process.communicate(timeout=180)
    assert len(out.splitlines()) == 2
    for line in out.splitlines():
        assert_agreed(json.loads(line)["value"])


def test_sruns_tasks_are_joined():
    step = {
        "SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NUM_NODES": "1",
        "SLURM_STEP_NODELIST": "localhost", "MASTER_PORT": str(free_port()),
    }  # fmt: skip
    tasks = [start("join", **step, SLURM_PROCID=str(n), SLURM_LOCALID=str(n)) for n in range(2)]
    for task in tasks:
        assert_agreed(outcome(task)[0]["value"])
