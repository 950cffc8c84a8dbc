"""A loss that is no number stops training, and leaves what is needed to find out why."""

import pytest
import torch

from popos_cli.core.schemes import SCHEMES
from popos_cli.errors import PoposError
from popos_cli.prepare.synthetic import prepare_synthetic
from popos_cli.train.nonfinite import refuse_unfinite


@pytest.fixture
def index(tmp_path, monkeypatch):
    monkeypatch.setenv("POPOS_HOME", str(tmp_path / "home"))
    return prepare_synthetic(tmp_path / "photos", 8, SCHEMES["300w"], seed=0, val_fraction=0.25)


def refuse(index, run, heatmaps, faces=(3, 1, 0), loss=float("nan")):
    batch = {"face": torch.tensor(faces), "image": torch.arange(3), "points": torch.zeros(3, 68, 2)}
    model = torch.nn.Linear(2, 1)
    refuse_unfinite({"heatmap": loss, "points": 0.5}, heatmaps, batch, index, model, 41, run)


def test_a_finite_loss_goes_on(index, tmp_path):
    refuse(index, tmp_path, torch.zeros(3, 68, 4, 4), loss=1.0)
    assert not (tmp_path / "nonfinite.pt").exists()


def test_the_picture_at_fault_is_named_and_the_batch_kept(index, tmp_path):
    heatmaps = torch.zeros(3, 68, 4, 4)
    heatmaps[1, 5, 2, 2] = float("inf")
    with pytest.raises(PoposError) as caught:
        refuse(index, tmp_path, heatmaps)
    message = caught.value.message
    assert "step 42" in message and "heatmap nan, points 0.5" in message
    assert str(index.image[1]) in message and str(index.image[3]) not in message
    assert str(tmp_path / "nonfinite.pt") in message
    kept = torch.load(tmp_path / "nonfinite.pt", weights_only=True)
    assert kept["images"] == [str(index.image[n]) for n in (3, 1, 0)]
    assert kept["batch"]["points"].shape == (3, 68, 2)
    again = torch.nn.Linear(2, 1)
    again.load_state_dict(kept["model"])
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["nonfinite.pt"]


def test_where_no_picture_stands_out_all_are_named(index, tmp_path):
    with pytest.raises(PoposError) as caught:
        refuse(index, tmp_path, torch.full((3, 68, 4, 4), float("nan")))
    assert all(str(index.image[n]) in caught.value.message for n in (3, 1, 0))
    # A part of the batch: which of its pictures cannot be told.
    with pytest.raises(PoposError, match=str(index.image[0])):
        refuse(index, tmp_path, torch.full((1, 68, 4, 4), float("nan")))


def test_a_batch_of_many_names_some(index, tmp_path):
    batch = {"face": torch.arange(6)}
    with pytest.raises(PoposError, match="and 2 more"):
        refuse_unfinite(
            {"heatmap": float("inf")}, torch.full((6, 1, 1, 1), float("nan")), batch, index,
            torch.nn.Linear(1, 1), 0, tmp_path,
        )  # fmt: skip
