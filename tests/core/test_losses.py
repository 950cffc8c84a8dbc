"""Training losses: known values, shares, gradients."""

import math

import numpy as np
import pytest
import torch

from popos_cli.core import losses
from popos_cli.core.codec import Codec

SIGMA = 1.5


def huber(predicted, target, share):
    return losses.heatmap_huber(predicted, target, share, 0.6)


def anchors(predicted, target, share):
    return losses.anchor_distances(predicted, target, share, SIGMA, 6)


def smooth_l1(predicted, target, share):
    return losses.points_smooth_l1(predicted[..., 0, :2], target[..., 0, :2], share, 0.1)


ALL = pytest.mark.parametrize(
    "loss",
    [losses.heatmap_mse, huber, losses.adaptive_wing, anchors, losses.sinkhorn, smooth_l1],
    ids=lambda loss: loss.__name__,
)


@pytest.fixture
def maps():
    """Targets (4, 3, 8, 8) and predictions near them."""
    torch.manual_seed(0)
    codec = Codec(8, 256, SIGMA)
    points = torch.rand(4, 3, 2) * 200 + 28
    predicted = codec.encode(points + torch.randn(4, 3, 2) * 10) * 0.9 + 0.02 * torch.rand(4, 3, 8, 8)
    return predicted, codec.encode(points)


def needs(loss):
    if loss is losses.sinkhorn:
        pytest.importorskip("geomloss")


def test_heatmap_mse_on_known_maps():
    target = torch.zeros(1, 3, 2, 2)
    predicted = target.clone()
    predicted[0, 0] = 2.0  # mean square 4
    predicted[0, 1, 0, 0] = 2.0  # mean square 1
    predicted[0, 2] = 100.0  # has no share
    share = torch.tensor([[0.5, 0.5, 0.0]])
    assert losses.heatmap_mse(predicted, target, share).item() == pytest.approx(2.5)


def test_huber_on_known_maps():
    predicted = torch.tensor([[[[0.5, 2.0]]]])
    # delta 0.6: 0.5^2 / 2 within, 0.6 (2 - 0.3) beyond.
    expected = (0.125 + 1.02) / 2
    found = losses.heatmap_huber(predicted, torch.zeros(1, 1, 1, 2), torch.ones(1, 1), 0.6)
    assert found.item() == pytest.approx(expected)


def test_adaptive_wing_is_the_papers():
    """Equation 5 and its constants A and C, written out for single numbers."""
    for y in (0.0, 0.3, 1.0):
        power = 2.1 - y
        a = 14 / (1 + 0.5**power) * power * 0.5 ** (power - 1)
        c = 0.5 * a - 14 * math.log(1 + 0.5**power)
        for p in (-1.0, 0.1, 0.4, 0.9, 2.5):
            error = abs(y - p)
            expected = 14 * math.log(1 + error**power) if error < 0.5 else a * error - c
            found = losses.adaptive_wing(
                torch.full((1, 1, 2, 2), p), torch.full((1, 1, 2, 2), y), torch.ones(1, 1)
            )
            assert found.item() == pytest.approx(expected, rel=1e-5), (y, p)


def test_anchor_distances_read_what_the_decoders_read():
    """Two clean maps 0.7 hm px apart: at every anchor the distances differ as the geometry says."""
    codec = Codec(16, 256, SIGMA)
    here, there = codec.to_crop(torch.tensor([[[6.2, 7.1]], [[6.9, 7.1]]])).split(1)
    predicted, target = codec.encode(here), codec.encode(there)
    top = predicted.flatten().topk(6).indices
    places = torch.stack([top % 16, top // 16], 1).float()
    apart = (
        torch.cdist(places, torch.tensor([[6.2, 7.1]])) - torch.cdist(places, torch.tensor([[6.9, 7.1]]))
    ).abs()
    expected = torch.where(apart < 1, apart.square() / 2, apart - 0.5).mean()
    found = losses.anchor_distances(predicted, target, torch.ones(1, 1), SIGMA, 6)
    assert found.item() == pytest.approx(expected.item(), rel=1e-4)


def test_sinkhorn_of_single_faces_is_their_squared_distance():
    """A cloud of one point: all its mass goes to the one other point, at |x - y|^2."""
    pytest.importorskip("geomloss")
    torch.manual_seed(0)
    predicted, target = torch.rand(1, 3, 4, 4), torch.rand(1, 3, 4, 4)
    share = torch.tensor([[0.2, 0.3, 0.5]])
    expected = ((predicted - target).square().sum((2, 3)) * share).sum()
    assert losses.sinkhorn(predicted, target, share).item() == pytest.approx(expected.item(), rel=1e-4)


def test_points_smooth_l1_on_known_points():
    target = torch.zeros(1, 2, 2)
    predicted = torch.tensor([[[0.5, 3.0], [9.0, 9.0]]])
    share = torch.tensor([[1.0, 0.0]])
    # beta 1: 0.5^2 / 2 within, 3 - 1/2 beyond; the mean of x and y.
    expected = (0.125 + 2.5) / 2
    assert losses.points_smooth_l1(predicted, target, share, 1.0).item() == pytest.approx(expected)


@ALL
def test_landmarks_without_a_share_do_not_count(maps, loss):
    needs(loss)
    predicted, target = maps[0].requires_grad_(), maps[1].clone()
    share = torch.ones(4, 3) / 10
    share[0, 1] = share[2] = 0.0
    target[share == 0] = 0.0  # what the codec gives for a landmark without a label
    (gradient,) = torch.autograd.grad(loss(predicted, target, share), predicted)
    assert torch.equal(gradient.abs().flatten(2).sum(2) > 0, share > 0)
    found = loss(predicted, target, torch.zeros(4, 3))
    assert found.item() == 0
    assert torch.autograd.grad(found, predicted)[0].abs().max() == 0


@ALL
def test_gradients_are_finite_on_odd_maps(loss):
    """Perfect, flat, negative and towering predictions, as a young network makes them."""
    needs(loss)
    target = Codec(8, 256, SIGMA).encode(torch.full((4, 1, 2), 127.5))
    predicted = torch.cat(
        [target[:1], torch.zeros(1, 1, 8, 8), -target[:1], 50 * target[:1]]
    ).requires_grad_()
    found = loss(predicted, target, torch.full((4, 1), 0.25))
    (gradient,) = torch.autograd.grad(found, predicted)
    assert math.isfinite(found.item())
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize(
    "loss",
    [losses.heatmap_mse, huber, losses.adaptive_wing, anchors, smooth_l1],
    ids=lambda loss: loss.__name__,
)
def test_parts_of_a_batch_add_up_to_the_whole(maps, loss):
    """What lets a batch lie on several devices; the Sinkhorn divergence alone needs its faces together."""
    predicted, target = maps
    share = torch.from_numpy(np.random.default_rng(0).dirichlet(np.ones(12)).reshape(4, 3)).float()
    parts = sum(loss(predicted[i : i + 1], target[i : i + 1], share[i : i + 1]) for i in range(4))
    torch.testing.assert_close(parts, loss(predicted, target, share))
