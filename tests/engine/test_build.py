"""What settings become."""

import cv2
import numpy as np
import pytest
import torch

from popos_cli.core.codec import Codec
from popos_cli.core.schemes import SCHEMES
from popos_cli.data.benchmarks.synthetic import prepare_synthetic
from popos_cli.data.crops import cache_crops
from popos_cli.engine.build import (
    autocast_dtype,
    evaluation_loader,
    ordered_loader,
    pick_device,
    rate_factor,
    to_model_input,
    training_crops,
    training_loader,
    validation_loader,
)
from popos_cli.errors import PoposError
from popos_cli.settings.schema import AugmentSettings, ModelSettings, ScheduleSettings, TrainSettings


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


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """An index of four faces with cached crops, whose photos cannot be decoded any more."""
    monkeypatch.setenv("POPOS_HOME", str(tmp_path / "home"))
    index = prepare_synthetic(tmp_path / "photos", 4, SCHEMES["300w"], seed=0, val_fraction=0.5)
    cache_crops(index)
    for name in index.image:
        photo = index.root / name
        photo.write_bytes(bytes(photo.stat().st_size))
    return index


def test_training_reads_the_crop_cache_and_evaluation_the_photos(cached):
    settings = TrainSettings(dataset="synthetic", workers=0, schedule=ScheduleSettings(batch_size=2))
    codec = Codec(16)
    loader, _ = training_loader(settings, cached.of_split("train"), codec)
    assert len(next(iter(loader))["face"]) == 2
    (batch,) = validation_loader(settings, cached.of_split("val"), codec)
    assert batch["image"].float().std() > 20
    with pytest.raises(PoposError, match=r"face_00000\.jpg: not an image"):
        next(iter(evaluation_loader(cached, codec, 1.25, 0)))


def test_crops_that_would_show_too_little_are_not_used(cached):
    def crops(padding, scale):
        model, augment = ModelSettings(padding=padding), AugmentSettings(scale=scale)
        return training_crops(TrainSettings(dataset="synthetic", model=model, augment=augment), cached)

    assert crops(1.25, 0.125) is not None
    assert crops(1.7, 0.0) is not None
    assert crops(1.8, 0.0) is None
    assert crops(1.25, 0.2) is None


class Threads(torch.utils.data.Dataset):
    """How many threads OpenCV has where a sample is made."""

    def __len__(self):
        return 4

    def __getitem__(self, item):
        return {"threads": cv2.getNumThreads()}


def test_loader_processes_use_opencv_on_one_core():
    """Also where OpenCV's threads have run before the processes begin; six times, for it hung in half."""
    before = cv2.getNumThreads()
    for _ in range(6):
        cv2.resize(np.zeros((2000, 2000, 3), np.uint8), (900, 900), interpolation=cv2.INTER_AREA)
        for batch in ordered_loader(Threads(), 2):
            assert batch["threads"].tolist() == [1] * len(batch["threads"])
        assert cv2.getNumThreads() == before
    (batch,) = ordered_loader(Threads(), 0)
    assert set(batch["threads"].tolist()) == {before}
