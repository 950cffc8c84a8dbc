import pytest

from popos_cli.errors import PoposError
from popos_cli.train import run
from popos_cli.train.settings import LossSettings, TrainSettings


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"tensorboard": True}, "tensorboard = 1 needs the package tensorboard"),
        ({"loss": LossSettings(sinkhorn=0.5)}, "loss.sinkhorn = 0.5 needs the package geomloss"),
    ],
)
def test_a_package_that_training_would_miss(settings, words, monkeypatch):
    monkeypatch.setattr(run, "find_spec", lambda name: None)
    with pytest.raises(PoposError, match=words) as caught:
        run.run_training(TrainSettings(dataset="mine", **settings), run.RunOptions(), None)
    assert "pip install 'popos-cli[" in caught.value.hint
