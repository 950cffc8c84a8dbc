"""What training does to a face: one affine warp of pixels and points, a patch, lost detail, other colours.

A loader process makes the whole picture. Every draw comes from the sample's own generator, so that a seed
gives the same picture whatever the number of loader processes. Geometry is one matrix (core/geometry.py),
colours are torchvision's. The heavy imports stand inside the functions: the settings contain `Augment`, and
must load quickly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from torch import Tensor

    from ..core.geometry import Floats

# Photometric parameters that change nothing: factors of brightness, contrast and saturation (0 is grey);
# width in pixels of the low-resolution picture, standard deviation of the blur in pixels, and quality of the
# JPEG, where 0 stands for none.
PLAIN = (1.0, 1.0, 1.0, 0.0, 0.0, 0.0)
LOW_RESOLUTION = (0.125, 0.5)  # of the crop's width
BLUR = (0.5, 3.0)  # standard deviation, pixels of a crop 256 pixels wide
JPEG_QUALITY = (15, 75)


class Augment(BaseModel):
    """How strongly training changes its pictures; 0 switches a part off. Normal draws are centred at 0, or
    at 1 for a factor."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    rotation: float = Field(
        15.0, ge=0, le=90, description="standard deviation, degrees, clipped at twice that"
    )
    rotation_share: float = Field(1.0, ge=0, le=1, description="probability of any rotation")
    scale: float = Field(
        0.1, ge=0, le=0.3,
        description="standard deviation of the side's factor around 1 (Haar's squares: 0.10 at first, "
        "0.05 at predict's last pass)",
    )  # fmt: skip
    scale_clip: float = Field(
        2.0, gt=0, le=3, description="where the side's factor is clipped, standard deviations"
    )
    shift: float = Field(
        0.05, ge=0, le=0.5,
        description="standard deviation along x and y, fraction of the crop's side, clipped at twice that "
        "(Haar's squares: 0.08 along x and 0.03 along y at first, 0.02 and 0.01 at predict's last pass)",
    )  # fmt: skip
    flip: float = Field(0.5, ge=0, le=1, description="probability of a mirror image")
    brightness: float = Field(0.4, ge=0, le=1, description="factor drawn from 1 - v to 1 + v")
    contrast: float = Field(0.4, ge=0, le=1, description="factor drawn from 1 - v to 1 + v")
    saturation: float = Field(0.4, ge=0, le=1, description="factor drawn from 1 - v to 1 + v")
    grey: float = Field(0.1, ge=0, le=1, description="probability of a grey picture")
    low_resolution: float = Field(
        0.2, ge=0, le=1, description="probability of a low-resolution picture, 32 to 128 of 256 pixels wide"
    )
    blur: float = Field(
        0.1, ge=0, le=1, description="probability of a Gaussian blur, deviation 0.5 to 3 of 256 pixels"
    )
    jpeg: float = Field(0.1, ge=0, le=1, description="probability of JPEG losses, quality 15 to 75")
    occlusion: float = Field(0.3, ge=0, le=1, description="probability of an occluding patch")

    @classmethod
    def only(cls, **strengths: float) -> Self:
        """These strengths, and every other part switched off."""
        off = dict.fromkeys(cls.model_fields, 0.0) | {"rotation_share": 1.0, "scale_clip": 2.0}
        return cls(**(off | strengths))

    def draw_square(
        self, center: Floats, side: float, rng: np.random.Generator
    ) -> tuple[Floats, float, float, bool]:
        """A square moved at random: centre (2,), side, rotation in degrees, and whether to mirror."""
        noise, draw = rng.standard_normal(4), rng.random(2)
        rotation = float(self.rotation * noise[0].clip(-2, 2)) if draw[1] < self.rotation_share else 0.0
        factor = float(1 + self.scale * noise[1].clip(-self.scale_clip, self.scale_clip))
        moved = center + self.shift * side * noise[2:].clip(-2, 2)
        return moved, side * factor, rotation, bool(draw[0] < self.flip)

    def occlude(self, image: NDArray[np.uint8], rng: np.random.Generator) -> None:
        """With probability `occlusion`, paint a rectangle of 10 to 40 % of each side of (S, S, 3) with one
        colour or with noise, in place."""
        if rng.random() >= self.occlusion:
            return
        size = image.shape[0]
        height, width = (size * rng.uniform(0.1, 0.4, 2)).astype(int)
        top, left = (rng.random(2) * (size - np.array([height, width]))).astype(int)
        patch = image[top : top + height, left : left + width]
        patch[...] = rng.integers(0, 256, 3 if rng.random() < 0.5 else patch.shape, dtype=np.uint8)

    def draw_photometric(self, image_size: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """Parameters (6,) for `lose_detail` and `change_colours`, in the order of `PLAIN`."""
        wanted, strength = rng.random(4), rng.random(6)
        colours = 1 + np.array([self.brightness, self.contrast, self.saturation]) * (2 * strength[:3] - 1)
        width = sigma = quality = 0.0
        if wanted[0] < self.grey:
            colours[2] = 0.0
        if wanted[1] < self.low_resolution:
            width = int(image_size * _between(*LOW_RESOLUTION, strength[3]))
        if wanted[2] < self.blur:
            sigma = image_size / 256 * _between(*BLUR, strength[4])
        if wanted[3] < self.jpeg:
            quality = round(_between(*JPEG_QUALITY, strength[5]))
        return np.array([*colours, width, sigma, quality], np.float32)


def _between(low: float, high: float, share: float) -> float:
    return low + (high - low) * share


def lose_detail(image: NDArray[np.uint8], photometric: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Gaussian blur, low resolution (area mean, enlarged bilinearly) and JPEG on (S, S, 3) uint8 BGR."""
    import cv2

    _, _, _, width, sigma, quality = photometric.tolist()
    if sigma:
        image = cv2.GaussianBlur(image, (0, 0), sigma)  # type: ignore[assignment]
    if width:
        low = cv2.resize(image, (int(width), int(width)), interpolation=cv2.INTER_AREA)
        image = cv2.resize(low, image.shape[:2], interpolation=cv2.INTER_LINEAR)  # type: ignore[assignment]
    if quality:
        _, data = cv2.imencode(".jpg", image, (cv2.IMWRITE_JPEG_QUALITY, int(quality)))
        image = cv2.imdecode(data, cv2.IMREAD_COLOR)  # type: ignore[assignment]
    return image


def change_colours(image: Tensor, photometric: NDArray[np.float32]) -> Tensor:
    """Brightness, contrast and saturation, in this order, on (3, S, S) uint8 RGB; rounded once."""
    brightness, contrast, saturation = photometric[:3].tolist()
    if brightness == contrast == saturation == 1:
        return image
    from torchvision.transforms.v2 import functional

    values = functional.adjust_brightness(image.float(), brightness / 255)  # cut to 0..1
    values = functional.adjust_contrast(values, contrast)
    values = functional.adjust_saturation(values, saturation)
    changed: Tensor = values.mul_(255).round_().byte()
    return changed
