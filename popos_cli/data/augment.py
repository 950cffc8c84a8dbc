"""What training does to a face: one affine warp for pixels and points, then its look.

Geometry is one matrix (core/geometry.py); colour and blur are torchvision's functions with
parameters drawn from the sample's own generator, so that a seed gives the same picture whatever
the number of loader workers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..core.geometry import Floats


@dataclass(frozen=True)
class Augment:
    """Strengths; 0 switches a part off.

    rotation: standard deviation in degrees (clipped at twice that). scale: standard deviation of
    the log of the side. shift: standard deviation of the centre, as a fraction of the side. flip,
    grey, occlusion, blur: probabilities. brightness, contrast, saturation: factors are drawn
    from 1 - v to 1 + v.
    """

    rotation: float = 0.0
    scale: float = 0.0
    shift: float = 0.0
    flip: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    grey: float = 0.0
    blur: float = 0.0
    occlusion: float = 0.0

    def place(
        self, center: Floats, side: float, rng: np.random.Generator
    ) -> tuple[Floats, float, float, bool]:
        """A jittered crop: centre (2,), side, rotation in degrees and whether to mirror."""
        noise = rng.standard_normal(4)
        rotation = float(self.rotation * np.clip(noise[0], -2, 2))
        factor = float(np.exp(self.scale * np.clip(noise[1], -2, 2)))
        moved = center + self.shift * side * np.clip(noise[2:], -2, 2)
        return moved, side * factor, rotation, bool(rng.random() < self.flip)

    def look(self, image: NDArray[np.uint8], rng: np.random.Generator) -> Tensor:
        """Colour, blur and occlusion of a crop (S, S, 3) -> (3, S, S) uint8."""
        from torchvision.transforms.v2 import functional as TF

        size = image.shape[0]
        draw = rng.random(10)
        if draw[0] < self.occlusion:
            _occlude(image, rng)
        x = torch.from_numpy(image).permute(2, 0, 1)
        if self.brightness:
            x = TF.adjust_brightness(x, 1 + self.brightness * (2 * draw[1] - 1))
        if self.contrast:
            x = TF.adjust_contrast(x, 1 + self.contrast * (2 * draw[2] - 1))
        if draw[3] < self.grey:
            x = TF.rgb_to_grayscale(x, num_output_channels=3)
        elif self.saturation:
            x = TF.adjust_saturation(x, 1 + self.saturation * (2 * draw[4] - 1))
        if draw[5] < self.blur:  # a face of 32 to 128 pixels, enlarged
            small = int(size * (0.125 + 0.375 * draw[6]))
            x = TF.resize(TF.resize(x, [small, small], antialias=True), [size, size])
        return x.contiguous()


def _occlude(image: NDArray[np.uint8], rng: np.random.Generator) -> None:
    """Paint a rectangle of 10 to 40 % of each side with one colour or with noise, in place."""
    size = image.shape[0]
    height, width = (size * rng.uniform(0.1, 0.4, 2)).astype(int)
    top, left = (rng.random(2) * (size - np.array([height, width]))).astype(int)
    patch = image[top : top + height, left : left + width]
    patch[...] = rng.integers(0, 256, 3 if rng.random() < 0.5 else patch.shape, dtype=np.uint8)
