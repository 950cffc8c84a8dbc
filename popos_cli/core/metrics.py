"""Figures of face alignment: NME, failure rate, AUC of the CED curve, and the quality of uncertainties."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .geometry import Floats

CED_STEP = 1e-4


def nme_per_face(predicted: Floats, truth: Floats, normalisers: Floats) -> Floats:
    """Normalised mean error of each face, (F,), as a fraction.

    (1 / K) sum |p - g| / d over the labelled points (truth not NaN); points (F, K, 2) in any one
    frame, normalisers (F,) in the same unit. NaN where nothing is labelled or d is not above 0,
    as mmpose's `keypoint_nme` leaves such faces out.
    """
    distances = np.linalg.norm(predicted - truth, axis=-1)
    labelled = np.isfinite(truth).all(-1)
    count = labelled.sum(1)
    total = np.where(labelled, distances, 0.0).sum(1)
    valid = (count > 0) & (normalisers > 0)
    safe = np.where(valid, count * normalisers, 1.0)
    return np.where(valid, total / safe, np.nan)


def uncertainty_quality(predicted: Floats, truth: Floats, uncertainty: Floats) -> dict[str, float | None]:
    """How well uncertainties (F, K) predict the errors of points (F, K, 2), all in one frame and unit.

    ratio: rms of error / uncertainty, 1 where the scale is right, above 1 where uncertainties are too small.
    spearman: rank correlation of the two over all labelled landmarks. Both are None with fewer than two of
    those, or where all errors or all uncertainties are equal.
    """
    from scipy.stats import spearmanr  # here and below: half a second, and prediction needs none of it

    errors = np.linalg.norm(predicted - truth, axis=-1)
    labelled = np.isfinite(errors)
    error, expected = errors[labelled], uncertainty[labelled]
    if len(error) < 2 or np.ptp(error) == 0 or np.ptp(expected) == 0:
        return {"ratio": None, "spearman": None}
    return {
        "ratio": float(np.sqrt(np.mean((error / np.maximum(expected, 1e-9)) ** 2))),
        "spearman": float(spearmanr(error, expected).statistic),
    }


def ced(errors: Floats, threshold: float) -> tuple[Floats, Floats]:
    """Cumulative error distribution: errors 0, 1e-4 .. threshold and the share of faces within."""
    grid = np.linspace(0.0, threshold, round(threshold / CED_STEP) + 1)
    return grid, np.searchsorted(np.sort(errors), grid, side="right") / max(len(errors), 1)


def failure_rate(errors: Floats, threshold: float) -> float:
    """Share of faces whose error exceeds the threshold."""
    return float((errors > threshold).mean())


def auc(errors: Floats, threshold: float) -> float:
    """Area under the CED up to the threshold, by Simpson's rule, over the threshold: 0..1."""
    from scipy.integrate import simpson

    grid, share = ced(errors, threshold)
    return float(simpson(share, x=grid) / threshold)


def summary(
    errors: Floats, threshold: float, labelled: NDArray[np.number] | None = None
) -> dict[str, float | int] | None:
    """Faces, and NME, failure rate and AUC in percent, of per-face errors (F,); NaN left out.

    NME is the mean over faces; with `labelled` (F,), each face's number of labelled points, it is the mean
    over all points of all faces, as in mmpose's `keypoint_nme`. Failure rate and AUC count faces either way.
    None where no face can be measured.
    """
    valid = np.isfinite(errors)
    if not valid.any():
        return None
    measured = errors[valid]
    return {
        "faces": len(measured),
        "nme": float(np.average(measured, weights=None if labelled is None else labelled[valid]) * 100),
        "failure_rate": failure_rate(measured, threshold) * 100,
        "auc": auc(measured, threshold) * 100,
    }


def bootstrap_intervals(
    errors: Floats, weights: Floats, level: float = 0.95, draws: int = 1000, seed: int = 0
) -> Floats:
    """Confidence intervals (C, 2), low and high, of the weighted means of C columns of per-face errors
    (F, C), NaN left out; weights (F, C).

    The percentile bootstrap over faces (Efron 1979): of means over F faces that are drawn with replacement,
    the same draws for all columns. NaN for a column of fewer than two faces.
    """
    weights = np.where(np.isfinite(errors), weights, 0.0)
    sums = weights * np.nan_to_num(errors)
    several = (weights > 0).sum(0) > 1
    faces, random = len(errors), np.random.default_rng(seed)
    means = np.full((draws, errors.shape[1]), np.nan)
    for n in range(draws):
        times = np.bincount(random.integers(faces, size=faces), minlength=faces).astype(float)
        total = times @ weights  # 0 where a small column was not drawn at all
        np.divide(times @ sums, total, out=means[n], where=total > 0)
    intervals = np.full((errors.shape[1], 2), np.nan)
    bounds = [(1 - level) / 2, (1 + level) / 2]
    if several.any():
        intervals[several] = np.nanquantile(means[:, several], bounds, axis=0).T
    return intervals
