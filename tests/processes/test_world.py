import json
import signal

import pytest
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

from popos_cli.processes.world import (
    ALONE,
    Stopped,
    first_host,
    held_interrupts,
    joined,
    outer_launcher,
    report_failure,
)


@pytest.fixture(autouse=True)
def _outside_a_cluster(no_cluster):
    pass


def test_alone_nothing_is_sent():
    with joined(gpu=False) as world:
        assert world == ALONE and world.main
        assert world.sums(1, 2.5) == [1, 2.5]
        value = object()
        assert world.broadcast(value) is value and world.gather(value) == [value]


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
def test_outer_launcher(variables, expected, monkeypatch):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert outer_launcher() == expected


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


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (ValueError("one\ntwo"), "ValueError: one"),
        (
            OSError(
                "Caught OSError in DataLoader worker process 0.\nOriginal Traceback ...\nOSError: cannot"
            ),
            "OSError: cannot",
        ),
    ],
)
def test_the_agent_reads_the_cause_in_one_line(error, cause, tmp_path, monkeypatch):
    file = str(tmp_path / "error.json")
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "TORCHELASTIC_ERROR_FILE": file}.items():
        monkeypatch.setenv(name, value)
    report_failure(error)
    message = ProcessFailure(1, 1234, 1, file).message
    assert message["message"] == f"worker 1 of 2: {cause}"
    assert "Traceback" not in message["extraInfo"]["py_callstack"]  # torchrun prints this
    assert json.loads((tmp_path / "error.json").read_text())["message"]["hint"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_until_asked(number):
    before = signal.getsignal(number)
    with held_interrupts() as pressed:
        assert not pressed()
        signal.raise_signal(number)
        assert pressed()
    assert signal.getsignal(number) is before


def test_a_second_signal_does_not_wait():
    with pytest.raises(KeyboardInterrupt) as caught, held_interrupts():
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
    assert not isinstance(caught.value, Stopped)


def test_under_an_elastic_agent_repeats_wait_and_sigterm_ends(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "popos")
    before = signal.getsignal(signal.SIGTERM)
    with held_interrupts() as pressed:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        assert pressed()
        assert signal.getsignal(signal.SIGTERM) is before
