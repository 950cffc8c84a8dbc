import pytest
import torch
from rich.progress import Progress

from popos_cli.cli.train import TrainingBar
from popos_cli.train.runlog import Meter


@pytest.fixture
def bar():
    """A bar that is not drawn, with a clock of the test's own, `bar.now`."""
    progress = Progress(disable=True, get_time=lambda: bar.now)
    bar = TrainingBar(progress, None)
    bar.now = 1000.0
    bar.task = progress.add_task("training", total=None)
    return bar


def test_a_resumed_run_expects_the_steps_that_are_left(bar):
    """Those of an earlier process took none of this one's time."""
    bar.start(1000, 900)
    for _ in range(10):
        bar.now += 2
        bar.step(10, 0.5, Meter(torch.device("cpu")))
    (task,) = bar.bar.tasks
    assert task.completed == 910
    assert task.time_remaining == 90 * 2


def test_waiting_for_data_is_named_where_it_matters(bar, capsys):
    row = {"epoch": 3.0, "loss": 0.5, "val_nme": 4.0, "best_nme": 3.5, "faces_per_second": 80.0}
    bar.epoch({**row, "data_wait": 0.05})
    bar.epoch({**row, "data_wait": 0.25})
    quick, slow = capsys.readouterr().err.splitlines()
    assert quick == "epoch 3: loss 0.50000, validation NME 4.000 % (best 3.500 %), 80.0 faces/s"
    assert slow == quick + ", data wait 25 %"
