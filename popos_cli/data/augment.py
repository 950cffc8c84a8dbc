"""What training does to a face: one affine warp for pixels and points, patches over it, then its look.

A camera's order is blur, low resolution, colour, JPEG, and so is ours, but that JPEG comes first: it
needs whole bytes, and belongs with the patches to the loader, which has them (a picture saved, and
made smaller or edited afterwards). Geometry is one matrix (core/geometry.py) and the loader's too. The
rest of the look costs more than all of that; the loader only draws its parameters, from the sample's
own generator, so that a seed gives the same picture whatever the number of loader workers, and
`apply_look` makes the pictures of a batch on the device that trains.

JPEG is torchvision's. Of blur and colours we have its formulas alone: it takes one factor a call, so that
a batch would be a loop over its pictures, no faster on a CPU and far slower on a GPU.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ..core.geometry import Floats

# A look: factors of brightness, contrast and saturation (0 is grey); the width in pixels that the picture
# is brought down to before it is enlarged again; the standard deviation of a Gaussian blur in pixels;
# JPEG's quality. 0: none of the last three.
PLAIN = (1.0, 1.0, 1.0, 0.0, 0.0, 0.0)
# Blurs of a picture 256 pixels wide. Few, since those of one strength are made together.
BLURS = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0)
QUALITIES = (15, 75)  # of JPEG, from the worst to the best
_LUMA = (0.2989, 0.587, 0.114)  # of red, green and blue, as in torchvision


@dataclass(frozen=True)
class Augment:
    """Strengths; 0 switches a part off.

    rotation: standard deviation in degrees, clipped at twice that, of the share `rotation_share` of
    the faces; the others stay upright. scale: standard deviation of the side's factor, which is 1
    plus a normal draw clipped at `scale_clip` standard deviations (their product is below 1, lest a side
    vanish). shift: standard deviation of the centre along x and y, as a fraction of the crop's side,
    clipped at twice that. flip, grey, low_resolution, blur, jpeg, occlusion: probabilities.
    brightness, contrast, saturation: factors are drawn from 1 - v to 1 + v.
    """

    rotation: float = 0.0
    rotation_share: float = 1.0
    scale: float = 0.0
    scale_clip: float = 2.0
    shift: float = 0.0
    flip: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    grey: float = 0.0
    low_resolution: float = 0.0
    blur: float = 0.0
    jpeg: float = 0.0
    occlusion: float = 0.0

    def place(
        self, center: Floats, side: float, rng: np.random.Generator
    ) -> tuple[Floats, float, float, bool]:
        """A jittered crop: centre (2,), side, rotation in degrees and whether to mirror."""
        noise, draw = rng.standard_normal(4), rng.random(2)
        turned = draw[1] < self.rotation_share
        rotation = float(self.rotation * noise[0].clip(-2, 2)) if turned else 0.0
        factor = float(1 + self.scale * noise[1].clip(-self.scale_clip, self.scale_clip))
        moved = center + self.shift * side * noise[2:].clip(-2, 2)
        return moved, side * factor, rotation, bool(draw[0] < self.flip)

    def occlude(self, image: NDArray[np.uint8], rng: np.random.Generator) -> None:
        """Perhaps paint a rectangle of 10 to 40 % of each side of (3, S, S) with one colour or with
        noise, in place."""
        if rng.random() >= self.occlusion:
            return
        size = image.shape[1]
        height, width = (size * rng.uniform(0.1, 0.4, 2)).astype(int)
        top, left = (rng.random(2) * (size - np.array([height, width]))).astype(int)
        patch = image[:, top : top + height, left : left + width]
        shape = (3, 1, 1) if rng.random() < 0.5 else patch.shape
        patch[...] = rng.integers(0, 256, shape, dtype=np.uint8)

    def look(self, image_size: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """The parameters (6,) that `compress` and `apply_look` take, in the order of `PLAIN`."""
        wanted, strength = rng.random(4), rng.random(6)
        colours = 1 + np.array([self.brightness, self.contrast, self.saturation]) * (2 * strength[:3] - 1)
        small = sigma = quality = 0.0
        if wanted[0] < self.grey:
            colours[2] = 0.0
        if wanted[1] < self.low_resolution:
            small = int(image_size * (0.125 + 0.375 * strength[3]))  # 32 to 128 pixels of 256
        if wanted[2] < self.blur:
            sigma = BLURS[int(strength[4] * len(BLURS))] * image_size / 256
        if wanted[3] < self.jpeg:
            quality = round(QUALITIES[0] + (QUALITIES[1] - QUALITIES[0]) * strength[5])
        return np.array([*colours, small, sigma, quality], np.float32)


def compress(image: NDArray[np.uint8], look: NDArray[np.float32]) -> None:
    """JPEG's part of `look` (6,): its losses on (3, S, S) RGB, in place."""
    if look[5]:
        from torchvision.transforms.v2 import functional  # costs a second

        image[...] = functional.jpeg(torch.from_numpy(image), int(look[5])).numpy()


def apply_look(images: Tensor, look: Tensor) -> Tensor:
    """All of a look but JPEG: (N, 3, S, S) float32 RGB 0..1 on any device, and the same back.

    `look` (N, 6) is what the samples carry, best on the CPU: reading it elsewhere waits for the device.
    In this order: Gaussian blur, low resolution (an antialiased bilinear resize down, a bilinear one up),
    brightness, contrast (a blend with the mean of the grey picture) and saturation (with the grey
    picture), each cut to 0..1.
    """
    images = _softened(images, look)
    factors = look[:, :3, None, None, None].to(images.device, non_blocking=True)
    brightness, contrast, saturation = factors.unbind(1)
    images = (images * brightness).clamp_(0, 1)
    mean = _grey(images).mean((2, 3), keepdim=True)
    images = images.mul_(contrast).add_((1 - contrast) * mean).clamp_(0, 1)
    grey = _grey(images)
    return images.mul_(saturation).add_((1 - saturation) * grey).clamp_(0, 1)


def _softened(images: Tensor, look: Tensor) -> Tensor:
    """Blur and low resolution, each picture's own; those of one strength together."""
    small, blurred = look[:, 3:5].T.tolist()
    if any(small) or any(blurred):
        images = images.clone()
    for sigma, rows in _alike(blurred, images.device):
        images.index_copy_(0, rows, _blur(images.index_select(0, rows), sigma))
    for width, rows in _alike(small, images.device):
        some = images.index_select(0, rows)
        low = F.interpolate(some, (int(width), int(width)), mode="bilinear", antialias=True)
        images.index_copy_(0, rows, F.interpolate(low, images.shape[2:], mode="bilinear"))
    return images


def _alike(values: list[float], device: torch.device) -> Iterator[tuple[float, Tensor]]:
    """Each value but 0, in order, and the rows that have it."""
    for value in sorted(set(values) - {0}):
        yield value, torch.tensor([n for n, other in enumerate(values) if other == value], device=device)


def _blur(images: Tensor, sigma: float) -> Tensor:
    """Gaussian, cut off at three standard deviations, the border mirrored: columns, then rows, as sums of
    shifted pictures, for a convolution of single channels costs a CPU two to four times as much."""
    reach, size = max(round(3 * sigma), 1), images.shape[3]
    weights = [math.exp(-((shift / sigma) ** 2) / 2) for shift in range(-reach, reach + 1)]
    for dim, margin in ((2, (0, 0, reach, reach)), (3, (reach, reach, 0, 0))):
        padded = F.pad(images, margin, mode="reflect")
        images = torch.zeros_like(images)
        for shift, weight in enumerate(weights):
            images.add_(padded.narrow(dim, shift, size), alpha=weight / sum(weights))
    return images


def _grey(images: Tensor) -> Tensor:
    """(N, 3, S, S) -> (N, 1, S, S)."""
    red, green, blue = images.split(1, dim=1)
    grey: Tensor = (red * _LUMA[0]).add_(green, alpha=_LUMA[1]).add_(blue, alpha=_LUMA[2])
    return grey
