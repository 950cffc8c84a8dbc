"""What settings become."""

import pytest
import torch

from popos_cli.engine.build import autocast_dtype, pick_device, rate_factor, to_model_input
from popos_cli.errors import PoposError
from popos_cli.settings.schema import ScheduleSettings


def test_cosine_rises_through_the_warmup_and_ends_near_zero():
    factor = rate_factor(ScheduleSettings(epochs=10, warmup=2), steps_per_epoch=50)
    rising = [factor(step) for step in range(100)]
    falling = [factor(step) for step in range(100, 500)]
    assert rising == sorted(rising) and 0 < rising[0] < 0.02
    assert falling == sorted(falling, reverse=True)
    assert falling[0] == pytest.approx(1, abs=0.01) and falling[-1] < 1e-4


def test_step_divides_by_ten_at_each_milestone():
    schedule = ScheduleSettings(epochs=10, warmup=0, shape="step", milestones=(0.5, 0.8))
    factor = rate_factor(schedule, steps_per_epoch=10)
    assert [factor(s) for s in (0, 49, 50, 79, 80, 99)] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def test_gpus_that_are_not_there_are_refused_with_their_number():
    there = torch.cuda.device_count()
    with pytest.raises(PoposError, match=rf"this machine has {there} usable GPU"):
        pick_device(there + 1)
    assert pick_device(0).type == "cpu"


def test_precision_is_what_was_asked_for():
    assert autocast_dtype("fp32", torch.device("cpu")) is None
    assert autocast_dtype("bf16", torch.device("cpu")) is torch.bfloat16


def test_images_become_floats_from_zero_to_one():
    images = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 3, 1, 1).expand(2, 3, 4, 4)
    batch = to_model_input(images, torch.device("cpu"))
    assert batch.dtype == torch.float32
    assert torch.allclose(batch[1, :, 2, 3], torch.tensor([0, 0.2, 1.0]))
