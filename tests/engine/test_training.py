"""The averaged weights, and what a checkpoint never holds."""

import pytest
import torch
from torch import nn

from popos_cli.core.schemes import SCHEMES
from popos_cli.data.benchmarks.synthetic import prepare_synthetic
from popos_cli.engine.checkpoint import load_state
from popos_cli.engine.flat import lay_out
from popos_cli.engine.training import Average, begin
from popos_cli.errors import PoposError
from popos_cli.settings.schema import TrainSettings


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


@pytest.mark.parametrize("decay", [0.0, 0.998])
def test_an_average_begins_with_the_first_step(decay):
    """Not with the random start; without decay it is the model."""
    model = nn.Linear(3, 2)
    average = Average(model, lay_out(model), decay)
    for _ in range(1 if decay else 3):
        nn.init.normal_(model.weight)
        average.update_parameters(model)
    assert torch.equal(average.module.weight, model.weight)


def test_a_checkpoint_never_holds_a_weight_that_is_not_finite(tmp_path, monkeypatch):
    monkeypatch.setenv("POPOS_HOME", str(tmp_path / "home"))
    index = prepare_synthetic(tmp_path / "photos", 4, SCHEMES["300w"], seed=0, val_fraction=0.25)
    settings = TrainSettings(dataset="synthetic", gpus=0, model={"resolution": 4})
    training, run = begin(settings, index, None, 1), tmp_path / "run"
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
