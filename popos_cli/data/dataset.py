"""Prepared index -> samples that a network can take."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from ..core.geometry import Alignment, Floats, crop_matrix, transform, warp
from ..sources import read_image
from .augment import Augment
from .index import Index


class FaceDataset(Dataset[dict[str, Any]]):
    """One face a sample, cropped around its square.

    image: (3, S, S) uint8 RGB. points: (K, 2) float32 crop pixels, NaN where not labelled.
    points_image: (K, 2) float64. matrix: (2, 3) float64 image -> crop. normaliser: image pixels.
    face: the row in `index`. `squares`: centres (F, 2) and sides (F,) to crop around instead of
    the index's own. With `augment`, the draw depends on (seed, epoch, face) alone.
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
    ) -> None:
        self.centers, self.sides = squares or (index.center, index.side)
        self.index, self.image_size, self.padding, self.alignment = index, image_size, padding, alignment
        self.augment, self.seed = augment, seed
        self.normalisers = index.normalisers()
        self.flip_index = index.scheme.flip_index

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Any]:
        """`key`: the face, or (epoch, face) as `EpochSampler` gives it."""
        epoch, face = key if isinstance(key, tuple) else (0, key)
        index = self.index
        center, side = self.centers[face], float(self.sides[face]) * self.padding
        rotation, flip = 0.0, False
        rng = np.random.default_rng((self.seed, epoch, face))
        if self.augment:
            center, side, rotation, flip = self.augment.place(center, side, rng)
        matrix = crop_matrix(center, side, self.image_size, self.alignment, rotation, flip)
        picture = read_image(index.root / str(index.image[face]), upright=False)
        crop = warp(picture, matrix, self.image_size)
        points = transform(index.points[face], matrix)
        points[index.visible[face] == 0] = np.nan
        if flip:
            points = points[self.flip_index]
        if self.augment:
            image = self.augment.look(crop, rng)
        else:
            image = torch.from_numpy(crop).permute(2, 0, 1).contiguous()
        return {
            "image": image,
            "points": torch.from_numpy(points.astype(np.float32)),
            "points_image": torch.from_numpy(index.points[face]),
            "matrix": torch.from_numpy(matrix),
            "normaliser": float(self.normalisers[face]),
            "face": face,
        }


class EpochSampler(torch.utils.data.Sampler[tuple[int, int]]):
    """(epoch, face) in an order that (seed, epoch) fixes; `start` skips faces already seen."""

    def __init__(self, faces: int, seed: int) -> None:
        self.faces, self.seed, self.epoch, self.start = faces, seed, 0, 0

    def __len__(self) -> int:
        return self.faces - self.start

    def __iter__(self) -> Any:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.faces)
        return iter([(self.epoch, int(face)) for face in order[self.start :]])
