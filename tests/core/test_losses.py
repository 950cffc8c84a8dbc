import pytest
import torch

from popos_cli.core.losses import heatmap_mse, points_smooth_l1


def test_heatmap_mse_on_known_maps():
    target = torch.zeros(1, 3, 2, 2)
    predicted = target.clone()
    predicted[0, 0] = 2.0  # mean square 4
    predicted[0, 1, 0, 0] = 2.0  # mean square 1
    predicted[0, 2] = 100.0  # weighs nothing
    weight = torch.tensor([[1.0, 1.0, 0.0]])
    assert heatmap_mse(predicted, target, weight).item() == pytest.approx(2.5)


def test_points_smooth_l1_on_known_points():
    target = torch.zeros(1, 2, 2)
    predicted = torch.tensor([[[0.5, 3.0], [9.0, 9.0]]])
    weight = torch.tensor([[1.0, 0.0]])
    # beta 1: 0.5^2 / 2 within, 3 - 1/2 beyond; the mean of x and y.
    expected = (0.125 + 2.5) / 2
    assert points_smooth_l1(predicted, target, weight, 1.0).item() == pytest.approx(expected)


@pytest.mark.parametrize("loss", ["heatmaps", "points"])
def test_weightless_landmarks_teach_nothing(loss):
    torch.manual_seed(0)
    shape = (2, 3, 4, 4) if loss == "heatmaps" else (2, 3, 2)
    predicted = torch.randn(shape, requires_grad=True)
    weight = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    arguments = (predicted, torch.zeros(shape), weight)
    value = heatmap_mse(*arguments) if loss == "heatmaps" else points_smooth_l1(*arguments, 1.0)
    (gradient,) = torch.autograd.grad(value, predicted)
    taught = gradient.abs().flatten(2).sum(2) > 0
    assert torch.equal(taught, weight > 0)


def test_a_batch_without_labels_is_zero_not_nan():
    maps, points, none = torch.rand(1, 2, 4, 4), torch.rand(1, 2, 2), torch.zeros(1, 2)
    assert heatmap_mse(maps, 0 * maps, none).item() == 0
    assert points_smooth_l1(points, 0 * points, none, 1.0).item() == 0


def test_the_mean_does_not_depend_on_the_batch():
    torch.manual_seed(0)
    predicted, target = torch.rand(2, 3, 4, 4), torch.rand(2, 3, 4, 4)
    one = heatmap_mse(predicted, target, torch.ones(2, 3))
    four = heatmap_mse(predicted.repeat(4, 1, 1, 1), target.repeat(4, 1, 1, 1), torch.ones(8, 3))
    torch.testing.assert_close(one, four)
