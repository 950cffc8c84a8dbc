"""A loss that is no number stops training, and leaves what is needed to find out why."""

import pytest
import torch

from popos_cli.core.schemes import SCHEMES
from popos_cli.errors import PoposError
from popos_cli.prepare.synthetic import prepare_synthetic
from popos_cli.train.nonfinite import refuse_nonfinite_loss


@pytest.fixture
def index(tmp_path, monkeypatch):
    monkeypatch.setenv("POPOS_HOME", str(tmp_path / "home"))
    return prepare_synthetic(tmp_path / "photos", 8, SCHEMES["300w"], seed=0, val_fraction=0.25)


@pytest.fixture
def refuse(index, tmp_path):
    """Calls it for a batch of faces, of which the last ones have `heatmaps`; returns the message."""

    def call(heatmaps, faces=(3, 1, 0), loss=float("nan")):
        batch = {"face": torch.tensor(faces), "points": torch.zeros(len(faces), 68, 2)}
        part, model = batch["face"][-len(heatmaps) :], torch.nn.Linear(2, 1)
        losses = {"heatmap": loss, "points": 0.5}
        with pytest.raises(PoposError) as caught:
            refuse_nonfinite_loss(losses, heatmaps, part, batch, index, model, 41, tmp_path)
        return caught.value.message

    return call


def test_a_finite_loss_is_none_of_its_business(index, tmp_path):
    refuse_nonfinite_loss({"heatmap": 1.0}, None, None, {}, index, torch.nn.Linear(1, 1), 41, tmp_path)
    assert not (tmp_path / "nonfinite.pt").exists()


def test_the_picture_at_fault_is_named_and_the_batch_kept(index, refuse, tmp_path):
    heatmaps = torch.zeros(3, 68, 4, 4)
    heatmaps[1, 5, 2, 2] = float("inf")
    message = refuse(heatmaps)
    assert "step 42" in message and "heatmap nan, points 0.5" in message
    assert [str(index.image[n]) in message for n in (3, 1, 0)] == [False, True, False]
    kept = torch.load(tmp_path / "nonfinite.pt", weights_only=True)
    assert kept["images"] == [str(index.image[n]) for n in (3, 1, 0)]
    assert kept["batch"]["points"].shape == (3, 68, 2)
    torch.nn.Linear(2, 1).load_state_dict(kept["model"])
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["nonfinite.pt"]


@pytest.mark.parametrize("value", [0.0, float("nan")])
def test_where_no_picture_stands_out_all_of_the_part_are_named(index, refuse, value):
    message = refuse(torch.full((2, 68, 4, 4), value))  # the last two of three, as with accumulate
    assert [str(index.image[n]) in message for n in (3, 1, 0)] == [False, True, True]


def test_a_batch_of_many_names_some(refuse):
    assert "and 2 more" in refuse(torch.full((6, 1, 1, 1), float("nan")), tuple(range(6)))
