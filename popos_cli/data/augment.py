"""What training does to a face: one affine warp for pixels and points, patches over it, then its look.

The loader has whole bytes, and OpenCV makes there in a fraction of a millisecond what few pictures get:
patches, blur, low resolution and JPEG. Colour is every picture's and costs more than all of that; the
loader only draws its factors, from the sample's own generator, so that a seed gives the same picture
whatever the number of loader workers, and `apply_colours` works on the batch, on the device that trains.
(A camera has JPEG last.) Of colours we have torchvision's formulas alone: it takes one factor a call, so
that a batch would be a loop over its pictures, no faster on a CPU and far slower on a GPU. Geometry is one
matrix (core/geometry.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..core.geometry import Floats
from ..core.inference import CACHED, to_model_input

# A look: factors of brightness, contrast and saturation (0 is grey); the width in pixels that the picture
# is brought down to before it is enlarged again; the standard deviation of a Gaussian blur in pixels;
# JPEG's quality. 0: none of the last three.
PLAIN = (1.0, 1.0, 1.0, 0.0, 0.0, 0.0)
BLURS = (0.5, 3.0)  # of a picture 256 pixels wide
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
        """Perhaps paint a rectangle of 10 to 40 % of each side of (S, S, 3) with one colour or with
        noise, in place."""
        if rng.random() >= self.occlusion:
            return
        size = image.shape[0]
        height, width = (size * rng.uniform(0.1, 0.4, 2)).astype(int)
        top, left = (rng.random(2) * (size - np.array([height, width]))).astype(int)
        patch = image[top : top + height, left : left + width]
        patch[...] = rng.integers(0, 256, 3 if rng.random() < 0.5 else patch.shape, dtype=np.uint8)

    def look(self, image_size: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """The parameters (6,) that `soften` and `apply_colours` take, in the order of `PLAIN`."""
        wanted, strength = rng.random(4), rng.random(6)
        colours = 1 + np.array([self.brightness, self.contrast, self.saturation]) * (2 * strength[:3] - 1)
        small = sigma = quality = 0.0
        if wanted[0] < self.grey:
            colours[2] = 0.0
        if wanted[1] < self.low_resolution:
            small = int(image_size * (0.125 + 0.375 * strength[3]))  # 32 to 128 pixels of 256
        if wanted[2] < self.blur:
            sigma = (BLURS[0] + (BLURS[1] - BLURS[0]) * strength[4]) * image_size / 256
        if wanted[3] < self.jpeg:
            quality = round(QUALITIES[0] + (QUALITIES[1] - QUALITIES[0]) * strength[5])
        return np.array([*colours, small, sigma, quality], np.float32)


def soften(image: NDArray[np.uint8], look: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The parts of `look` (6,) that lose detail, on (S, S, 3) BGR: Gaussian blur, low resolution (the
    mean of the pixels that fall together, then bilinear), JPEG."""
    _, _, _, small, sigma, quality = look.tolist()
    if sigma:
        image = cv2.GaussianBlur(image, (0, 0), sigma)  # type: ignore[assignment]
    if small:
        low = cv2.resize(image, (int(small), int(small)), interpolation=cv2.INTER_AREA)
        image = cv2.resize(low, image.shape[:2], interpolation=cv2.INTER_LINEAR)  # type: ignore[assignment]
    if quality:
        _, data = cv2.imencode(".jpg", image, (cv2.IMWRITE_JPEG_QUALITY, int(quality)))
        image = cv2.imdecode(data, cv2.IMREAD_COLOR)  # type: ignore[assignment]
    return image


def to_training_input(images: Tensor, device: torch.device, look: Tensor) -> Tensor:
    """`to_model_input` with the colours of each picture's `look` (N, 6)."""
    result = to_model_input(images, device)
    size = len(result) if device.type == "cuda" else CACHED
    for start in range(0, len(result), size):
        part = slice(start, start + size)
        result[part] = apply_colours(result[part], look[part])
    return result


def apply_colours(images: Tensor, look: Tensor) -> Tensor:
    """A look's brightness, contrast (a blend with the mean of the grey picture) and saturation (with the
    grey picture), in this order, each cut to 0..1, as torchvision has them.

    (N, 3, S, S) float32 RGB 0..1 on any device, and the same back. `look` (N, 6): what the samples carry.
    """
    factors = look[:, :3, None, None, None].to(images.device, non_blocking=True)
    brightness, contrast, saturation = factors.unbind(1)
    images = (images * brightness).clamp_(0, 1)
    mean = _grey(images).mean((2, 3), keepdim=True)
    images = images.mul_(contrast).add_((1 - contrast) * mean).clamp_(0, 1)
    grey = _grey(images)
    return images.mul_(saturation).add_((1 - saturation) * grey).clamp_(0, 1)


def _grey(images: Tensor) -> Tensor:
    """(N, 3, S, S) -> (N, 1, S, S)."""
    red, green, blue = images.split(1, dim=1)
    grey: Tensor = (red * _LUMA[0]).add_(green, alpha=_LUMA[1]).add_(blue, alpha=_LUMA[2])
    return grey
