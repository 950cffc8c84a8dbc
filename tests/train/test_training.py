"""The averaged weights, steps that do not count, and what a checkpoint never holds."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from popos_cli.core.codec import Codec
from popos_cli.core.schemes import SCHEMES
from popos_cli.data.batches import TrainingBatches
from popos_cli.errors import PoposError
from popos_cli.prepare.synthetic import prepare_synthetic
from popos_cli.train.build import training_loader
from popos_cli.train.checkpoint import load_state
from popos_cli.train.flat import lay_out
from popos_cli.train.runlog import Silent, read_rows
from popos_cli.train.settings import TrainSettings
from popos_cli.train.trainer import fit, train_step
from popos_cli.train.training import Average, begin
from popos_cli.weights.format import read_info


def test_an_average_follows_its_model_ever_more_slowly():
    """By the formula in double precision: the first weights, then decays of 2/11, 3/12, ... to 0.5."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).to(memory_format=torch.channels_last)
    average = Average(model, lay_out(model), 0.5)
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


def test_an_average_goes_on_from_its_state():
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    flat = lay_out(model)
    first, second = Average(model, flat, 0.998), Average(model, flat, 0.998)
    for step in range(6):
        if step == 3:
            second.load_state_dict(first.state_dict())
        nn.init.normal_(model.weight)
        first.update_parameters(model)
        if step >= 3:
            second.update_parameters(model)
    assert torch.equal(first.module.weight, second.module.weight)
    assert not torch.equal(first.module.weight, model.weight)


@pytest.fixture
def index(tmp_path, monkeypatch):
    monkeypatch.setenv("POPOS_HOME", str(tmp_path / "home"))
    return prepare_synthetic(tmp_path / "photos", 4, SCHEMES["300w"], seed=0, val_fraction=0.25)


def small(**given):
    schedule = {"batch_size": 3, "epochs": 4, **given.pop("schedule", {})}
    given = {"gpus": 0, "workers": 0, "model": {"resolution": 4}, **given}
    return TrainSettings(dataset="synthetic", schedule=schedule, **given)


def test_a_step_whose_gradient_overflows_moves_nothing(index, tmp_path):
    """Neither weights nor average nor schedule, which go on with the next step."""
    settings = small(precision="fp16")
    faces = index.of_split("train")
    loader, batches = training_loader(settings, faces, Codec(4, sigma=1.0))
    training = begin(settings, index, None, batches)
    (batch,) = loader

    def step():
        train_step(training, batch, training.codec.within_reach(batch["points"]) / 200, faces, tmp_path)
        training.step += 1
        training.seen += 3
        weights = [row.whole.clone() for row in (training.flat.decayed, training.average.means.decayed)]
        return weights, training.rate, training.place

    first = step()
    training.scaler.load_state_dict({**training.scaler.state_dict(), "scale": 2.0**100})
    skipped = step()
    assert all(map(torch.equal, first[0], skipped[0])) and first[1:] == skipped[1:]
    training.scaler.load_state_dict({**training.scaler.state_dict(), "scale": 2.0**4})
    again = step()
    assert not any(map(torch.equal, first[0], again[0])) and again[2] == first[2] + 1


def test_a_validation_that_measures_nothing_loses_nothing(index, tmp_path):
    """Every epoch is trained, noted and saved; the weights say nothing of an NME."""
    points = index.points.copy()
    points[index.split == "val", 0] = 1e200
    run = tmp_path / "run"
    run.mkdir()
    with np.errstate(over="ignore"):
        best = fit(small(schedule={"epochs": 2}), replace(index, points=points), None, run, Silent())
    assert best == math.inf
    assert "val_nme" not in read_info(run / "best.safetensors").training
    assert [row["epoch"] for row in read_rows(run)] == [1, 2]


@pytest.mark.parametrize("decay", [0.0, 0.998])
def test_an_average_begins_with_the_first_step(decay):
    """Not with the random start; without decay it is the model."""
    model = nn.Linear(3, 2)
    average = Average(model, lay_out(model), decay)
    for _ in range(1 if decay else 3):
        nn.init.normal_(model.weight)
        average.update_parameters(model)
    assert torch.equal(average.module.weight, model.weight)


def test_a_checkpoint_never_holds_a_weight_that_is_not_finite(index, tmp_path):
    training, run = begin(small(), index, None, TrainingBatches(3, 1, 0)), tmp_path / "run"
    run.mkdir()
    training.step = 1
    training.save(run)
    training.step = 2
    next(training.model.parameters()).data[0, 0, 0, 0] = float("nan")
    with pytest.raises(PoposError, match="not finite after step 2"):
        training.save(run)
    found = {}
    assert load_state(run, found.update) is not None
    assert found["step"] == 1
