"""popos import-weights, and predicting with what it wrote."""

import math

import pytest
import torch
from layouts import checkpoint, mmpose_0, network, popos_fork

from popos_cli.weights.format import read_info


@pytest.fixture(scope="module")
def wflw(tmp_path_factory):
    """A WFLW checkpoint of mmpose's layout with random weights."""
    path = tmp_path_factory.mktemp("downloads") / "hrnetv2_w18_wflw.pth"
    torch.save(checkpoint(mmpose_0(network(98, 64))), path)
    return path


@pytest.fixture
def small(home, tmp_path):
    """A 4-pixel checkpoint of POPoS of 29 points, in the working folder."""
    torch.save(checkpoint(popos_fork(network(29, 4, popos=True))), tmp_path / "best.pth")
    return "best.pth"


def test_predict_with_an_imported_checkpoint(popos, wflw, astronaut):
    report = popos("import-weights", wflw, "--json").ok().json
    assert report["weights"] == str(wflw.with_suffix(".safetensors"))
    facts = {"scheme": "wflw", "landmarks": 98, "resolution": 64, "layout": "mmpose", "label_offset": [0, 0]}
    assert facts.items() <= report.items()
    assert report["codec"] == {"sigma": 2.0, "decoder": "two-hot", "alignment": "mmpose"}
    found = popos("predict", astronaut, "--weights", report["weights"], "--json").ok().json
    assert found["scheme"] == "wflw"
    (face,) = found["images"][0]["faces"]
    assert len(face["landmarks"]) == len(face["scores"]) == len(face["uncertainty"]) == 98
    assert all(math.isfinite(value) for point in face["landmarks"] for value in point)


def test_a_name_is_known_to_weights(popos, small, home, astronaut):
    result = popos("import-weights", small, "--name", "mine").ok()
    assert "29 points (cofw), 4-pixel heatmaps" in result.out
    assert (home / "weights/mine.safetensors").exists()
    found = popos("predict", astronaut, "--box", "180,60,100,120", "--weights", "mine", "--json").ok().json
    assert len(found["images"][0]["faces"][0]["landmarks"]) == 29


def test_flags_are_written_down(popos, small, home, tmp_path):
    flags = ("--sigma", "1.5", "--decoder", "dark", "--label-offset", "1,-1", "--scheme", "cofw")
    more = ("--resolution", "4", "--out", "deep/er.safetensors", "--name", "n")
    popos("import-weights", small, *flags, *more).ok()
    info = read_info(tmp_path / "deep/er.safetensors")
    assert (info.codec.sigma, info.codec.decoder, info.label_offset) == (1.5, "dark", (1.0, -1.0))
    assert (home / "weights/n.safetensors").read_bytes() == (tmp_path / "deep/er.safetensors").read_bytes()


def test_nothing_is_overwritten_without_force(popos, small, tmp_path):
    popos("import-weights", small).ok()
    before = (tmp_path / "best.safetensors").read_bytes()
    result = popos("import-weights", small, "--sigma", "1")
    assert result.code == 1 and "exists already" in result.err
    assert (tmp_path / "best.safetensors").read_bytes() == before
    popos("import-weights", small, "--sigma", "1", "--force").ok()
    assert read_info(tmp_path / "best.safetensors").codec.sigma == 1
