"""The detector of a name; YuNet's file is among the downloaded weights."""

from __future__ import annotations

from contextlib import suppress

from ..detect import DETECTORS, Detector, Haar, YuNet
from ..errors import PoposError
from .catalog import load_catalog
from .download import find_here


def detectors_here() -> list[Detector]:
    """Every detector that works on this machine."""
    found: list[Detector] = []
    for name in DETECTORS:
        with suppress(PoposError):
            found.append(load_detector(name))
    return found


def load_detector(name: str = "auto") -> Detector:
    """ "haar"; "yunet"; or "auto", which is YuNet where its file is here and else Haar. Asks no network.

    Raises PoposError where "yunet" is not here.
    """
    model = find_here(load_catalog()["yunet"]) if name != "haar" else None
    if model:
        return YuNet(model)
    if name == "yunet":
        raise PoposError(
            "the detector yunet is not here yet",
            "Run: popos download-weights yunet (or use --detector haar).",
        )
    return Haar()
