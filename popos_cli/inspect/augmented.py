"""Faces as training sees them, for people to look at."""

from __future__ import annotations

from typing import Any

from ..data.dataset import FaceDataset
from .samples import Crop, Sample

AUGMENTED = 4  # crops of each face
LOOKED_THROUGH = 64  # epochs in which a mirrored crop is looked for


def look_at(face: int, plain: FaceDataset, augmented: FaceDataset) -> Sample:
    """Row `face` of both, which are of one index, augmented as in the first epochs; the last crop is the
    first mirrored one where no earlier one is, and the settings mirror at all."""
    crops = [_seen(augmented[epoch, face], epoch) for epoch in range(AUGMENTED)]
    mirrors = augmented.augment is not None and augmented.augment.flip > 0
    if mirrors and not any(crop.mirrored for crop in crops):
        later = (_seen(augmented[epoch, face], epoch) for epoch in range(AUGMENTED, LOOKED_THROUGH))
        crops[-1] = next((crop for crop in later if crop.mirrored), crops[-1])
    return Sample(face, _seen(plain[face], None), tuple(crops))


def _seen(sample: dict[str, Any], epoch: int | None) -> Crop:
    return Crop(
        image=sample["image"].permute(1, 2, 0).numpy().copy(),
        points=sample["points"].double().numpy(),
        matrix=sample["matrix"].numpy(),
        look=sample["photometric"].numpy(),
        epoch=epoch,
    )
