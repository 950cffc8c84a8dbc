"""What settings become."""

import cv2
import numpy as np
import pytest
import torch

from popos_cli.core.codec import Codec
from popos_cli.core.device import autocast_dtype, pick_device
from popos_cli.core.inference import to_model_input
from popos_cli.core.schemes import SCHEMES
from popos_cli.data.augment import Augment, apply_colours
from popos_cli.data.crops import cache_crops
from popos_cli.data.loader import evaluation_loader, ordered_loader
from popos_cli.errors import PoposError, UsageError
from popos_cli.prepare.synthetic import prepare_synthetic
from popos_cli.processes.world import World
from popos_cli.train.build import (
    build_info,
    build_optimiser,
    faces_a_step,
    loader_processes,
    rate_factor,
    scaled_rate,
    training_crops,
    training_loader,
    validation_loader,
)
from popos_cli.train.flat import lay_out
from popos_cli.train.settings import (
    AugmentSettings,
    CodecSettings,
    ModelSettings,
    ScheduleSettings,
    TrainSettings,
)


def factor_at(steps_per_epoch=50, **schedule):
    """step -> factor, of a training whose batch size stays."""
    factor = rate_factor(ScheduleSettings(**schedule), steps_per_epoch)
    return lambda step: factor(step / steps_per_epoch, step)


def test_cosine_rises_through_the_warmup_and_ends_near_zero():
    factor = factor_at(epochs=10, warmup=2)
    rising = [factor(step) for step in range(100)]
    falling = [factor(step) for step in range(100, 500)]
    assert rising == sorted(rising) and 0 < rising[0] < 0.02
    assert falling == sorted(falling, reverse=True)
    assert falling[0] == pytest.approx(1, abs=0.01) and falling[-1] < 1e-4


def test_step_divides_by_ten_at_each_milestone():
    factor = factor_at(10, epochs=10, warmup=0, shape="step", milestones=(0.5, 0.8))
    assert [factor(s) for s in (0, 49, 50, 79, 80, 99)] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def test_a_milestone_is_met_at_the_very_step():
    """40 of 60 epochs: a rounding error of the place would have the rate fall a step too late."""
    factor = factor_at(7, epochs=60, warmup=0, shape="step", milestones=(40 / 60, 55 / 60))
    assert (factor(279), factor(280)) == pytest.approx((1, 0.1))


def test_a_long_warmup_is_counted_in_steps_and_the_first_fall_does_not_wait_for_it():
    """mmcv's: warm-up multiplies the rate that the epoch has."""
    factor = factor_at(10, epochs=10, warmup_steps=60, shape="step", milestones=(0.5, 0.8))
    assert factor(29) == pytest.approx(30 / 61)
    assert factor(49) == pytest.approx(50 / 61)
    assert factor(50) == pytest.approx(0.1 * 51 / 61)
    assert factor(70) == pytest.approx(0.1)


def test_cosine_ends_at_its_floor():
    factor = factor_at(epochs=10, warmup=1, floor=0.005)
    assert factor(499) == pytest.approx(0.005, abs=1e-4)
    assert factor(50) == pytest.approx(1, abs=1e-2)


@pytest.mark.parametrize("shape", ["cosine", "step"])
@pytest.mark.parametrize("warmup", [{"warmup": 0}, {"warmup": 4}, {"warmup_steps": 300}])
@pytest.mark.parametrize("other", [10, 25, 100, 200])
def test_another_batch_size_moves_no_place_of_the_schedule(shape, warmup, other):
    """At every epoch of a run whose batches change there, with the steps that it has taken by then."""
    settings = ScheduleSettings(epochs=10, shape=shape, **warmup)
    before, after = rate_factor(settings, 50), rate_factor(settings, other)
    for epoch in (1, 3, 5, 6.5, 8, 10):
        taken = round(50 * epoch)
        assert after(epoch, taken) == pytest.approx(before(epoch, taken), abs=0.05)


def test_the_rate_grows_with_the_root_of_the_batch():
    def rate(**values):
        return scaled_rate(ScheduleSettings(learning_rate=1e-3, **values))

    assert rate(batch_size=32) == pytest.approx(1e-3)
    assert rate(batch_size=128) == pytest.approx(2e-3)
    assert rate(batch_size=128, rate_batch=0) == pytest.approx(1e-3)
    assert rate(batch_size=64, rate_batch=256) == pytest.approx(5e-4)


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_only_convolutions_decay(name):
    """Adam adds the decay to the gradient, AdamW shrinks the weight beside it: one step tells."""
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 1, 1), torch.nn.BatchNorm2d(1))
    for parameter in model.parameters():
        torch.nn.init.constant_(parameter, 1.0)
    schedule = ScheduleSettings(optimiser=name, learning_rate=0.1, weight_decay=0.5)
    flat = lay_out(model)
    optimiser = build_optimiser(TrainSettings(dataset="synthetic", schedule=schedule), flat)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    for row in (flat.decayed, flat.undecayed):
        row.gather_gradients()
    optimiser.step()
    weight, *others = (p.item() for p in model.parameters())
    assert weight == pytest.approx(0.9 if name == "adam" else 0.95, abs=1e-6)
    assert others == [1.0, 1.0, 1.0]


def test_batches_that_do_not_divide_are_refused_with_one_that_does():
    def step(faces, processes, **values):
        return faces_a_step(ScheduleSettings(**values), faces, processes)

    assert step(1000, 4, batch_size=32) == 32
    assert step(1000, 2, batch_size=32, accumulate=4) == 32
    assert step(21, 4, batch_size=32) == 20  # a small dataset: the most that divides
    with pytest.raises(PoposError) as caught:
        step(1000, 3, batch_size=32)
    assert "Take 30" in caught.value.hint
    with pytest.raises(PoposError, match="too few"):
        step(3, 4, batch_size=32)


def test_gpus_that_are_not_there_are_refused_with_their_number():
    there = torch.cuda.device_count()
    with pytest.raises(PoposError, match=rf"this machine has {there} usable GPU"):
        pick_device(there + 1)
    assert pick_device(0).type == "cpu"


def test_precision_is_what_was_asked_for():
    assert autocast_dtype("fp32", torch.device("cpu")) is None
    assert autocast_dtype("bf16", torch.device("cpu")) is torch.bfloat16
    assert autocast_dtype("fp16", torch.device("cpu")) is torch.float16


def test_images_become_floats_from_zero_to_one():
    images = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 3, 1, 1).expand(2, 3, 4, 4)
    batch = to_model_input(images, torch.device("cpu"))
    assert batch.dtype == torch.float32
    assert torch.allclose(batch[1, :, 2, 3], torch.tensor([0, 0.2, 1.0]))


def test_images_get_their_colours_whatever_their_company():
    """Seven pictures are worked on in parts; each is what `apply_colours` makes of it alone, bit for bit."""
    rng = np.random.default_rng(0)
    augment = Augment(brightness=0.4, contrast=0.4, saturation=0.4, grey=0.3)
    looks = torch.from_numpy(np.array([augment.look(64, rng) for _ in range(7)]))
    images = torch.from_numpy(rng.integers(0, 256, (7, 3, 64, 64), dtype=np.uint8))
    batch = to_model_input(images, torch.device("cpu"), looks)
    assert batch.is_contiguous(memory_format=torch.channels_last)
    for n in range(7):
        assert torch.equal(batch[n], apply_colours(images[n : n + 1] / 255, looks[n : n + 1])[0])


def test_loader_processes_are_those_asked_for_or_what_suits_the_machine(monkeypatch):
    cpu = TrainSettings(dataset="synthetic", gpus=0)
    assert [loader_processes(cpu, cached) for cached in (True, False)] == [0, 2]
    assert loader_processes(cpu.model_copy(update={"workers": 3}), True) == 3
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr("os.cpu_count", lambda: 16)
    gpu = TrainSettings(dataset="synthetic")
    assert loader_processes(gpu, True) == 8
    assert loader_processes(gpu, True, World(2, 4, 2, 4)) == 4
    assert loader_processes(gpu.model_copy(update={"workers": 0}), True) == 0


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
    def crops(padding, scale, clip=2.0):
        model, augment = ModelSettings(padding=padding), AugmentSettings(scale=scale, scale_clip=clip)
        return training_crops(TrainSettings(dataset="synthetic", model=model, augment=augment), cached)

    assert crops(1.25, 0.125) is not None
    assert crops(1.7, 0.0) is not None
    assert crops(1.8, 0.0) is None
    assert crops(1.25, 0.25) is None
    assert crops(1.25, 0.25, clip=1.0) is not None


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


@pytest.mark.parametrize(
    ("resolution", "sigma", "right"), [(4, 4.0, True), (4, 4.5, False), (64, 65.0, False)]
)
def test_a_gaussian_wider_than_its_heatmap_is_refused(tmp_path, resolution, sigma, right):
    index = prepare_synthetic(tmp_path / "faces", 2, SCHEMES["300w"], seed=0)
    settings = TrainSettings(
        dataset="synthetic", model=ModelSettings(resolution=resolution), codec=CodecSettings(sigma=sigma)
    )
    if right:
        assert build_info(settings, index).codec.sigma == sigma
    else:
        with pytest.raises(UsageError, match="wider than the heatmap"):
            build_info(settings, index)
