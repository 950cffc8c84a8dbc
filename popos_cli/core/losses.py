"""Training losses; each is a mean, so that its size does not depend on batch or resolution."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def heatmap_mse(predicted: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Mean squared error of heatmaps (N, K, H, W) over the landmarks of weight (N, K) above 0.

    mmpose's JointsMSELoss with `use_target_weight`, save that weightless landmarks do not count
    in the mean.
    """
    error = (predicted - target).square().mean(dim=(2, 3))
    return (error * weight).sum() / weight.sum().clamp(min=1)


def points_smooth_l1(predicted: Tensor, target: Tensor, weight: Tensor, beta: float) -> Tensor:
    """Smooth L1 (Huber over `beta`) of points (N, K, 2) in heatmap pixels, mean over x and y.

    Quadratic within `beta` heatmap pixels, linear beyond (Girshick 2015, eq. 3).
    """
    error = F.smooth_l1_loss(predicted, target, reduction="none", beta=beta).mean(dim=2)
    return (error * weight).sum() / weight.sum().clamp(min=1)
