"""What a decoder finds, and the way from the crop back to the picture. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from .geometry import Floats, invert, transform

if TYPE_CHECKING:
    from torch import Tensor

Array = TypeVar("Array", "Tensor", NDArray[Any])


@dataclass(frozen=True)
class Decoded(Generic[Array]):
    """points (N, K, 2), x then y in crop pixels; scores (N, K) in 0..1; uncertainty (N, K) in crop pixels.
    (`in_image` has points and uncertainty in picture pixels.)

    A score is the peak height of the Gaussian that fits the map best, clipped to 0..1, times R^2 of the fit:
    1 for a clean map, 0 for one that is flat, has no positive value, or has a NaN or +infinity. The
    uncertainty is the expected RMS Euclidean error sqrt(var_x + var_y): finite, and at most the crop's
    diagonal, which it equals where a map has no peak or is not finite. It comes from the codec's
    `calibration`; without one from the covariance of the fit, which is right only for white noise on the
    heatmaps.
    """

    points: Array
    scores: Array
    uncertainty: Array


def in_image(
    decoded: Decoded[NDArray[Any]], matrices: Floats, label_offset: tuple[float, float] | Floats
) -> Decoded[NDArray[Any]]:
    """Points and uncertainty through the inverted `matrices` (N, 2, 3), image -> crop, to image pixels.
    label_offset: (2,) or (N, 2), image pixels."""
    back = invert(matrices)
    scale = np.sqrt(np.abs(np.linalg.det(back[:, :, :2])))[:, None]
    offset = np.reshape(label_offset, (-1, 1, 2))
    points = transform(decoded.points.astype(np.float64), back) - offset
    return Decoded(points, decoded.scores, decoded.uncertainty * scale)
