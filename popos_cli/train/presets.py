"""Recipes of the datasets that popos knows, as overrides of `TrainSettings`; "" stands for all others.

"reference" is the POPoS fork's training (4 GPUs of 64 faces, HRNetV2-W18, configs of mmpose 0.29), with
its Sinkhorn term and its Huber loss for COCO-WholeBody's faces. It differs from the fork in this:

* scale and rotation follow the same rule with another random generator; faces are shuffled anew each
  epoch, and an incomplete last batch is left out.
* the Sinkhorn divergence is a mean over landmarks, on the training device.
* the fork validates with the flip test, popos without (`popos evaluate` has it).

"popos" is ours. The reasons for its values:

* epochs: 60 with the rate divided by 10 after epochs 40 and 55 (mmpose); COFW 210 with cosine decay
  (the fork). The fork's 100 epochs (300W, AFLW) and 1000 (WFLW, COCO-face) are left to `--epochs`.
* padding 1.25, flip 0.5: as in the reference.
* rotation 23: the reference draws N(0, 30 degrees) for 60 % of the faces, which has the standard deviation
  of our N(0, 23) for all faces.
* scale 0.125: the reference clips at +-25 %, ours at twice the standard deviation.
* warm-up: one epoch. The reference's 500 steps are 40 of 300W's 60 epochs.
* AdamW's rate, decay and batch, losses, averaging, shift, colours, occlusion: our own, the schema's defaults.
* synthetic: short enough for a laptop's CPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_MODEL = {"padding": 1.25}
_AUGMENT = {"rotation": 23.0, "scale": 0.125, "flip": 0.5}


def _ours(**schedule: Any) -> dict[str, Any]:
    return {"model": _MODEL, "augment": _AUGMENT, "schedule": schedule}


_SIXTY = _ours(epochs=60, shape="step", milestones=(40 / 60, 55 / 60))


def _reference(
    epochs: int, *, schedule: Mapping[str, Any] | None = None, loss: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The fork's training: the rate falls after epochs 40 and 55, whatever the number of epochs."""
    return {
        "model": _MODEL,
        "codec": {"sigma": 2.0, "decoder": "popos", "alignment": "mmpose"},
        "augment": {
            "rotation": 30.0, "rotation_share": 0.6, "scale": 0.25, "scale_clip": 1.0, "shift": 0.0,
            "flip": 0.5, "brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "grey": 0.0, "blur": 0.0,
            "low_resolution": 0.0, "jpeg": 0.0, "occlusion": 0.0,
        },
        "loss": {"heatmap": "mse", "points": 0.0, "sinkhorn": 1.0, **(loss or {})},
        "schedule": {
            "epochs": epochs, "batch_size": 256, "rate_batch": 256, "optimiser": "adam",
            "learning_rate": 2e-3, "weight_decay": 0.0, "warmup_steps": 500, "shape": "step",
            "milestones": (40 / epochs, 55 / epochs), "ema": 0.0, **(schedule or {}),
        },
    }  # fmt: skip


_COSINE = {"warmup_steps": 5, "shape": "cosine", "floor": 0.005, "milestones": (0.67, 0.92)}

# Standard deviation of the training target in heatmap pixels, by resolution: the one of the least validation
# error (docs/explanation/method.md). The reference has 2 throughout, which is 128 crop pixels at 4x4.
SIGMA: Mapping[int, float] = {64: 2.0, 32: 2.0, 16: 2.0, 8: 1.0, 4: 1.0}

RECIPES: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "popos": {
        "": {},
        "300w": _SIXTY,
        "wflw": _SIXTY,
        "cofw": _ours(epochs=210, shape="cosine", warmup=1.0),
        "aflw": _SIXTY,
        "coco-face": _SIXTY,
        "synthetic": {
            "model": {"resolution": 16},
            "schedule": {"epochs": 10, "batch_size": 16, "rate_batch": 16},
        },
    },
    "reference": {
        "": _reference(60),
        "300w": _reference(100),
        "wflw": _reference(1000),
        "cofw": _reference(210, schedule=_COSINE),
        "aflw": _reference(100),
        "coco-face": _reference(1000, loss={"heatmap": "huber", "huber_delta": 0.6}),
    },
}
