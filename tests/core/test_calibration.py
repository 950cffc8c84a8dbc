"""Calibration: fitted to errors of a known distribution, and used by the codec."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from popos_cli.bench.decoders import draw_points, make_maps
from popos_cli.core.calibration import FEATURES, Calibration, fit_calibration
from popos_cli.core.codec import Codec
from popos_cli.core.metrics import uncertainty_quality

PAGE = Path(__file__).parents[2] / "docs/how-to/decoder.md"
K = 7


def draw(faces, seed):
    """Features (N, K, 5), errors (N, K) drawn as a Calibration expects them, and those expectations."""
    rng = torch.Generator().manual_seed(seed)
    features = torch.randn(faces, K, len(FEATURES), generator=rng) + torch.randn(
        faces, 1, len(FEATURES), generator=rng
    )
    own = torch.tensor([0.5, -0.3, 0.0, 0.2, 0.1])
    face = torch.tensor([-0.2, 0.4, 0.0, 0.0, 0.3])
    expected = (torch.linspace(0, 2, K) + features @ own + features.mean(1, keepdim=True) @ face).exp()
    errors = expected / 2**0.5 * torch.randn(2, faces, K, generator=rng).square().sum(0).sqrt()
    return features, errors, expected


def test_a_known_calibration_is_recovered():
    features, errors, _ = draw(2000, seed=0)
    fitted = fit_calibration(features, errors)
    others, _, expected = draw(500, seed=1)
    ratio = (fitted(others) / expected).log()
    # Rare features outside the fitted range are clipped to it.
    assert ratio.abs().quantile(0.95) < 0.1
    assert ratio.mean().abs() < 0.02


@pytest.mark.parametrize("spread", [0.0, 1e-9, 1e-5])
def test_a_feature_that_hardly_varies_has_no_weight(spread):
    """A network that has learned next to nothing makes maps that are all alike."""
    features, errors, _ = draw(200, seed=3)
    features[..., 2] = 0.3 + spread * features[..., 2]
    fitted = fit_calibration(features, errors)
    assert fitted.own[2] == fitted.face[2] == 0
    assert abs(fitted.own[0] - 0.5) < 0.1


def test_unlabelled_landmarks_do_not_count():
    features, errors, _ = draw(400, seed=2)
    full = fit_calibration(features, errors)
    errors[::2, 0] = torch.nan
    errors[:, 1] = torch.nan
    part = fit_calibration(features, errors)
    assert np.isfinite(part.landmarks).all()
    assert part.landmarks[0] == pytest.approx(full.landmarks[0], abs=0.15)
    assert part.landmarks[2:] == pytest.approx(full.landmarks[2:], abs=0.1)
    assert part(features).isfinite().all()


@pytest.mark.parametrize(
    "field, value, message",
    [
        ("landmarks", (0.0, float("nan")), "finite"),
        ("landmarks", (float("-inf"), 0.0), "finite"),
        ("own", (0.0,) * 4, "rows of 5"),
        ("face", (0.0,) * 6, "rows of 5"),
        ("own", (0.0, 1e300, 0.0, 0.0, 0.0), "finite"),
        ("lowest", ((0.0,) * 5,), "rows of 5"),
        ("highest", ((0.0,) * 5, (0.0,) * 5, (0.0,) * 5), "rows of 5"),
        ("highest", ((0.0,) * 5, (-1.0,) * 5), "lowest"),
    ],
)
def test_numbers_that_cannot_be_a_calibration_are_refused(field, value, message):
    row = (0.0,) * 5
    right = {"landmarks": (1.0, 2.0), "own": row, "face": row, "lowest": (row, row), "highest": (row, row)}
    Calibration(**right)
    with pytest.raises(ValueError, match=message):
        Calibration(**{**right, field: value})


def test_features_are_clipped_to_the_fitted_range():
    features, errors, _ = draw(300, seed=3)
    fitted = fit_calibration(features, errors)
    assert torch.equal(fitted(features * 1e8), fitted(features * 1e10))


def test_the_codec_gives_the_calibrated_error():
    plain = Codec(16)
    points = draw_points(plain, 5 * K, seed=4).view(5, K, 2)
    maps = make_maps(plain, points.flatten(0, 1), "noise .02", seed=5).view(5, K, 16, 16)
    steady = Calibration(tuple(range(K)), (0,) * 5, (0,) * 5, ((-9,) * 5,) * 2, ((9,) * 5,) * 2)
    codec = Codec(16, calibration=steady)
    decoded = codec.decode(maps)
    torch.testing.assert_close(
        decoded.uncertainty, torch.arange(K).float().exp().expand(5, K).clamp(max=256 * 2**0.5)
    )
    assert torch.equal(decoded.points, plain.decode(maps).points)
    maps[0, 0], maps[0, 1, 3, 3] = 0.0, torch.nan  # no peak, not finite
    assert (codec.decode(maps).uncertainty[0, :2] == decoded.uncertainty.max()).all()
    assert codec.with_decoder("ml").calibration == steady
    assert codec.with_decoder("dark").calibration is None  # it was fitted to another decoder's errors
    with pytest.raises(ValueError, match="calibrated for 7"):
        codec.decode(maps[:, :3])


@pytest.mark.parametrize("decoder", ["ml", "dark"])
def test_any_map_has_finite_features(decoder):
    codec = Codec(8, decoder=decoder)
    odd = [torch.zeros(8, 8), torch.full((8, 8), torch.nan), -torch.ones(8, 8), torch.full((8, 8), 1e30)]
    _, features = codec.calibration_features(torch.stack([*odd, torch.randn(8, 8)])[None])
    assert features.shape == (1, 5, len(FEATURES))
    assert features.isfinite().all()


def test_quality_of_uncertainty():
    rng = np.random.default_rng(0)
    expected = rng.uniform(1, 5, (200, 9))
    truth = rng.uniform(0, 100, (200, 9, 2))
    points = truth + rng.standard_normal(truth.shape) * expected[..., None] / np.sqrt(2)
    truth[0, 0] = np.nan
    assert uncertainty_quality(points, truth, expected)["ratio"] == pytest.approx(1, abs=0.05)
    assert uncertainty_quality(points, truth, expected / 3)["ratio"] == pytest.approx(3, abs=0.15)
    errors = np.nan_to_num(np.linalg.norm(points - truth, axis=-1))
    assert uncertainty_quality(points, truth, errors**3)["spearman"] == pytest.approx(1)
    assert uncertainty_quality(points, truth, 9 - errors)["spearman"] == pytest.approx(-1)
    for unusable in ((np.full_like(truth, np.nan), expected), (truth, np.ones_like(expected))):
        assert uncertainty_quality(points, *unusable) == {"ratio": None, "spearman": None}


def test_the_recipe_for_another_network():
    """The code of docs/how-to/decoder.md, in inference mode and with heatmaps that require a gradient."""
    codec = Codec(64, alignment="mmpose")
    truth = draw_points(codec, 40 * K, seed=6).view(40, K, 2)
    maps = make_maps(codec, truth.flatten(0, 1), "noise .05", seed=7).view(40, K, 64, 64)
    program = "\n".join(re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL))
    names = {"heatmaps": maps.requires_grad_(), "true_points": truth}
    exec(program, names)
    assert (names["decoded"].points - truth).norm(dim=2).mean() < 1
    decoded = names["codec"].decode(maps)
    ratio = ((decoded.points - truth).norm(dim=2) / decoded.uncertainty).square().mean().sqrt()
    assert 0.9 < ratio < 1.1
    in_inference = {"heatmaps": maps.detach(), "true_points": truth}
    with torch.inference_mode():
        exec(program, in_inference)
    assert in_inference["calibration"] == names["calibration"]
    with pytest.raises(ValueError, match="labelled"):
        fit_calibration(names["features"], torch.full((40, K), torch.nan))
