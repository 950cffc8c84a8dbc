"""Fit the uncertainty of weights to the errors that the network makes on faces it was not trained on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import ConcatDataset

from ..core.calibration import fit_calibration
from ..core.geometry import Floats, invert, transform
from ..core.inference import predict_heatmaps, to_model_input
from ..data.augment import Augment
from ..data.dataset import FaceDataset
from ..data.index import Index
from ..data.loader import ordered_loader
from ..errors import PoposError
from ..weights.format import read_weights, replace_info
from ..weights.info import CropInfo, UncertaintyInfo

# Each face is used once as it is, and this many times as a bad photo: turned, dark or bright, of low
# resolution, partly covered, and badly cropped.
DEGRADED = 3
BAD_PHOTO = Augment.only(
    rotation=15, scale=0.12, shift=0.05, flip=0.5, brightness=0.8, contrast=0.5, saturation=0.4, grey=0.1,
    low_resolution=0.35, occlusion=0.35,
)  # fmt: skip
# More faces hardly change a handful of weights.
MOST_FACES = 1000


def pictures(index: Index) -> int:
    """How many pictures `calibrate` puts through the network."""
    return min(len(index), MOST_FACES) * (1 + DEGRADED)


def calibrate(
    source: Path, target: Path, index: Index, device: torch.device, workers: int,
    progress: Callable[[int], None], crop: CropInfo | None = None,
) -> UncertaintyInfo:  # fmt: skip
    """Fit the calibration of a weight file to the index's faces, and write the file with it to `target`,
    which may be `source`.

    The network must not have been trained on these faces. progress: called with the number of pictures of
    each batch. crop: replaces the file's own. Raises PoposError where none of their points is labelled.
    """
    if not index.visible.any():
        raise PoposError(f"dataset {index.name!r}: none of its validation faces has a labelled point")
    weights = read_weights(source)
    model, codec, info = weights.model, weights.codec, weights.info
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    chosen = index.select(np.linspace(0, len(index) - 1, min(len(index), MOST_FACES)).astype(np.int64))
    arguments = chosen, codec.image_width, info.crop.padding, codec.alignment
    faces = [FaceDataset(*arguments), *(FaceDataset(*arguments, BAD_PHOTO, n) for n in range(DEGRADED))]
    features, errors = [], []
    for batch in ordered_loader(ConcatDataset(faces), workers):
        images = to_model_input(batch["image"], device)
        heatmaps = predict_heatmaps(model, images, None, codec.alignment)
        points, found = codec.calibration_features(heatmaps)
        matrices, truth = batch["matrix"].numpy(), batch["points"].numpy()
        errors.append(_crop_errors(points.cpu().numpy(), truth, matrices, info.label_offset))
        features.append(found.cpu())
        progress(len(heatmaps))
    fitted = fit_calibration(torch.cat(features), torch.from_numpy(np.concatenate(errors)))
    uncertainty = UncertaintyInfo(**asdict(fitted), dataset=index.name, faces=len(chosen))
    changed = {"uncertainty": uncertainty, "crop": crop or info.crop}
    replace_info(source, target, info.model_copy(update=changed))
    return uncertainty


def _crop_errors(
    points: Floats, truth: Floats, matrices: Floats, label_offset: tuple[float, float]
) -> Floats:
    """Distances (N, K) in crop pixels of points (N, K, 2) from the truth, once the labels' offset,
    which is in picture pixels, is taken out; NaN where there is no truth."""
    moved = transform(transform(points.astype(np.float64), invert(matrices)) - label_offset, matrices)
    lengths: Floats = np.linalg.norm(moved - truth, axis=2)
    return lengths
