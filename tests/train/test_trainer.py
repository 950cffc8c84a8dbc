"""Steps that do not count, validations that measure nothing, and what a checkpoint never holds."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from popos_cli.core.schemes import SCHEMES
from popos_cli.errors import PoposError
from popos_cli.prepare.synthetic import prepare_synthetic
from popos_cli.train.checkpoint import load_state
from popos_cli.train.runlog import Silent, read_rows
from popos_cli.train.settings import TrainSettings
from popos_cli.train.trainer import Trainer
from popos_cli.weights.format import read_info


@pytest.fixture
def index(tmp_path, monkeypatch):
    monkeypatch.setenv("POPOS_HOME", str(tmp_path / "home"))
    return prepare_synthetic(tmp_path / "photos", 4, SCHEMES["300w"], seed=0, val_fraction=0.25)


@pytest.fixture
def run(tmp_path):
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


def trainer(index, run, schedule=None, **given):
    schedule = {"batch_size": 3, "epochs": 4, **(schedule or {})}
    given = {"gpus": 0, "workers": 0, "model": {"resolution": 4}, **given}
    return Trainer(TrainSettings(dataset="synthetic", schedule=schedule, **given), index, None, run, Silent())


def test_a_step_whose_gradient_overflows_moves_nothing(index, run):
    """Neither weights nor average nor schedule, which move again with the next step."""
    training = trainer(index, run, precision="fp16")
    (batch,) = training.loader

    def step(scale):
        training.scaler.load_state_dict({**training.scaler.state_dict(), "scale": scale})
        training.train_step(batch, training.codec.within_reach(batch["points"]) / 200)
        training.step += 1
        training.seen += 3
        models = (training.model, training.average.module)
        weights = [torch.cat([p.detach().flatten() for p in model.parameters()]) for model in models]
        return weights, training.rate, training.epochs_done

    first, skipped, again = step(2.0**16), step(2.0**100), step(2.0**4)
    assert all(map(torch.equal, first[0], skipped[0])) and first[1:] == skipped[1:]
    assert not any(map(torch.equal, first[0], again[0])) and again[2] == first[2] + 1


def test_parts_of_a_step_add_up_to_the_whole(index, run):
    """accumulate = 3: the same gradient, up to the order of sums, where batch norms do not see the parts."""
    gradients = []
    for accumulate in (1, 3):
        schedule = {"accumulate": accumulate, "freeze_batch_norm": True}
        training = trainer(index, run, schedule=schedule, precision="fp32")
        (batch,) = training.loader
        losses = training.train_step(batch, training.codec.within_reach(batch["points"]) / 200)
        grads = [p.grad.flatten() for p in training.model.parameters() if p.grad is not None]
        gradients.append((torch.cat(grads), torch.tensor(losses)))
    for whole, parts in zip(*gradients, strict=True):
        torch.testing.assert_close(parts, whole, rtol=1e-3, atol=1e-6 * float(whole.abs().max()))


def test_a_validation_that_measures_nothing_loses_nothing(index, run):
    """Every epoch is trained, noted and saved; the weights' metadata has no NME."""
    points = index.points.copy()
    points[index.split == "val", 0] = 1e200
    with np.errstate(over="ignore"):
        best = trainer(replace(index, points=points), run, schedule={"epochs": 2}).fit()
    assert best == math.inf
    assert "val_nme" not in read_info(run / "best.safetensors").training
    assert [row["epoch"] for row in read_rows(run)] == [1, 2]


def test_validation_faces_that_cannot_be_measured_are_refused(index, run):
    points = index.points.copy()
    points[index.split == "val"] = np.nan
    with pytest.raises(PoposError, match="no validation face can be measured"):
        trainer(replace(index, points=points), run)


def test_a_checkpoint_never_holds_a_weight_that_is_not_finite(index, run):
    training = trainer(index, run)
    training.step = 1
    training.save()
    training.step = 2
    next(training.model.parameters()).data[0, 0, 0, 0] = float("nan")
    with pytest.raises(PoposError, match="not finite after step 2"):
        training.save()
    found = {}
    assert load_state(run, found.update) == []
    assert found["step"] == 1
