"""What settings become."""

import pytest
import torch
from torch import nn

from popos_cli.core.codec import Codec
from popos_cli.core.device import autocast_dtype, pick_device
from popos_cli.core.schemes import SCHEMES
from popos_cli.data.augment import Augment
from popos_cli.data.crops import cache_crops
from popos_cli.data.loader import evaluation_loader
from popos_cli.errors import PoposError, UsageError
from popos_cli.prepare.synthetic import prepare_synthetic
from popos_cli.processes.world import World
from popos_cli.train.build import (
    Average,
    build_info,
    build_optimiser,
    freeze_batch_norms,
    global_batch_size,
    loader_processes,
    rate_factor,
    scaled_rate,
    training_crops,
    training_loader,
    validation_loader,
)
from popos_cli.train.settings import CodecSettings, ModelSettings, ScheduleSettings, TrainSettings


def factor_at(steps_per_epoch=50, **schedule):
    """step -> factor, of a training whose batch size stays."""
    settings = ScheduleSettings(**schedule)
    return lambda step: rate_factor(settings, steps_per_epoch, step / steps_per_epoch, step)


def test_cosine_rises_through_the_warmup_and_ends_near_zero_or_at_its_floor():
    factor = factor_at(epochs=10, warmup=2)
    rising = [factor(step) for step in range(100)]
    falling = [factor(step) for step in range(100, 500)]
    assert rising == sorted(rising) and 0 < rising[0] < 0.02
    assert falling == sorted(falling, reverse=True)
    assert falling[0] == pytest.approx(1, abs=0.01) and falling[-1] < 1e-4
    assert factor_at(epochs=10, warmup=1, floor=0.005)(499) == pytest.approx(0.005, abs=1e-4)


@pytest.mark.parametrize(
    ("steps_per_epoch", "schedule", "expected"),
    [
        (
            10,
            {"epochs": 10, "warmup": 0, "milestones": (0.5, 0.8)},
            {0: 1, 49: 1, 50: 0.1, 79: 0.1, 80: 0.01, 99: 0.01},
        ),
        # A rounding error in 40 of 60 epochs would have the rate fall a step too late.
        (7, {"epochs": 60, "warmup": 0, "milestones": (40 / 60, 55 / 60)}, {279: 1, 280: 0.1}),
        # As in mmcv, a long warm-up multiplies the rate that the epoch has.
        (
            10,
            {"epochs": 10, "warmup_steps": 60, "milestones": (0.5, 0.8)},
            {29: 30 / 61, 49: 50 / 61, 50: 0.1 * 51 / 61, 70: 0.1},
        ),
    ],
)
def test_the_rate_is_divided_by_ten_at_each_milestone(steps_per_epoch, schedule, expected):
    factor = factor_at(steps_per_epoch, shape="step", **schedule)
    assert {step: factor(step) for step in expected} == pytest.approx(expected)


@pytest.mark.parametrize("shape", ["cosine", "step"])
@pytest.mark.parametrize("warmup", [{"warmup": 0}, {"warmup": 4}, {"warmup_steps": 300}])
@pytest.mark.parametrize("other", [10, 200])
def test_another_batch_size_does_not_move_the_schedule(shape, warmup, other):
    """At every epoch of a run whose batch size changes there, with the steps that it has taken by then."""
    settings = ScheduleSettings(epochs=10, shape=shape, **warmup)
    for epoch in (1, 3, 5, 6.5, 8, 10):
        before, after = (rate_factor(settings, steps, epoch, round(50 * epoch)) for steps in (50, other))
        assert after == pytest.approx(before, abs=0.05)


@pytest.mark.parametrize(
    ("given", "expected"),
    [({}, 1e-3), ({"batch_size": 128}, 2e-3), ({"batch_size": 128, "rate_batch": 0}, 1e-3),
     ({"batch_size": 64, "rate_batch": 256}, 5e-4)],
)  # fmt: skip
def test_the_rate_grows_with_the_root_of_the_batch(given, expected):
    assert scaled_rate(ScheduleSettings(learning_rate=1e-3, **given)) == pytest.approx(expected)


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_only_convolutions_decay(name):
    """Adam adds the decay to the gradient, AdamW shrinks the weight beside it: one step shows which."""
    model = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1))
    for parameter in model.parameters():
        nn.init.constant_(parameter, 1.0)
        parameter.grad = torch.zeros_like(parameter)
    schedule = ScheduleSettings(optimiser=name, learning_rate=0.1, weight_decay=0.5)
    build_optimiser(schedule, model).step()
    weight, *others = (p.item() for p in model.parameters())
    assert weight == pytest.approx(0.9 if name == "adam" else 0.95, abs=1e-6)
    assert others == [1.0, 1.0, 1.0]


def test_frozen_batch_norms_are_not_trained():
    model = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1))
    freeze_batch_norms(model)
    trained = [
        p for group in build_optimiser(ScheduleSettings(), model).param_groups for p in group["params"]
    ]
    assert [id(p) for p in trained] == [id(p) for p in model[0].parameters()]
    assert not model[1].training


def test_an_average_follows_its_model_ever_more_slowly():
    """By the formula in double precision: the first weights, then decays of 2/11, 3/12, ... to 0.5."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).to(memory_format=torch.channels_last)
    average = Average(model, 0.5)
    expected = None
    for step in range(20):
        for tensor in model.state_dict().values():
            tensor.copy_(torch.randn(tensor.shape)) if tensor.is_floating_point() else tensor.add_(1)
        now = {name: tensor.double() for name, tensor in model.state_dict().items()}
        decay = min(0.5, (1 + step) / (10 + step))
        expected = expected or now
        expected = {name: decay * expected[name] + (1 - decay) * now[name] for name in now}
        average.update_parameters(model)
    found = average.module.state_dict()
    assert found.pop("1.num_batches_tracked") == 20  # a count is no mean
    for name, tensor in found.items():
        torch.testing.assert_close(tensor.double(), expected[name], rtol=0, atol=1e-6)


def test_an_average_without_decay_is_the_model_and_continues_from_its_state():
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    none, first, second = (Average(model, decay) for decay in (0.0, 0.998, 0.998))
    for step in range(6):
        if step == 3:
            second.load_state_dict(first.state_dict())
        nn.init.normal_(model.weight)
        for average in (none, first, second)[: 3 if step >= 3 else 2]:
            average.update_parameters(model)
        assert torch.equal(none.module.weight, model.weight)
    assert torch.equal(first.module.weight, second.module.weight)
    assert not torch.equal(first.module.weight, model.weight)


def test_batches_that_do_not_divide_are_refused_with_one_that_does():
    def size(faces, processes, **values):
        return global_batch_size(ScheduleSettings(**values), faces, processes)

    assert size(1000, 4, batch_size=32) == 32
    assert size(1000, 2, batch_size=32, accumulate=4) == 32
    assert size(21, 4, batch_size=32) == 20  # a small dataset: the most that divides
    with pytest.raises(PoposError) as caught:
        size(1000, 3, batch_size=32)
    assert "Take 30" in caught.value.hint
    with pytest.raises(PoposError, match="too few"):
        size(3, 4, batch_size=32)


def test_gpus_that_are_not_there_are_refused_with_their_number():
    there = torch.cuda.device_count()
    with pytest.raises(PoposError, match=rf"this machine has {there} usable GPU"):
        pick_device(there + 1)
    assert pick_device(0).type == "cpu"


@pytest.mark.parametrize(("flags", "expected"), [
    ("flags : fpu avx512f avx512_bf16 sse", torch.bfloat16), ("flags : amx_bf16", torch.bfloat16),
    ("flags : fpu avx2", None), (None, None),
])  # fmt: skip
def test_precision_follows_the_instruction_set(monkeypatch, tmp_path, flags, expected):
    if flags:  # else as on macOS and Windows
        (tmp_path / "cpuinfo").write_text(flags)
    monkeypatch.setattr("popos_cli.core.device.Path", lambda _: tmp_path / "cpuinfo")
    assert autocast_dtype("auto", torch.device("cpu")) is expected
    named = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
    assert {name: autocast_dtype(name, torch.device("cpu")) for name in named} == named


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


@pytest.mark.parametrize(
    ("padding", "scale", "clip", "used"),
    [(1.25, 0.125, 2.0, True), (1.7, 0.0, 2.0, True), (1.25, 0.25, 1.0, True),
     (1.8, 0.0, 2.0, False), (1.25, 0.25, 2.0, False)],
)  # fmt: skip
def test_crops_that_would_show_too_little_are_not_used(cached, padding, scale, clip, used):
    model, augment = ModelSettings(padding=padding), Augment(scale=scale, scale_clip=clip)
    settings = TrainSettings(dataset="synthetic", model=model, augment=augment)
    assert (training_crops(settings, cached) is not None) == used


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
