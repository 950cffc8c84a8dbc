"""Training losses. Each is a mean over landmarks, so that its size does not depend on batch or resolution.

share (N, K) is each landmark's weight in that mean: 0 for those that do not count. It adds up to 1 over a
whole batch, which may be computed in parts, and to the number of processes over a batch that these share.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

# Heights between which a distance is learned: outside, its derivative by the height has no bound.
LOWEST, HIGHEST = 0.01, 0.999


def heatmap_mse(predicted: Tensor, target: Tensor, share: Tensor) -> Tensor:
    """Mean squared error of heatmaps (N, K, H, W).

    mmpose's JointsMSELoss with `use_target_weight`, except that landmarks of weight 0 do not count in the
    mean.
    """
    return ((predicted - target).square().mean(dim=(2, 3)) * share).sum()


def heatmap_huber(predicted: Tensor, target: Tensor, share: Tensor, delta: float) -> Tensor:
    """Huber loss of heatmaps (N, K, H, W): e^2 / 2 up to |e| = delta, delta (|e| - delta / 2) beyond.

    The POPoS code uses it for COCO-WholeBody's faces, with a delta of 0.6.
    """
    error = F.huber_loss(predicted, target, reduction="none", delta=delta)
    return (error.mean(dim=(2, 3)) * share).sum()


def adaptive_wing(predicted: Tensor, target: Tensor, share: Tensor) -> Tensor:
    """Adaptive wing loss of heatmaps (N, K, H, W): Wang et al. 2019 (ICCV), equation 5, with their constants.

    For e = |y - p|: omega ln(1 + (e / epsilon)^(alpha - y)) below theta and its tangent beyond, so that
    pixels on the peak are learned more exactly than the many at 0. As in mmpose's AdaptiveWingLoss, the
    paper's weight map is left out.
    """
    alpha, omega, epsilon, theta = 2.1, 14.0, 1.0, 0.5
    error = (target - predicted).abs()
    power = alpha - target
    ratio = theta / epsilon
    slope = omega / (1 + ratio**power) * power * ratio ** (power - 1) / epsilon
    offset = theta * slope - omega * torch.log1p(ratio**power)
    # Clamped, so that the unused branch of `where` has a finite derivative.
    near = omega * torch.log1p((error.clamp(max=theta) / epsilon) ** power)
    loss = torch.where(error < theta, near, slope * error - offset)
    return (loss.mean(dim=(2, 3)) * share).sum()


def anchor_distances(predicted: Tensor, target: Tensor, share: Tensor, sigma: float, anchors: int) -> Tensor:
    """Multilateration anchor loss of heatmaps (N, K, H, W): smooth L1 (over 1 hm px) of distances.

    Anchors are the `anchors` highest pixels of each predicted map, from which a multilateration decoder would
    read d = sigma sqrt(-2 ln h), in heatmap pixels (docs/explanation/method.md); the loss compares this with
    the distance in the target. Heights are clipped to LOWEST..HIGHEST; beyond, the heatmap loss has to teach.
    The POPoS paper names such a loss; this definition is ours.
    """
    places = predicted.flatten(2).topk(min(anchors, predicted[0, 0].numel()), dim=2).indices

    def distances(maps: Tensor) -> Tensor:
        heights = maps.flatten(2).gather(2, places).clamp(LOWEST, HIGHEST)
        return sigma * (-2 * heights.log()).sqrt()

    error = F.smooth_l1_loss(distances(predicted), distances(target), reduction="none")
    return (error.mean(dim=2) * share).sum()


def sinkhorn(predicted: Tensor, target: Tensor, share: Tensor) -> Tensor:
    """Debiased Sinkhorn divergence of heatmaps (N, K, H, W), a mean over landmarks, by geomloss.

    As in the POPoS code: for each landmark the batch's maps, flattened, are two clouds of N points in H W
    dimensions, predicted and true; cost |x - y|^2, blur sqrt(0.1). It depends on which faces share a batch,
    and so on the number of processes. Maps that do not count (share 0) are zero in both clouds.
    """
    from geomloss import SamplesLoss

    counted = (share > 0)[:, :, None].to(predicted.dtype)
    clouds = [(maps.flatten(2) * counted).transpose(0, 1).contiguous() for maps in (predicted, target)]
    divergence = SamplesLoss(
        "sinkhorn", p=2, blur=math.sqrt(0.1), cost=_squared_distances, backend="tensorized",
        diameter=math.sqrt(clouds[0].shape[2]),  # of heights in 0..1; else it is measured, and may be 0
    )  # fmt: skip
    each: Tensor = divergence(*clouds)  # (K,)
    return (each * share.sum(0)).sum()


def _squared_distances(x: Tensor, y: Tensor) -> Any:
    """(B, N, D), (B, M, D) -> (B, N, M): |x - y|^2, where geomloss's own cost has a factor of 1/2."""
    return (x.square().sum(2)[:, :, None] + y.square().sum(2)[:, None, :] - 2 * x @ y.transpose(1, 2)).clamp(
        min=0
    )


def points_smooth_l1(predicted: Tensor, target: Tensor, share: Tensor, beta: float) -> Tensor:
    """Smooth L1 (Huber over `beta`) of points (N, K, 2) in heatmap pixels, mean over x and y.

    Quadratic within beta heatmap pixels, linear beyond (Girshick 2015, eq. 3).
    """
    error = F.smooth_l1_loss(predicted, target, reduction="none", beta=beta).mean(dim=2)
    return (error * share).sum()
