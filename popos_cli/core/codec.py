"""Codec: landmarks <-> heatmaps. One object for training, evaluation, prediction and export."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .decoders import DECODERS, DEFAULT_DECODER
from .decoders.likelihood import fit_at, window, window_size
from .geometry import ALIGNMENTS, Alignment

Array = TypeVar("Array", Tensor, NDArray[Any])


@dataclass(frozen=True)
class Decoded(Generic[Array]):
    """points (N, K, 2) x, y in crop pixels; scores (N, K) in 0..1; uncertainty (N, K) crop pixels.

    A score is the peak height of the Gaussian that fits the map best, clipped to 0..1; 0 for a map
    with no finite value or no positive one. The uncertainty is the expected RMS Euclidean error
    sqrt(var_x + var_y) by the covariance of that fit, not calibrated on real errors; it is finite
    and at most the crop's diagonal.
    """

    points: Array
    scores: Array
    uncertainty: Array


def _pair(value: int | tuple[int, int], name: str) -> tuple[int, int]:
    width, height = (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))
    if width < 1 or height < 1:
        raise ValueError(f"{name} must be positive, not {value}")
    return width, height


class Codec:
    """Gaussian heatmaps of `sigma` heatmap pixels and the decoder that reads them.

    resolution, image_size: int or (W, H), heatmap and crop; the first must divide the second.
    decoder: a key of `DECODERS`. alignment: where heatmap pixel i sits on the crop: "center"
    (i + .5) * stride - .5, symmetric under a flip, or "mmpose" i * stride.
    Raises ValueError for a size that does not divide, an unknown name or a sigma <= 0.
    """

    def __init__(
        self,
        resolution: int | tuple[int, int],
        image_size: int | tuple[int, int] = 256,
        sigma: float = 2.0,
        decoder: str = DEFAULT_DECODER,
        alignment: Alignment = "center",
    ) -> None:
        self.width, self.height = _pair(resolution, "resolution")
        self.image_width, self.image_height = _pair(image_size, "image_size")
        if self.image_width % self.width or self.image_height % self.height:
            raise ValueError(f"resolution {resolution} does not divide image size {image_size}")
        if not sigma > 0:
            raise ValueError(f"sigma must be above 0 heatmap pixels, not {sigma}")
        if decoder not in DECODERS:
            raise ValueError(f"unknown decoder {decoder!r}; one of {', '.join(DECODERS)}")
        if alignment not in ALIGNMENTS:
            raise ValueError(f"unknown alignment {alignment!r}; one of {', '.join(ALIGNMENTS)}")
        self.sigma, self.decoder, self.alignment = float(sigma), decoder, alignment

    def __repr__(self) -> str:
        return (
            f"Codec(resolution=({self.width}, {self.height}), "
            f"image_size=({self.image_width}, {self.image_height}), sigma={self.sigma}, "
            f"decoder={self.decoder!r}, alignment={self.alignment!r})"
        )

    def with_decoder(self, decoder: str) -> Codec:
        """The same codec with another reading rule."""
        size, image_size = (self.width, self.height), (self.image_width, self.image_height)
        return Codec(size, image_size, self.sigma, decoder, self.alignment)

    def _stride(self, like: Tensor) -> Tensor:
        strides = [self.image_width / self.width, self.image_height / self.height]
        return torch.tensor(strides, dtype=like.dtype, device=like.device)

    def to_heatmap(self, points_crop: Tensor) -> Tensor:
        """Crop pixels (..., 2) to heatmap pixels."""
        stride = self._stride(points_crop)
        return (points_crop + 0.5) / stride - 0.5 if self.alignment == "center" else points_crop / stride

    def to_crop(self, points_heatmap: Tensor) -> Tensor:
        """Heatmap pixels (..., 2) to crop pixels: the inverse of `to_heatmap`."""
        stride = self._stride(points_heatmap)
        if self.alignment == "center":
            return (points_heatmap + 0.5) * stride - 0.5
        return points_heatmap * stride

    def within_reach(self, points: Tensor) -> Tensor:
        """Mask (N, K): finite points at most 3 sigma outside the map; farther ones teach nothing."""
        p = self.to_heatmap(points)
        last = torch.tensor([self.width - 1, self.height - 1], dtype=p.dtype, device=p.device)
        reach = 3 * self.sigma
        return ((p >= -reach) & (p <= last + reach)).all(-1)  # NaN compares false

    def encode(self, points: Array) -> Array:
        """Points (N, K, 2), x then y in crop pixels -> heatmaps (N, K, H, W) with peak height 1.

        h(a) = exp(-|p - a|^2 / (2 sigma^2)) at every heatmap pixel a, not truncated, not rounded
        (mmpose's "unbiased" target). A point with a NaN or an infinity gives a zero map.
        """
        if not isinstance(points, Tensor):
            return self.encode(torch.from_numpy(np.ascontiguousarray(points))).numpy()
        p = self.to_heatmap(points if points.is_floating_point() else points.float())
        finite = torch.isfinite(p).all(-1)
        p = torch.where(finite[..., None], p, torch.zeros_like(p))
        x = torch.arange(self.width, dtype=p.dtype, device=p.device)
        y = torch.arange(self.height, dtype=p.dtype, device=p.device)
        gx = torch.exp(-((x - p[..., 0:1]) ** 2) / (2 * self.sigma**2))
        gy = torch.exp(-((y - p[..., 1:2]) ** 2) / (2 * self.sigma**2))
        return gy[..., :, None] * gx[..., None, :] * finite[..., None, None]

    def decode(self, heatmaps: Array) -> Decoded[Array]:
        """Heatmaps (N, K, H, W) -> `Decoded`; NumPy in, NumPy out; torch stays on its device.

        Half-precision input is read in float32. NaN and infinite values count as 0. Raises
        ValueError where the shape is not this codec's.
        """
        if not isinstance(heatmaps, Tensor):
            decoded = self.decode(torch.from_numpy(np.ascontiguousarray(heatmaps)))
            return Decoded(*(t.numpy() for t in (decoded.points, decoded.scores, decoded.uncertainty)))
        if heatmaps.ndim != 4 or heatmaps.shape[-2:] != (self.height, self.width):
            raise ValueError(
                f"heatmaps must be (N, K, {self.height}, {self.width}), not {tuple(heatmaps.shape)}"
            )
        maps = heatmaps if heatmaps.dtype == torch.float64 else heatmaps.float()
        shape = maps.shape[:2]
        maps = torch.nan_to_num(maps.flatten(0, 1), nan=0.0, posinf=0.0, neginf=0.0)
        points = DECODERS[self.decoder](maps, self.sigma)
        scores, uncertainty = self._confidence(maps, points.detach())
        return Decoded(self.to_crop(points).view(*shape, 2), scores.view(shape), uncertainty.view(shape))

    def locate(self, heatmaps: Tensor) -> Tensor:
        """Points (N, K, 2) in heatmap pixels by the ML rule, differentiable: what a loss needs."""
        maps = heatmaps.flatten(0, 1).float()
        return DECODERS["ml"](maps, self.sigma).view(*heatmaps.shape[:2], 2)

    def _confidence(self, maps: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        """Scores and uncertainty (M,) of decoded points (M, 2) in heatmap pixels."""
        size, _ = window_size(max(self.width, self.height))
        patches, left, top = window(maps, size)
        fit = fit_at(patches, points - torch.stack([left, top], dim=1), self.sigma)
        variance = (fit.variance * self._stride(points) ** 2).sum(1)
        diagonal = float(np.hypot(self.image_width, self.image_height))
        uncertainty = variance.sqrt().nan_to_num(nan=diagonal).clamp(max=diagonal)
        return fit.amplitude.nan_to_num(nan=0.0).clamp(0, 1), uncertainty
