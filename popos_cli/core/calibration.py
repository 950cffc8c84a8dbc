"""From a fit to the expected error of a point: a log-linear model per landmark, fitted to errors on faces
that the network was not trained on.

The fit's covariance ranks real errors poorly and is tens of times too small, because most of a network's
error is not noise on its heatmap. Better predictors are how high and how Gaussian the map is, how wide, how
near the border the point lies, and the means of these over the face.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .decoders.gaussian_fit import Fit

FEATURES = ("log height", "log misfit", "width x", "width y", "edge")
RIDGE = 1e-3  # pulls the weights towards 0, so that a few faces do not give wild ones
LARGEST = 1e6  # in the bundled networks' calibrations no number reaches 6
LEAST_SPREAD = 1e-3  # standard deviation below which a feature gets no weight

FacePair = tuple[tuple[float, ...], tuple[float, ...]]  # of a landmark's features, and of their face means


@dataclass(frozen=True)
class Calibration:
    """ln(error of landmark k) = landmarks[k] + own . f[k] + face . mean over landmarks of f.

    error: expected RMS Euclidean error in crop pixels. landmarks: (K,). own, face: (5,), weights of FEATURES.
    lowest, highest: the range that held 99.8 % of f and of its mean; values outside are clipped to it,
    because the fitted line does not extrapolate. Raises ValueError for another number of weights, and for
    numbers that are not finite or beyond LARGEST.
    """

    landmarks: tuple[float, ...]
    own: tuple[float, ...]
    face: tuple[float, ...]
    lowest: FacePair
    highest: FacePair

    def __post_init__(self) -> None:
        rows = (self.own, self.face, *self.lowest, *self.highest)
        if len(rows) != 6 or {len(row) for row in rows} != {len(FEATURES)}:
            raise ValueError(f"a calibration has six rows of {len(FEATURES)} numbers, one for each feature")
        if not all(abs(value) <= LARGEST for row in (self.landmarks, *rows) for value in row):
            raise ValueError(f"a calibration's numbers must be finite, at most {LARGEST:g}")
        if (np.array(self.lowest) > np.array(self.highest)).any():
            raise ValueError("a calibration's lowest features must not lie above its highest")

    def __call__(self, features: Tensor) -> Tensor:
        """Features (N, K, 5) -> expected errors (N, K), crop pixels."""
        rows = (
            self.landmarks, self.own + self.face,
            self.lowest[0] + self.lowest[1], self.highest[0] + self.highest[1],
        )  # fmt: skip
        bias, weights, lowest, highest = (
            torch.tensor(row, dtype=features.dtype).to(features.device, non_blocking=True) for row in rows
        )
        return (_with_face_means(features).clamp(lowest, highest) @ weights + bias).exp()


def features(fit: Fit, landmarks: int, sigma: float) -> Tensor:
    """FEATURES (N, K, 5) of a fit of N * K maps; all finite."""
    width = fit.widening(sigma).nan_to_num(nan=0.0).clamp(-0.5, 0.5)
    columns = [
        fit.amplitude.nan_to_num(nan=0.0).clamp(1e-2, 2.0).log(),
        fit.misfit.nan_to_num(nan=1.0).clamp(1e-3, 1.0).log(),
        width[0],
        width[1],
        (fit.edge() / fit.window.size.amax(0)).nan_to_num(nan=0.0).clamp(-0.1, 0.3),
    ]
    return torch.stack(columns, dim=1).view(-1, landmarks, len(FEATURES))


def _with_face_means(features: Tensor) -> Tensor:
    """(N, K, 5) -> (N, K, 10): each landmark's features, then their means over the face."""
    return torch.cat([features, features.mean(1, keepdim=True).expand_as(features)], dim=2)


def fit_calibration(features: Tensor, errors: Tensor) -> Calibration:
    """The maximum-likelihood Calibration for features (N, K, 5) and errors (N, K) in crop pixels.

    An error is taken for the length of a draw from a round two-dimensional Gaussian with E|e|^2 = s^2: -ln p
    = 2 ln s + e^2 / s^2 + const. NaN errors (unlabelled landmarks) do not count; a landmark that is never
    labelled gets the mean of the others. Raises ValueError where none is labelled.
    """
    if not errors.isfinite().any():
        raise ValueError("no landmark is labelled, so there are no errors to fit a calibration to")
    with torch.inference_mode(False), torch.enable_grad():
        return _fit(*(t.detach().cpu().double().clone() for t in (_with_face_means(features), errors)))


def _fit(design: Tensor, errors: Tensor) -> Calibration:
    """`fit_calibration` of features with face means (N, K, 10) and errors (N, K), float64."""
    lowest, highest = design.flatten(0, 1).quantile(torch.tensor([0.001, 0.999], dtype=torch.float64), dim=0)
    design = design.clamp(lowest, highest)
    middle, spread = design.mean((0, 1)), design.std((0, 1))
    scale = torch.where(spread > LEAST_SPREAD, spread, math.inf)  # infinite: the weight stays 0
    design = (design - middle) / scale
    labelled = errors.isfinite()
    squared = torch.where(labelled, errors, 0.0).square()
    count = labelled.sum(0)
    mean = squared.sum(0) / count.clamp(min=1)
    mean = torch.where(count > 0, mean, squared.sum() / count.sum().clamp(min=1)).clamp(min=1e-6)
    bias = (mean.log() / 2).requires_grad_()
    weights = torch.zeros_like(middle, requires_grad=True)
    optimiser = torch.optim.LBFGS([bias, weights], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        log_error = bias + design @ weights
        negative_log = 2 * log_error + squared * torch.exp(-2 * log_error)
        value = (negative_log * labelled).sum() / labelled.sum() + RIDGE * weights.square().sum()
        value.backward()
        return value

    optimiser.step(loss)
    with torch.no_grad():
        weights /= scale
        bias -= (weights * middle).sum()

    def pair(values: Tensor) -> FacePair:
        own, face = values.view(2, -1).tolist()
        return tuple(own), tuple(face)

    return Calibration(tuple(bias.tolist()), *pair(weights), pair(lowest), pair(highest))
