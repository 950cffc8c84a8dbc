"""How sure we are that a face is one: a probability, from what the detector and the network say.

The detector's evidence says most; the uncertainty of the landmarks, as a share of the face's size, adds to
it, and means the same for every network that is calibrated. (The heights of the heatmaps' peaks say as much,
but another thing for each network, so they are not asked; the distance from a mean shape adds nothing.)
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from .geometry import Floats

Fit = Literal["uncertainty", "none"]
Coefficients = tuple[float, float, float]

# Log-odds = a + b * the detector's evidence + c * the fit. By where the box comes from, and what the fit is:
# "none" for networks whose uncertainty is not calibrated. Fitted by `popos bench faces` on 399 photos of
# WIDER FACE; "box", a caller's, on the faces of all detectors, without what they say.
COEFFICIENTS: dict[tuple[str, Fit], Coefficients] = {
    ("yunet", "uncertainty"): (-4.38, 2.55, -1.49),
    ("yunet", "none"): (-1.39, 3.01, 0.0),
    ("haar", "uncertainty"): (-17.17, 1.17, -4.98),
    ("haar", "none"): (-4.79, 2.38, 0.0),
    ("box", "uncertainty"): (-5.79, 0.0, -2.58),
    ("box", "none"): (1.5, 0.0, 0.0),
}


def evidence(detector: str, own: float) -> float:
    """What a detector says, as a number that adds to log-odds: the logit of YuNet's score in 0..1, the
    logarithm of the number of windows in which Haar's cascade sees the face."""
    if detector == "haar":
        return math.log(max(own, 1.0))
    own = min(max(own, 1e-3), 1 - 1e-3)
    return math.log(own / (1 - own))


def fit_of(kind: Fit, doubt: float) -> float:
    """How well the landmarks fit: the logarithm of doubt, their mean uncertainty as a share of the side of
    the square around 300W's landmarks; 0 where the uncertainty is not calibrated."""
    return 0.0 if kind == "none" else math.log(max(doubt, 1e-4))


def face_score(detector: str, own: float | None, kind: Fit, fit: float) -> float:
    """The probability, 0..1, that there is a face. own: what the detector says; None: a caller's box."""
    source, says = ("box", 0.0) if own is None else (detector, evidence(detector, own))
    return float(probability(COEFFICIENTS[source, kind], np.array([says]), np.array([fit]))[0])


def probability(coefficients: Coefficients, evidences: Floats, fits: Floats) -> Floats:
    """The logistic function of a + b * evidences + c * fits, each (N,)."""
    offset, by_detector, by_fit = coefficients
    log_odds = offset + by_detector * evidences + by_fit * fits
    found: Floats = 1 / (1 + np.exp(-np.clip(log_odds, -50, 50)))
    return found


def fit_coefficients(evidences: Floats, fits: Floats, labels: Floats) -> Coefficients:
    """Logistic regression by Newton's method: evidences, fits and labels (0 or 1), each (N,)."""
    inputs = np.column_stack([np.ones(len(labels)), evidences, fits])
    weights = np.zeros(3)
    ridge = np.diag([0.0, 1e-2, 1e-2])  # evidence that is always 0 gets no weight
    for _ in range(30):
        p = probability(_triple(weights), evidences, fits)
        curvature = (inputs * (p * (1 - p))[:, None]).T @ inputs + ridge + 1e-9 * np.eye(3)
        weights += np.linalg.solve(curvature, inputs.T @ (labels - p) - ridge @ weights)
    return _triple(weights)


def _triple(weights: Floats) -> Coefficients:
    offset, by_detector, by_fit = weights.tolist()
    return offset, by_detector, by_fit
