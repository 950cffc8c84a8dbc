"""The default rule on synthetic heatmaps with known defects, and what it must stand: broken values,
flat maps, torch.compile, gradients."""

import pytest
import torch

from popos_cli.bench.trials import NOISE, cramer_rao, draw_points, make_maps, mean_length
from popos_cli.core.calibration import Calibration
from popos_cli.core.codec import Codec
from popos_cli.core.decoders import DECODERS, likelihood
from popos_cli.core.decoders.peak import peak

SIZES = [64, 32, 16, 8, 4]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("defect", list(NOISE))
def test_ml_has_the_mean_error_of_the_bound(size, defect):
    codec = Codec(size)
    points = draw_points(codec, 2048, seed=5)
    error = mean_error(codec, points, defect)
    limit = mean_length(cramer_rao(codec, points, NOISE[defect])).mean()
    assert error <= 1.05 * limit


# Crop pixels; the fit of one Gaussian alone gives .16/.46/1.4/4.2/23 on such maps.
@pytest.mark.parametrize(("size", "limit"), [(64, 0.15), (32, 0.5), (16, 1.6), (8, 4.8), (4, 0.5)])
def test_ml_sees_that_a_map_was_smoothed(size, limit):
    codec = Codec(size)
    assert mean_error(codec, draw_points(codec, 2048, seed=6), "blur") < limit


@pytest.mark.parametrize("size", SIZES)
def test_ml_sees_a_second_mode_better_than_any_published_rule(size):
    codec = Codec(size)
    points = draw_points(codec, 2048, seed=7)
    published = [d for d in DECODERS if d != "ml"]
    best = min(mean_error(codec.with_decoder(d), points, "second mode") for d in published)
    assert mean_error(codec, points, "second mode") < best


def mean_error(codec, points, defect):
    """Crop pixels, on float32 maps."""
    decoded = codec.decode(make_maps(codec, points, defect, seed=8)[None]).points[0]
    return float((decoded - points).norm(dim=1).mean())


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("defect", ["clean", "noise .02", "noise .05"])
def test_the_second_look_leaves_single_gaussians_alone(size, defect):
    codec = Codec(size)
    maps = make_maps(codec, draw_points(codec, 2048, seed=9), defect, seed=10)[None]
    alone = codec.to_crop(codec.locate(maps))
    assert (codec.decode(maps).points == alone).all(-1).float().mean() > 0.998


@pytest.mark.parametrize("size", [4, 8, 16, 32])
@pytest.mark.parametrize("defect", ["noise .05", "blur", "second mode"])
def test_looking_again_at_all_maps_gives_the_same(size, defect, monkeypatch):
    """What a GPU and torch.compile do, where the few that need it cannot be counted."""
    codec = Codec(size)
    maps = make_maps(codec, draw_points(codec, 300, seed=11), defect, seed=12)[None]
    chosen = codec.decode(maps).points
    monkeypatch.setattr(likelihood, "_suspects", lambda w, points, *rest: torch.arange(points.shape[1]))
    torch.testing.assert_close(codec.decode(maps).points, chosen, atol=1e-3, rtol=0)


@pytest.mark.parametrize("decoder", ["ml", "keyposs", "popos"])
def test_decoding_works_compiled_and_in_inference_mode(decoder):
    codec = Codec(8, decoder=decoder)
    maps = make_maps(codec, draw_points(codec, 20, seed=13), "second mode", seed=14)[None]
    expected = codec.decode(maps).points
    compiled = torch.compile(codec.decode, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(maps).points, expected, atol=1e-3, rtol=0)
    with torch.inference_mode():
        assert torch.equal(codec.decode(maps).points, expected)


def test_calibrated_decoding_works_compiled():
    calibration = Calibration((0.0,) * 20, (0.1,) * 5, (0.2,) * 5, ((-9.0,) * 5,) * 2, ((9.0,) * 5,) * 2)
    codec = Codec(8, calibration=calibration)
    maps = make_maps(codec, draw_points(codec, 20, seed=13), "noise .05", seed=14)[None]
    compiled = torch.compile(codec.decode, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(maps).uncertainty, codec.decode(maps).uncertainty)


@pytest.mark.parametrize("size", [(4, 4), (8, 8), (9, 11), (16, 16), (24, 24), (64, 48), (64, 64)])
def test_the_peak_is_the_first_maximum(size):
    rng = torch.Generator().manual_seed(17)
    maps = torch.randint(0, 5, (200, *size), generator=rng).float()  # many ties
    column, row, finite = peak(maps)
    assert torch.equal(row * size[1] + column, maps.flatten(1).argmax(1))
    assert finite.all()


@pytest.mark.parametrize("size", [8, 64])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_one_broken_value_costs_the_score_and_not_the_point(size, bad):
    codec = Codec(size)
    point = torch.tensor([[[100.0, 140.0]]])
    maps = codec.encode(point)
    maps[..., 1, 1] = bad
    decoded = codec.decode(maps)
    assert (decoded.points - point).abs().max() < 0.75 * 256 / size
    assert decoded.scores == 0


@pytest.mark.parametrize("decoder", ["ml", "popos"])
@pytest.mark.parametrize("size", SIZES)
def test_a_flat_map_scores_zero(decoder, size):
    decoded = Codec(size, decoder=decoder).decode(torch.full((1, 1, size, size), 0.7))
    assert decoded.scores == 0
    assert decoded.points.isfinite().all()


@pytest.mark.parametrize("defect", ["clean", "second mode", "blur"])
@pytest.mark.parametrize("size", [8, 16])
def test_ml_has_the_right_gradient(size, defect):
    """Against differences at every pixel: the maps with one pixel changed are decoded all at once."""
    codec = Codec(size)
    points = draw_points(codec, 3, seed=15)
    maps = make_maps(codec, points, defect, seed=16).double()
    rng = torch.Generator().manual_seed(18)
    noise = torch.randn(maps.shape, generator=rng, dtype=torch.float64)
    maps = (maps + 0.01 * noise)[None].requires_grad_()
    found = codec.decode(maps).points  # (1, 3, 2)
    change = 1e-6 * torch.eye(size * size, dtype=torch.float64).view(-1, 1, size, size)
    with torch.no_grad():
        up, down = (codec.decode(maps + sign * change).points for sign in (1, -1))
    for axis in range(2):
        (gradient,) = torch.autograd.grad(found[..., axis].sum(), maps, retain_graph=True)
        expected = ((up - down)[..., axis] / 2e-6).T.reshape(3, size, size)
        torch.testing.assert_close(gradient[0], expected, atol=1e-5, rtol=1e-3)
        assert gradient.abs().amax((-1, -2)).min() > 1e-2
