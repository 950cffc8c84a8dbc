"""Uncertainty that comes from errors on real faces: after training, and for any weights."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from popos_cli.weights.find import load
from popos_cli.weights.format import read_info, replace_info


def strip(path):
    """As weights were before calibration, or come from elsewhere."""
    replace_info(path, path, read_info(path).model_copy(update={"uncertainty": None}))


def test_training_leaves_calibrated_weights(shop):
    told = read_info(shop.run / "best.safetensors").uncertainty
    assert (told.dataset, told.faces, len(told.landmarks)) == ("synthetic", 6, 68)
    _, codec = load(str(shop.run))
    assert codec.calibration is not None
    assert (codec.decode(torch.rand(2, 68, 4, 4)).uncertainty > 0).all()


def test_calibrate_changes_nothing_but_the_uncertainty(popos, trained, tmp_path):
    plain = tmp_path / "plain.safetensors"
    plain.write_bytes((trained / "best.safetensors").read_bytes())
    strip(plain)
    result = popos(
        "calibrate", "--weights", plain, "--dataset", "synthetic", "--out", "new.safetensors", "--json"
    )
    assert result.ok().json == {
        "weights": "new.safetensors",
        "dataset": "synthetic",
        "split": "val",
        "faces": 6,
        "partial": None,
    }
    before, after = load_file(plain), load_file(tmp_path / "new.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[k], after[k]) and before[k].dtype == after[k].dtype for k in before)
    # The same faces and the same network as after training: the same calibration.
    assert read_info(tmp_path / "new.safetensors") == read_info(trained / "best.safetensors")
    with safe_open(plain, "pt") as file:
        assert json.loads(file.metadata()["popos"])["uncertainty"] is None


def test_evaluate_tells_whether_the_uncertainty_is_right(popos, trained, tmp_path):
    weights = tmp_path / "w.safetensors"
    weights.write_bytes((trained / "best.safetensors").read_bytes())
    evaluate = ("evaluate", "--dataset", "synthetic", "--weights", weights, "--json")
    told = popos(*evaluate).ok().json["results"][0]["uncertainty"]
    assert told["calibrated"] is True
    assert 0.5 < told["ratio"] < 2  # fitted to these very faces, and to bad photos of them
    strip(weights)
    told = popos(*evaluate).ok().json["results"][0]["uncertainty"]
    assert told["calibrated"] is False
    assert told["ratio"] > 2  # the covariance takes the network's errors for noise


def test_predict_says_that_weights_are_not_calibrated(popos, trained, astronaut, tmp_path):
    weights = tmp_path / "w.safetensors"
    weights.write_bytes((trained / "best.safetensors").read_bytes())
    assert "not calibrated" not in popos("predict", astronaut, "--weights", weights).ok().err
    strip(weights)
    assert "not calibrated" in popos("predict", astronaut, "--weights", weights, "--json").ok().err


@pytest.mark.parametrize(
    ("case", "told"),
    [
        ("exists", "new.safetensors exists already"),
        ("other scheme", "finds the points of scheme 'wflw', but dataset 'synthetic' has '300w'"),
        ("other count", "with 5 landmarks, but that of dataset 'synthetic' has 68"),
        ("train only", "neither validation nor test faces"),
        ("unlabelled", "none of its validation faces has a labelled point"),
    ],
)
def test_what_cannot_be_calibrated_leaves_nothing(popos, trained, home, tmp_path, case, told):
    weights, out = tmp_path / "w.safetensors", tmp_path / "new.safetensors"
    weights.write_bytes((trained / "best.safetensors").read_bytes())
    info = read_info(weights).model_copy(update={"uncertainty": None})
    if case == "exists":
        out.write_text("mine")
    if case == "other scheme":
        replace_info(weights, weights, info.model_copy(update={"scheme": "wflw"}))
    if case == "other count":
        five = {"name": "300w", "landmarks": 5, "eye_corners": [0, 1]}
        replace_info(weights, weights, info.model_copy(update={"scheme_definition": five}))
    path = home / "datasets/synthetic.npz"
    with np.load(path) as file:
        columns = dict(file)
    if case == "train only":
        columns["split"][:] = "train"
    if case == "unlabelled":
        columns["visible"][:] = 0
        columns["points"][:] = np.nan
    np.savez_compressed(path, **columns)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    result = popos("calibrate", "--weights", weights, "--dataset", "synthetic", "--out", out)
    assert result.code == 1
    assert len(result.errors) == 1 and told in result.errors[0]
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before
