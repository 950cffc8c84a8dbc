"""What training minimises: a loss on heatmaps, and terms that compare them as a decoder would."""

from __future__ import annotations

from torch import Tensor

from ..core import losses
from ..core.codec import Codec
from ..core.decoders.multilateration import anchor_count
from .settings import LossSettings

PARTS = ("heatmap", "points", "anchor", "sinkhorn")


def objective(
    settings: LossSettings, heatmaps: Tensor, points: Tensor, share: Tensor, codec: Codec, ramp: float
) -> dict[str, Tensor]:
    """Weighted parts of the loss, by the names in `PARTS`; those that are off are missing.

    heatmaps: (N, K, R, R) float32. points: (N, K, 2) crop pixels, NaN where not labelled. share: (N, K), see
    `core.losses`. ramp: 0..1, factor of the terms on points and anchors.
    """
    target = codec.encode(points)
    parts = {"heatmap": heatmap_loss(settings, heatmaps, target, share)}
    if settings.points and ramp:
        truth = codec.to_heatmap(points).where((share > 0)[..., None], 0.0)
        error = losses.points_smooth_l1(codec.locate(heatmaps), truth, share, settings.beta)
        parts["points"] = settings.points * ramp * error
    if settings.anchor and ramp:
        error = losses.anchor_distances(heatmaps, target, share, codec.sigma, anchor_count(codec.height))
        parts["anchor"] = settings.anchor * ramp * error
    if settings.sinkhorn:
        parts["sinkhorn"] = settings.sinkhorn * losses.sinkhorn(heatmaps, target, share)
    return parts


def heatmap_loss(settings: LossSettings, heatmaps: Tensor, target: Tensor, share: Tensor) -> Tensor:
    if settings.heatmap == "huber":
        return losses.heatmap_huber(heatmaps, target, share, settings.huber_delta)
    if settings.heatmap == "adaptive-wing":
        return losses.adaptive_wing(heatmaps, target, share)
    return losses.heatmap_mse(heatmaps, target, share)
