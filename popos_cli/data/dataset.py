"""Prepared index -> samples that a network can take."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from ..core.choices import Alignment
from ..core.geometry import Floats, compose, crop_matrix, transform, warp
from .augment import PLAIN, Augment, soften
from .crops import Crops
from .index import Index


class FaceDataset(Dataset[dict[str, Any]]):
    """One face a sample, cropped around its square.

    image: (3, S, S) uint8 RGB. look: (6,) float32, in the order of `augment.PLAIN`: the colours that
    `augment.apply_colours` has still to give it, and how it has been softened.
    points: (K, 2) float32 crop pixels, NaN where not labelled. points_image: (K, 2) float64.
    matrix: (2, 3) float64 image -> crop. normaliser: image pixels. face: the row in `index`.

    `squares`: centres (F, 2) and sides (F,) to crop around instead of the index's own. `crops`: read
    these instead of the photos; all but the pixels is the same. With `augment`, the draw depends
    on (seed, epoch, face) alone; without the scheme's flip pairs nothing is mirrored.
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
        if augment and not index.scheme.mirrors:
            augment = replace(augment, flip=0.0)
        self.augment, self.seed, self.crops = augment, seed, crops
        self.normalisers = index.normalisers()
        self.flip_index = index.scheme.flip_index

    def __len__(self) -> int:
        return len(self.index)

    def __getitems__(self, keys: list[Any]) -> list[dict[str, Any]]:
        """A batch, which its loader asks for at once: made on as many cores as OpenCV may use, one alone in
        a loader process."""
        threads = cv2.getNumThreads()
        if threads == 1:
            return [self[key] for key in keys]
        size = math.ceil(len(keys) / threads)  # handing a thread each face costs what it gains
        parts = [keys[first : first + size] for first in range(0, len(keys), size)]
        with ThreadPoolExecutor(threads) as pool:
            made = pool.map(lambda part: [self[key] for key in part], parts)
            return [sample for part in made for sample in part]

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Any]:
        """`key`: the face, or (epoch, face) as `TrainingBatches` gives it."""
        epoch, face = key if isinstance(key, tuple) else (0, key)
        index, augment, size = self.index, self.augment, self.image_size
        center, side = self.centers[face], float(self.sides[face]) * self.padding
        rotation, flip = 0.0, False
        if augment:
            rng = np.random.default_rng((self.seed, epoch, face))
            center, side, rotation, flip = augment.place(center, side, rng)
        matrix = crop_matrix(center, side, size, self.alignment, rotation, flip)
        image = self._pixels(face, matrix)
        look = np.array(PLAIN, np.float32)
        if augment:
            augment.occlude(image, rng)
            look = augment.look(size, rng)
            image = soften(image, look)
        planes = np.empty((3, size, size), np.uint8)
        cv2.split(image, [planes[2], planes[1], planes[0]])
        points = transform(index.points[face], matrix)
        points[index.visible[face] == 0] = np.nan
        if flip:
            points = points[self.flip_index]
        return {
            "image": torch.from_numpy(planes),
            "look": torch.from_numpy(look),
            "points": torch.from_numpy(points.astype(np.float32)),
            "points_image": torch.from_numpy(index.points[face]),
            "matrix": torch.from_numpy(matrix),
            "normaliser": float(self.normalisers[face]),
            "face": face,
        }

    def _pixels(self, face: int, matrix: Floats) -> NDArray[np.uint8]:
        """The crop (S, S, 3), BGR, that `matrix` (image -> crop) cuts out."""
        if self.crops:
            picture, _ = self.crops[face]
            matrix = compose(matrix, self.crops.to_image[face])
        else:
            picture = self.index.read_bgr(face)
        return warp(picture, matrix, self.image_size)
