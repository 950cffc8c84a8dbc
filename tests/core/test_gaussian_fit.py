"""The `ml` decoder: it is the least-squares fit, reaches the Cramer-Rao bound, and copes with broken values,
flat maps, torch.compile and gradients."""

import math

import numpy as np
import pytest
import torch

from popos_cli.bench.decoders import NOISE, cramer_rao, draw_points, make_maps, mean_length
from popos_cli.core.calibration import Calibration
from popos_cli.core.codec import Codec
from popos_cli.core.decoders.gaussian_fit import assess, locate, refine
from popos_cli.core.decoders.peak import peak

SIGMA = 2.0
SIZES = [64, 32, 16, 8, 4]


@pytest.mark.parametrize("size", SIZES)
def test_cramer_rao_by_its_definition(size):
    codec = Codec(size)
    points = draw_points(codec, 20, seed=4)
    y, x = np.mgrid[:size, :size].reshape(2, -1)
    for (px, py), covariance in zip(codec.to_heatmap(points), cramer_rao(codec, points, 0.02), strict=True):
        g = np.exp(-((x - px.item()) ** 2 + (y - py.item()) ** 2) / (2 * SIGMA**2))
        jacobian = np.stack([g * (x - px.item()) / SIGMA**2, g * (y - py.item()) / SIGMA**2, g])
        expected = 0.02**2 * np.linalg.inv(jacobian @ jacobian.T)[:2, :2] * (256 / size) ** 2
        np.testing.assert_allclose(covariance, expected, rtol=1e-6, atol=1e-9 * expected.max())


def test_mean_length_of_gaussian_errors():
    covariances = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[4.0, 0.0], [0.0, 0.0]]], dtype=torch.float64)
    expected = torch.tensor([math.sqrt(math.pi / 2), 2 * math.sqrt(2 / math.pi)], dtype=torch.float64)
    torch.testing.assert_close(mean_length(covariances), expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("defect", list(NOISE))
def test_ml_reaches_the_cramer_rao_bound_and_knows_its_error(size, defect):
    codec = Codec(size)
    points = draw_points(codec, 2048, seed=5)
    decoded = codec.decode(make_maps(codec, points, defect, seed=8)[None])
    error = (decoded.points[0] - points).norm(dim=1)
    assert error.mean() <= 1.05 * mean_length(cramer_rao(codec, points, NOISE[defect])).mean()
    assert (error / decoded.uncertainty[0]).square().mean().sqrt() == pytest.approx(1, abs=0.06)


@pytest.mark.parametrize("peak_height", [1.0, 0.4])
def test_ml_is_the_least_squares_fit(peak_height):
    """Against SciPy on whole 8x8 maps: point, peak height and covariance."""
    optimize = pytest.importorskip("scipy.optimize")
    codec, rng = Codec(8), torch.Generator().manual_seed(8)
    maps = peak_height * codec.encode(draw_points(codec, 20, seed=8)[None])[0]
    maps += 0.03 * torch.randn(maps.shape, generator=rng, dtype=maps.dtype)
    window, start = locate(maps, SIGMA)
    points = refine(window, start, SIGMA, steps=50)
    fit = assess(window, points, SIGMA)
    y, x = np.mgrid[:8, :8]
    for m, values in enumerate(maps.numpy()):

        def residual(p, values=values):
            return (p[0] * np.exp(-((x - p[1]) ** 2 + (y - p[2]) ** 2) / (2 * SIGMA**2)) - values).ravel()

        row, column = np.unravel_index(values.argmax(), values.shape)
        best = optimize.least_squares(residual, [values.max(), column, row], xtol=1e-14, gtol=1e-14)
        covariance = 2 * best.cost / (64 - 5) * np.linalg.inv(best.jac.T @ best.jac)
        np.testing.assert_allclose(points[:, m], best.x[1:], atol=1e-5)
        np.testing.assert_allclose(fit.amplitude[m], best.x[0], rtol=1e-5)
        np.testing.assert_allclose(fit.variance[:, m], np.diag(covariance)[1:], rtol=1e-3)


def test_locate_is_differentiable_and_reads_as_ml_does():
    codec = Codec(16, decoder="popos")
    maps = make_maps(codec, draw_points(codec, 4, seed=3), "noise .02", seed=16)
    maps = torch.cat([maps, torch.zeros(1, 16, 16)])[None].requires_grad_()
    points = codec.locate(maps)
    torch.testing.assert_close(codec.to_crop(points), codec.with_decoder("ml").decode(maps).points)
    (gradient,) = torch.autograd.grad(points.square().sum(), maps)
    assert torch.isfinite(gradient).all()
    assert (gradient[0, :4].abs().sum((1, 2)) > 0).all()


@pytest.mark.parametrize("defect", ["clean", "second mode", "blur"])
@pytest.mark.parametrize("size", [8, 16])
def test_ml_has_the_right_gradient(size, defect):
    """Against differences at every pixel: the maps with one pixel changed are decoded in one batch."""
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


@pytest.mark.parametrize("decoder", ["ml", "keyposs", "popos", "calibrated ml"])
def test_decoding_works_compiled_and_in_inference_mode(decoder):
    row, ends = (0.1,) * 5, ((-9.0,) * 5,) * 2
    calibration = Calibration((0.0,) * 20, row, row, ends, ((9.0,) * 5,) * 2)
    codec = Codec(8, decoder=decoder.removeprefix("calibrated "))
    if decoder == "calibrated ml":
        codec = Codec(8, calibration=calibration)
    maps = make_maps(codec, draw_points(codec, 20, seed=13), "second mode", seed=14)[None]
    expected = codec.decode(maps)
    compiled = torch.compile(codec.decode, backend="eager", fullgraph=True)(maps)
    torch.testing.assert_close(compiled.points, expected.points, atol=1e-3, rtol=0)
    torch.testing.assert_close(compiled.uncertainty, expected.uncertainty)
    with torch.inference_mode():
        assert torch.equal(codec.decode(maps).points, expected.points)


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
