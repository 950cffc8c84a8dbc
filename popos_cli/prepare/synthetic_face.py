"""One model of a face for every built-in scheme: the curves that are drawn and sampled.

Space curves (jaw, brow edges, lids, nose, lips), so that a landmark lies on its drawn edge.
Frame `face`: x to the right, y down, z towards the viewer, the origin between the eyes and half
the width of the face as its unit.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import cache, partial

import numpy as np

from ..core.geometry import Floats
from ..core.schemes import SCHEMES, Scheme
from ..errors import UsageError

Curve = Callable[[Floats], Floats]

# Proportions and expression in `face` units: a face draws each from its range, the canonical face
# has the middles.
RANGES = {
    "chin": (1.32, 1.55), "squareness": (0.0, 0.12), "brow y": (-0.36, -0.20),
    "brow arch": (0.04, 0.15), "brow thick": (0.07, 0.13), "eye x": (0.40, 0.46),
    "eye half": (0.17, 0.22), "eye open": (0.05, 0.15), "eye tilt": (-0.03, 0.06),
    "wink": (-0.15, 0.15), "gaze x": (-0.06, 0.06), "gaze y": (-0.015, 0.015),
    "nose tip": (0.44, 0.56), "nose half": (0.18, 0.26), "mouth y": (0.88, 0.98),
    "mouth half": (0.29, 0.42), "mouth open": (-0.10, 0.30), "lip": (0.07, 0.13),
    "smile": (-0.05, 0.11),
}  # fmt: skip
# Landmarks in the order of the scheme's indices: "CURVE T" or "CURVE FIRST:LAST:COUNT" (evenly
# spaced). T runs from -1 (image-left) to 1 across the middle of the face, from 0 (outer end) to 1
# (inner end) along a brow or an eye, from 0 (top) to 1 (tip) down the nose bridge.
_NOSE_AND = "nose bridge 0:1:4 | nose base -1:1:5 | "
_LIPS = (
    "outer lip top -1:1:7 | outer lip bottom 2/3:-2/3:5 | inner lip top -1:1:5 | inner lip bottom 1/2:-1/2:3"
)
_TABLES = {
    "300w": "jaw -1:1:17 | left brow top 0:1:5 | right brow top 1:0:5 | " + _NOSE_AND
    + "left eye top 0:1:4 | left eye bottom 2/3:1/3:2 | "
    "right eye top 1:0:4 | right eye bottom 1/3:2/3:2 | " + _LIPS,
    "wflw": "jaw -1:1:33 | left brow top 0:1:5 | left brow bottom 1:1/4:4 | "
    "right brow top 1:0:5 | right brow bottom 1/4:1:4 | " + _NOSE_AND
    + "left eye top 0:1:5 | left eye bottom 3/4:1/4:3 | right eye top 1:0:5 | "
    "right eye bottom 1/4:3/4:3 | " + _LIPS + " | left pupil 0 | right pupil 0",
    "cofw": "left brow middle 0 | right brow middle 0 | left brow middle 1 | right brow middle 1 | "
    "left brow top 1/2 | left brow bottom 1/2 | right brow top 1/2 | right brow bottom 1/2 | "
    "left eye top 0 | right eye top 0 | left eye top 1 | right eye top 1 | "
    "left eye top 1/2 | left eye bottom 1/2 | right eye top 1/2 | right eye bottom 1/2 | "
    "left pupil 0 | right pupil 0 | nose base -1:1:2 | nose bridge 1 | nose base 0 | "
    "outer lip top -1:1:2 | outer lip top 0 | inner lip top 0 | inner lip bottom 0 | "
    "outer lip bottom 0 | jaw 0",
    "aflw": "left brow middle 0:1:3 | right brow middle 1:0:3 | left eye middle 0:1:3 | "
    "right eye middle 1:0:3 | nose base -1 | nose bridge 1 | nose base 1 | "
    "outer lip top -1 | inner lip middle 0 | outer lip top 1 | jaw 0",
}  # fmt: skip


def on_face(x: Floats, y: Floats | float, bump: Floats | float = 0.0) -> Floats:
    """(n, 3) points `bump` in front of the shallow ellipsoid that carries the features."""
    points = np.empty((len(x), 3))
    points[:, 0], points[:, 1] = x, y
    points[:, 2] = 0.6 * np.sqrt(np.maximum(1 - 0.75 * x * x - 0.25 * (y - 0.3) ** 2, 0)) - 0.3 + bump
    return points


def curves_of(f: dict[str, float]) -> dict[str, Curve]:
    """The curves of a face, each (n,) parameters -> (n, 3) points in the `face` frame.

    `f` gives a value to each name of `RANGES`.
    """
    gape = max(f["mouth open"], 0.0)

    def jaw(t: Floats) -> Floats:
        angle = t * np.pi / 2
        x = np.sin(angle) + f["squareness"] * np.sin(2 * angle)
        return on_face(x, 0.05 + (f["chin"] + 0.4 * gape - 0.05) * np.cos(angle))

    def brow(side: int, edge: float, t: Floats) -> Floats:
        middle = f["brow y"] - f["brow arch"] * 4 * t * (1 - t) + 0.02 * t
        return on_face(side * (0.80 - 0.64 * t), middle + edge * f["brow thick"] * np.sqrt(t))

    def eye(side: int, edge: float, t: Floats) -> Floats:
        height = edge * f["eye open"] * (1 + side * f["wink"]) * 4 * t * (1 - t)
        return on_face(
            side * (f["eye x"] + f["eye half"] * (1 - 2 * t)), f["eye tilt"] * (2 * t - 1) + height
        )

    def pupil(side: int, t: Floats) -> Floats:
        lids = -side * f["eye tilt"] * f["gaze x"] / f["eye half"]  # where a glance aside lies
        return on_face(side * f["eye x"] + f["gaze x"] + 0 * t, f["gaze y"] - 0.015 + lids)

    def lip(half: float, height: float, cupid: float, t: Floats) -> Floats:
        bow = (1 - t**2) * (1 - cupid * np.exp(-((t / 0.2) ** 2)))
        corners = f["smile"] * (half * t / f["mouth half"]) ** 2
        return on_face(half * t, f["mouth y"] + height * bow - corners, 0.05)

    def nose_bridge(t: Floats) -> Floats:
        return on_face(0 * t, 0.02 + (f["nose tip"] - 0.02) * t, 0.05 + 0.3 * t**1.5)

    def nose_base(t: Floats) -> Floats:
        return on_face(f["nose half"] * t, f["nose tip"] + 0.16 - 0.06 * t**2, 0.2 - 0.14 * t**2)

    outer, inner = f["mouth half"], 0.86 * f["mouth half"]
    curves: dict[str, Curve] = {
        "jaw": jaw,
        "nose bridge": nose_bridge,
        "nose base": nose_base,
        "outer lip top": partial(lip, outer, -0.15 * gape - f["lip"], 0.25),
        "outer lip bottom": partial(lip, outer, 0.85 * gape + 1.3 * f["lip"], 0.0),
        "inner lip top": partial(lip, inner, -0.15 * gape, 0.0),
        "inner lip middle": partial(lip, inner, 0.35 * gape, 0.0),
        "inner lip bottom": partial(lip, inner, 0.85 * gape, 0.0),
    }
    for side, word in ((-1, "left"), (1, "right")):
        curves[f"{word} pupil"] = partial(pupil, side)
        for place, brow_edge, eye_edge in (("top", -0.5, -1.0), ("middle", 0.0, -0.15), ("bottom", 0.5, 0.7)):
            curves[f"{word} brow {place}"] = partial(brow, side, brow_edge)
            curves[f"{word} eye {place}"] = partial(eye, side, eye_edge)
    return curves


@cache
def _runs(scheme: str) -> list[tuple[str, Floats]]:
    """A scheme's table as pairs of a curve's name and the parameters (n,) on it."""
    runs: list[tuple[str, Floats]] = []
    for run in _TABLES[scheme].split(" | "):
        name, _, spacing = run.rpartition(" ")
        first, last, count = f"{spacing}:{spacing}:1".split(":")[:3]
        runs.append((name, np.linspace(float(Fraction(first)), float(Fraction(last)), int(count))))
    return runs


def landmarks_of(curves: dict[str, Curve], scheme: Scheme) -> Floats:
    """(K, 3) landmarks in the `face` frame. Raises UsageError where the scheme is not built in."""
    if SCHEMES.get(scheme.name) != scheme:
        raise UsageError(
            f"synthetic faces have no landmarks for the scheme {scheme.name!r}",
            f"Choose a built-in one: {', '.join(SCHEMES)}.",
        )
    return np.concatenate([curves[name](t) for name, t in _runs(scheme.name)])


def canonical_points(scheme: Scheme) -> Floats:
    """(K, 2) landmarks of the average face, frontal and upright, `face` units, middle at x = 0.

    Raises UsageError for a scheme that is not built in.
    """
    average = {name: (low + high) / 2 for name, (low, high) in RANGES.items()}
    return landmarks_of(curves_of(average), scheme)[:, :2]
