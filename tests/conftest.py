"""Brown pictures with labels and predictions of known errors: for evaluate's and inspect's pages."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from popos_cli.core.schemes import Scheme
from popos_cli.data.index import Index
from popos_cli.evaluate.measure import Measured
from popos_cli.evaluate.results import Evaluated

os.environ.setdefault(
    "HF_HUB_OFFLINE", "1"
)  # no test asks the network, but those of downloads, on this machine
BROWN = (120, 90, 60)  # red, green, blue
CORNERS = Scheme("corners", 4, {"ring": (0, 1, 2, 3)}, frozenset({"ring"}), ((0, 1), (2, 3)), (0, 1))


@pytest.fixture
def index(tmp_path: Path) -> Index:
    """Three faces of four points, the corners of a square of 100 pixels, and their pictures; the last
    face has two of them. Subsets: "dark" (first), "far" (first and last)."""
    points = np.array([[50, 50], [150, 50], [50, 150], [150, 150]], float) + np.arange(3)[:, None, None]
    visible = np.full((3, 4), 2, np.uint8)
    points[2, 2:], visible[2, 2:] = np.nan, 0
    names = ["a.png", "b <i>&.png", "c.png"]
    for name in names:
        cv2.imwrite(str(tmp_path / name), np.full((200, 200, 3), BROWN[::-1], np.uint8))
    return Index(
        name="squares", scheme=CORNERS, root=tmp_path, image=np.array(names),
        size=np.full((3, 2), 200, np.int32), points=points, visible=visible,
        center=np.full((3, 2), 100.0), side=np.full(3, 100.0), split=np.array(["test"] * 3),
        group=np.array([""] * 3), source=np.array(["x:1", "x:2", "x:3"]),
        subset=np.array([[1, 1], [0, 0], [0, 1]], bool), rect=np.full((3, 4), np.nan),
        subsets=("dark", "far"),
    )  # fmt: skip


@pytest.fixture
def evaluate(index: Index) -> Callable[..., Evaluated]:
    """evaluate(errors, shift=(x, y), **result): errors of the faces in reverse order of the index, points
    `shift` pixels from the labels."""

    def make(errors: list[float], shift: tuple[float, float] = (0.0, 0.0), **changed: object) -> Evaluated:
        face = np.arange(3)[::-1]
        result = {
            "dataset": "squares", "split": "test", "weights": "runs/w", "resolution": 16, "decoder": "ml",
            "faces": 3, "nme": 5.0, "failure_rate": 0.0, "auc": 50.0, "normaliser": "inter-ocular",
            "threshold": 0.1, "averaging": "face", "published": None, "subsets": {}, "boxes": "truth",
            "nme_interval": [4.0, 6.0],
            "groups": {"ring": {"faces": 3, "nme": 5.5, "nme_interval": [4.5, 6.5]}}, **changed,
        }  # fmt: skip
        points = np.nan_to_num(index.points[face], nan=-999) + shift
        measured = Measured(face, np.array(errors), points, np.full((3, 4), 0.5), np.full((3, 4), 2.0))
        return Evaluated(result, index, measured)

    return make
