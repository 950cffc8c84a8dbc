"""What training does to a face: one affine warp for pixels and points, patches over it, then its look.

Geometry is one matrix (core/geometry.py) and belongs to the loader, as do patches. The look (colour and
low resolution) costs more than all of that; the loader only draws its parameters, from the sample's
own generator, so that a seed gives the same picture whatever the number of loader workers, and
`apply_look` makes the pictures of a batch on the device that trains. The formulas are
torchvision's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ..core.geometry import Floats

# A look: factors of brightness, contrast and saturation (0 is grey), and the width in pixels that the
# picture is brought down to before it is enlarged again (0: not at all).
PLAIN = (1.0, 1.0, 1.0, 0.0)
_LUMA = (0.2989, 0.587, 0.114)  # of red, green and blue, as in torchvision


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
        noise[:2] = noise[:2].clip(-2, 2)
        rotation = float(self.rotation * noise[0])
        factor = float(np.exp(self.scale * noise[1]))
        moved = center + self.shift * side * noise[2:].clip(-2, 2)
        return moved, side * factor, rotation, bool(rng.random() < self.flip)

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
        """The parameters (4,) that `apply_look` takes, in the order of `PLAIN`."""
        draw = rng.random(7)
        strengths = np.array([self.brightness, self.contrast, self.saturation])
        brightness, contrast, saturation = 1 + strengths * (2 * draw[:3] - 1)
        if draw[3] < self.grey:
            saturation = 0.0
        # A face of 32 to 128 pixels of 256, enlarged.
        small = int(image_size * (0.125 + 0.375 * draw[5])) if draw[4] < self.blur else 0
        return np.array([brightness, contrast, saturation, small], np.float32)


def apply_look(images: Tensor, look: Tensor) -> Tensor:
    """Colour and low resolution: (N, 3, S, S) float32 RGB 0..1 on any device, and the same back.

    `look` (N, 4) is what the samples carry, best on the CPU: reading it elsewhere waits for the device.
    Brightness, contrast (a blend with the mean of the grey picture) and saturation (with the grey
    picture) are applied in this order, each cut to 0..1, then low resolution (an antialiased bilinear
    resize down, a bilinear one up).
    """
    factors = look[:, :3, None, None, None].to(images.device, non_blocking=True)
    brightness, contrast, saturation = factors.unbind(1)
    images = (images * brightness).clamp_(0, 1)
    mean = _grey(images).mean((2, 3), keepdim=True)
    images = images.mul_(contrast).add_((1 - contrast) * mean).clamp_(0, 1)
    grey = _grey(images)
    images = images.mul_(saturation).add_((1 - saturation) * grey).clamp_(0, 1)
    widths: list[int] = look[:, 3].int().tolist()
    for width in sorted(set(widths) - {0}):
        rows = [row for row, other in enumerate(widths) if other == width]
        small = F.interpolate(images[rows], (width, width), mode="bilinear", antialias=True)
        images[rows] = F.interpolate(small, images.shape[2:], mode="bilinear")
    return images


def _grey(images: Tensor) -> Tensor:
    """(N, 3, S, S) -> (N, 1, S, S)."""
    red, green, blue = images.split(1, dim=1)
    grey: Tensor = (red * _LUMA[0]).add_(green, alpha=_LUMA[1]).add_(blue, alpha=_LUMA[2])
    return grey
