"""Prepared index -> samples that a network can take."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from ..core.choices import Alignment
from ..core.geometry import Floats, compose, crop_matrix, transform, warp
from .augment import PLAIN, Augment, change_colours, lose_detail
from .crops import Crops
from .index import Index


class FaceDataset(Dataset[dict[str, Any]]):
    """One face a sample, cropped around its square:

    image         (3, S, S) uint8 RGB, augmented
    photometric   (6,) float32, in the order of `augment.PLAIN`: what was done to colours and detail
    points        (K, 2) float32 crop pixels, NaN where not labelled
    points_image  (K, 2) float64 image pixels
    matrix        (2, 3) float64, image -> crop
    normaliser    image pixels
    face          row of `index`

    squares: centres (F, 2) and sides (F,) to crop around instead of the index's own. crops: read these
    instead of the photos; all but the pixels stays the same. augment: its draws depend on
    (seed, epoch, face) alone. Nothing is mirrored where the scheme has no flip pairs.
    """

    def __init__(
        self,
        index: Index,
        image_size: int,
        padding: float,
        alignment: Alignment,
        augment: Augment | None = None,
        seed: int = 0,
        squares: tuple[Floats, Floats] | None = None,
        crops: Crops | None = None,
    ) -> None:
        self.centers, self.sides = squares or (index.center, index.side)
        self.index, self.image_size, self.padding, self.alignment = index, image_size, padding, alignment
        if augment:
            # Forked loader processes find it imported; each would take a second.
            import torchvision.transforms.v2  # noqa: F401

            if not index.scheme.mirrors:
                augment = augment.model_copy(update={"flip": 0.0})
        self.augment, self.seed, self.crops = augment, seed, crops
        self.normalisers = index.normalisers()
        self.flip_index = index.scheme.flip_index

    def __len__(self) -> int:
        return len(self.index)

    def __getitems__(self, keys: list[Any]) -> list[dict[str, Any]]:
        """A whole batch, as DataLoader asks for it: on as many threads as OpenCV may use, which is one in a
        loader process. Colours are changed one after another, since torch has threads of its own for each."""
        threads = cv2.getNumThreads()
        if threads == 1:
            return [self[key] for key in keys]
        size = math.ceil(len(keys) / threads)  # one task a thread: one a face costs as much as it gains
        parts = [keys[first : first + size] for first in range(0, len(keys), size)]
        with ThreadPoolExecutor(threads) as pool:
            made = pool.map(lambda part: [self._before_colours(key) for key in part], parts)
            return [_with_colours(sample) for part in made for sample in part]

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Any]:
        """`key`: the face, or (epoch, face) as `TrainingBatches` gives it."""
        return _with_colours(self._before_colours(key))

    def _before_colours(self, key: int | tuple[int, int]) -> dict[str, Any]:
        epoch, face = key if isinstance(key, tuple) else (0, key)
        augment, size = self.augment, self.image_size
        center, side = self.centers[face], float(self.sides[face]) * self.padding
        rotation, flip = 0.0, False
        if augment:
            rng = np.random.default_rng((self.seed, epoch, face))
            center, side, rotation, flip = augment.draw_square(center, side, rng)
        matrix = crop_matrix(center, side, size, self.alignment, rotation, flip)
        image = self._crop(face, matrix)
        photometric = np.array(PLAIN, np.float32)
        if augment:
            augment.occlude(image, rng)
            photometric = augment.draw_photometric(size, rng)
            image = lose_detail(image, photometric)
        planes = np.empty((3, size, size), np.uint8)
        cv2.split(image, [planes[2], planes[1], planes[0]])
        points = transform(self.index.points[face], matrix)
        points[self.index.visible[face] == 0] = np.nan
        if flip:
            points = points[self.flip_index]
        return {
            "image": torch.from_numpy(planes),
            "photometric": torch.from_numpy(photometric),
            "points": torch.from_numpy(points.astype(np.float32)),
            "points_image": torch.from_numpy(self.index.points[face]),
            "matrix": torch.from_numpy(matrix),
            "normaliser": float(self.normalisers[face]),
            "face": face,
        }

    def _crop(self, face: int, matrix: Floats) -> NDArray[np.uint8]:
        """The crop (S, S, 3), BGR, that `matrix` (image -> crop) cuts out."""
        if self.crops:
            picture = self.crops.read(face)
            matrix = compose(matrix, self.crops.to_image[face])
        else:
            picture = self.index.read_bgr(face)
        return warp(picture, matrix, self.image_size)


def _with_colours(sample: dict[str, Any]) -> dict[str, Any]:
    return sample | {"image": change_colours(sample["image"], sample["photometric"].numpy())}
