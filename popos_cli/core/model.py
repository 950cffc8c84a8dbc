"""Landmarker: HRNet-W18 and the heatmap head of mmpose's face models."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from .choices import IMAGENET_MEAN, IMAGENET_STD, Fusion, StemNorm
from .hrnet import HRNet

IMAGE_SIZE = 256  # crop side, pixels


class Landmarker(nn.Module):
    """RGB crops (N, 3, S, S) in 0..1 -> heatmaps (N, K, R, R).

    Mean and standard deviation are buffers, so that callers pass plain pictures. resolution: R, one of S / 4,
    S / 8, ... S / 64. stem_norm, fusion, stages: see `HRNet`. Raises ValueError for another resolution.
    """

    def __init__(
        self,
        landmarks: int,
        resolution: int,
        image_size: int = 256,
        stem_norm: StemNorm = "own",
        mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
        fusion: Fusion = "nearest",
        stages: int | None = None,
    ) -> None:
        super().__init__()
        if image_size % resolution:
            raise ValueError(f"resolution {resolution} does not divide image size {image_size}")
        self.landmarks, self.resolution, self.image_size = landmarks, resolution, image_size
        self.backbone = HRNet(image_size // resolution, stem_norm, fusion, stages)
        width = sum(self.backbone.channels)
        self.head = nn.Sequential(
            nn.Conv2d(width, width, 1),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, landmarks, 1),
        )
        for layer in (self.head[0], self.head[3]):
            assert isinstance(layer, nn.Conv2d) and layer.bias is not None
            nn.init.normal_(layer.weight, std=0.001)
            nn.init.zeros_(layer.bias)
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        branches = self.backbone((images - self.mean) / self.std)
        size = branches[0].shape[-2:]
        enlarged = [F.interpolate(b, size=size, mode="bilinear", align_corners=False) for b in branches[1:]]
        heatmaps: Tensor = self.head(torch.cat([branches[0], *enlarged], dim=1))
        return heatmaps


@torch.no_grad()
def multiply_adds(model: Landmarker) -> int:
    """Of one crop's way through the network's convolutions, by torch's own count."""
    parameter = next(model.parameters())
    with FlopCounterMode(display=False) as counter:
        model(parameter.new_zeros(1, 3, model.image_size, model.image_size))
    return int(counter.get_total_flops()) // 2
