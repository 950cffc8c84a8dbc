"""Codec: landmarks <-> heatmaps. One object for training, evaluation and prediction."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .calibration import Calibration, features
from .choices import ALIGNMENTS, DECODER_NAMES, DEFAULT_DECODER, SIGMAS, Alignment, DecoderName
from .decoded import Array, Decoded
from .decoders import DECODERS
from .decoders.gaussian_fit import Fit, assess_points, locate_and_assess, maximum_likelihood


def _size(value: Any, name: str) -> tuple[int, int]:
    """(W, H) of one size for both axes or of two, in whole numbers of any type: 64, np.int64(64), 64.0."""
    sizes = (value, value) if np.ndim(value) == 0 else tuple(value)
    try:
        if len(sizes) != 2 or any(isinstance(v, bool | np.bool_ | str) or int(v) != v for v in sizes):
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise ValueError(
            f"{name} must be a whole number of pixels, or two (width, height), not {value!r}"
        ) from None
    width, height = (int(v) for v in sizes)
    if width < 1 or height < 1:
        raise ValueError(f"{name} must be positive, not {value}")
    return width, height


@dataclass(frozen=True)
class Codec:
    """Gaussian heatmaps of `sigma` heatmap pixels and the decoder that reads them.

    resolution, image_size: of the heatmap and of the crop in pixels, one number or (W, H); kept as (W, H).
    The first must divide the second. sigma: within SIGMAS. alignment: where heatmap pixel i sits on the crop,
    by stride = image size / resolution: "center" (i + .5) * stride - .5, symmetric under a flip; "mmpose" i *
    stride; "hrnet" (i + .5) * stride + .5, as HRNet's own code for faces cuts its crops. calibration: turns a
    fit into an expected error; it belongs to one network and one decoder. Raises ValueError for a size that
    does not divide, an unknown name or a sigma out of range.
    """

    resolution: int | tuple[int, int]
    image_size: int | tuple[int, int] = 256
    sigma: float = 2.0
    decoder: DecoderName = DEFAULT_DECODER
    alignment: Alignment = "center"
    calibration: Calibration | None = field(default=None, repr=False)
    width: int = field(init=False, repr=False, compare=False)
    height: int = field(init=False, repr=False, compare=False)
    image_width: int = field(init=False, repr=False, compare=False)
    image_height: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        size, image_size = _size(self.resolution, "resolution"), _size(self.image_size, "image_size")
        if image_size[0] % size[0] or image_size[1] % size[1]:
            raise ValueError(f"resolution {self.resolution} does not divide image size {self.image_size}")
        if not SIGMAS[0] <= self.sigma <= SIGMAS[1]:
            raise ValueError(
                f"sigma must be from {SIGMAS[0]} to {SIGMAS[1]:g} heatmap pixels, not {self.sigma}"
            )
        if self.decoder not in DECODER_NAMES:
            raise ValueError(f"unknown decoder {self.decoder!r}; one of {', '.join(DECODER_NAMES)}")
        if self.alignment not in ALIGNMENTS:
            raise ValueError(f"unknown alignment {self.alignment!r}; one of {', '.join(ALIGNMENTS)}")
        normalised = {
            "resolution": size, "image_size": image_size, "sigma": float(self.sigma),
            "width": size[0], "height": size[1], "image_width": image_size[0], "image_height": image_size[1],
        }  # fmt: skip
        for name, value in normalised.items():
            object.__setattr__(self, name, value)

    def with_decoder(self, decoder: str) -> Codec:
        """The same codec with another decoder; without calibration, which is fitted for one decoder."""
        if decoder == self.decoder:
            return self
        return replace(self, decoder=decoder, calibration=None)  # type: ignore[arg-type]

    def stride(self, like: Tensor) -> Tensor:
        """Crop pixels per heatmap pixel, (2,), x then y, of `like`'s type and device."""
        strides = self.image_width / self.width, self.image_height / self.height
        return torch.stack(
            [like.new_full((), s) for s in strides]
        )  # torch.tensor(strides) would make a GPU wait

    def to_heatmap(self, points_crop: Tensor) -> Tensor:
        """Crop pixels (..., 2) to heatmap pixels."""
        stride = self.stride(points_crop)
        if self.alignment == "mmpose":
            return points_crop / stride
        return (points_crop + (0.5 if self.alignment == "center" else -0.5)) / stride - 0.5

    def to_crop(self, points_heatmap: Tensor) -> Tensor:
        """Heatmap pixels (..., 2) to crop pixels: the inverse of `to_heatmap`."""
        stride = self.stride(points_heatmap)
        if self.alignment == "mmpose":
            return points_heatmap * stride
        return (points_heatmap + 0.5) * stride - (0.5 if self.alignment == "center" else -0.5)

    def within_reach(self, points: Tensor) -> Tensor:
        """Mask (N, K): finite points at most 3 sigma outside the map. The heatmap of any other point is
        all zero, and no target to train on."""
        p = self.to_heatmap(points)
        last = torch.tensor([self.width - 1, self.height - 1], dtype=p.dtype, device=p.device)
        reach = 3 * self.sigma
        return ((p >= -reach) & (p <= last + reach)).all(-1)  # NaN compares false

    def encode(self, points: Array) -> Array:
        """Points (N, K, 2), x then y in crop pixels -> heatmaps (N, K, H, W) with peak height 1.

        h(a) = exp(-|p - a|^2 / (2 sigma^2)) at every heatmap pixel a, not cut off, not rounded (mmpose's
        "unbiased" target). A point with a NaN or an infinity gives a zero map.
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

        Half precision is read in float32. NaN and infinite values count as 0. Raises ValueError where the
        shape is not this codec's, or the number of landmarks not the calibration's.
        """
        if not isinstance(heatmaps, Tensor):
            decoded = self.decode(torch.from_numpy(np.ascontiguousarray(heatmaps)))
            return Decoded(*(t.numpy() for t in (decoded.points, decoded.scores, decoded.uncertainty)))
        count, landmarks = self._check_shape(heatmaps)
        points, fit = self._fit(heatmaps.flatten(0, 1))
        scores = (fit.amplitude.clamp(0, 1) * fit.explained).nan_to_num(nan=0.0).view(count, landmarks)
        if self.calibration is None:
            uncertainty = (fit.variance.t() * self.stride(points) ** 2).sum(1).sqrt().view(count, landmarks)
        else:
            uncertainty = self.calibration(features(fit, landmarks, self.sigma))
        usable = ((fit.amplitude > 0) & fit.window.finite).view(count, landmarks)
        diagonal = math.hypot(self.image_width, self.image_height)
        return Decoded(
            self.to_crop(points).view(count, landmarks, 2),
            scores,
            torch.where(usable, uncertainty.nan_to_num(nan=diagonal).clamp(max=diagonal), diagonal),
        )

    def calibration_features(self, heatmaps: Tensor) -> tuple[Tensor, Tensor]:
        """Points (N, K, 2) in crop pixels and `calibration.FEATURES` (N, K, 5) of heatmaps (N, K, H, W),
        torch.

        The features are what `fit_calibration` needs, with the errors of the points.
        """
        count, landmarks = self._check_shape(heatmaps)
        points, fit = self._fit(heatmaps.flatten(0, 1))
        return self.to_crop(points).view(count, landmarks, 2), features(fit, landmarks, self.sigma)

    def locate(self, heatmaps: Tensor) -> Tensor:
        """Points (N, K, 2) in heatmap pixels by the `ml` decoder, differentiable, for a loss on points."""
        return maximum_likelihood(heatmaps.flatten(0, 1), self.sigma).reshape(*heatmaps.shape[:2], 2)

    def _check_shape(self, heatmaps: Tensor) -> tuple[int, int]:
        """N and K. Raises ValueError."""
        shape = tuple(heatmaps.shape)
        if heatmaps.ndim != 4 or shape[2:] != (self.height, self.width):
            raise ValueError(f"heatmaps must be (N, K, {self.height}, {self.width}), not {shape}")
        if self.calibration and shape[1] != len(self.calibration.landmarks):
            raise ValueError(
                f"heatmaps of {shape[1]} landmarks; this codec is calibrated for "
                f"{len(self.calibration.landmarks)}"
            )
        return shape[0], shape[1]

    def _fit(self, maps: Tensor) -> tuple[Tensor, Fit]:
        """Points (M, 2) in heatmap pixels by this codec's decoder, and the Gaussian's fit there."""
        if self.decoder == "ml":
            return locate_and_assess(maps, self.sigma)
        finite = maps if maps.dtype == torch.float64 else maps.float()
        finite = finite.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
        points = DECODERS[self.decoder](finite, self.sigma)
        return points, assess_points(maps, points, self.sigma)
