"""`--batch-size auto`."""

import pytest
import torch

from popos_cli.core.schemes import SCHEMES
from popos_cli.errors import PoposError
from popos_cli.prepare.synthetic import prepare_synthetic
from popos_cli.train import autobatch
from popos_cli.train.autobatch import TRIAL, fitting_batch, kept_bytes
from popos_cli.train.build import build_info
from popos_cli.train.settings import ModelSettings, ScheduleSettings, TrainSettings

CPU = torch.device("cpu")


def settings(resolution=4, **schedule):
    return TrainSettings(
        dataset="synthetic", gpus=0, precision="fp32", model=ModelSettings(resolution=resolution),
        schedule=ScheduleSettings(**schedule),
    )  # fmt: skip


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POPOS_HOME", str(tmp_path_factory.mktemp("home")))
        folder = tmp_path_factory.mktemp("pictures")
        return prepare_synthetic(folder, 160, SCHEMES["300w"], seed=0, val_fraction=0.1)


def test_what_a_pass_keeps_is_counted_once():
    """A linear layer keeps its input, and ReLU its output, which the next layer keeps as well."""

    class Model(torch.nn.Module):
        def forward(self, x):
            x = x.mean((2, 3))  # (N, 3), keeps nothing but a size
            return self.last(torch.relu(self.first(x)))

    model = Model()
    model.first, model.last = torch.nn.Linear(3, 1000), torch.nn.Linear(1000, 1000)
    kept = kept_bytes(model, settings(), CPU)
    weights = 4 * 1000 * 1000  # the second layer's, for its input's gradient
    activations = 4 * TRIAL * 1000
    assert weights + activations <= kept < weights + 3 * activations


def test_the_batch_follows_the_free_memory(index, monkeypatch):
    def batch(gibibytes, processes=1, **schedule):
        monkeypatch.setattr(autobatch, "_free_bytes", lambda device, count: gibibytes * 2**30 / count)
        return fitting_batch(settings(**schedule), index, processes)

    sizes = [batch(g) for g in (0.03, 0.06, 100)]
    assert sizes == sorted(sizes) and sizes[0] < sizes[-1]
    assert sizes[-1] == 16  # an eighth of the 144 faces, at most, as a power of two
    assert batch(100, processes=2) == 16
    assert batch(0.03, accumulate=2) >= sizes[0]
    with pytest.raises(PoposError, match="not even one face"):
        batch(0.001)


def test_large_maps_cost_more(index):
    def kept(resolution):
        info = build_info(settings(resolution), index)
        return kept_bytes(info.build_model(68), settings(resolution), CPU)

    assert kept(16) > 2 * kept(4)
