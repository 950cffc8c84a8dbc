"""Recipes of the datasets that popos knows, as overrides of `TrainSettings`; other datasets have none.

Where the figures come from (the reference is mmpose 0.29's HRNetV2-W18 face recipes; the POPoS fork
kept all but the epochs):

* epochs: 60 with the rate divided by 10 after epochs 40 and 55 (mmpose); COFW 210 with cosine decay
  (the fork). The fork's 100 epochs (300W, AFLW) and 1000 (WFLW, COCO-face) are for whom `--epochs` suits.
* padding 1.25, flip 0.5: as in the reference.
* rotation 23: the reference draws N(0, 30 degrees) for 60 % of the faces, which has the spread of
  N(0, 23) drawn for all, as we draw it.
* scale 0.125: the reference clips at +-25 %; ours is clipped at twice the standard deviation.
* warm-up: COFW's 5 steps of 256 faces are the schema's 1 epoch. The others' 500 such steps (40 of
  300W's 60 epochs) are not followed.
* AdamW's rate, decay and batch, shift, colours, occlusion: ours, the schema's defaults (the reference:
  Adam at 2e-3, 256 faces a step, nothing but flip, scale and rotation).
* synthetic: ours, short enough for a laptop's CPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_MODEL = {"padding": 1.25}
_AUGMENT = {"rotation": 23.0, "scale": 0.125, "flip": 0.5}
_SIXTY = {
    "model": _MODEL,
    "augment": _AUGMENT,
    "schedule": {"epochs": 60, "shape": "step", "milestones": (40 / 60, 55 / 60)},
}

# Standard deviation of the training target in heatmap pixels, by resolution: where the validation error
# was least (docs/codec.md). The reference has 2 throughout, which is 128 crop pixels at 4x4.
SIGMA: Mapping[int, float] = {64: 2.0, 32: 2.0, 16: 2.0, 8: 1.0, 4: 1.0}

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "300w": _SIXTY,
    "wflw": _SIXTY,
    "cofw": {
        "model": _MODEL,
        "augment": _AUGMENT,
        "schedule": {"epochs": 210, "shape": "cosine", "warmup": 1.0},
    },
    "aflw": _SIXTY,
    "coco-face": _SIXTY,
    "synthetic": {"model": {"resolution": 16}, "schedule": {"epochs": 10, "batch_size": 16}},
}
