"""What a caller may hand over as an image."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.pictures import read_image


def as_rgb(image: Any) -> NDArray[np.uint8]:
    """RGB uint8 (H, W, 3) of an array of that kind, a file's path, or a PIL image of 8 or 16 bits; the last
    two upright, by their EXIF orientation. Raises ValueError for anything else, PoposError for a file that
    cannot be read."""
    if isinstance(image, str | Path):
        return read_image(Path(image), upright=True)
    pil = sys.modules.get("PIL.Image")  # not imported here: without it nobody has such an image
    if pil and isinstance(image, pil.Image):
        return _from_pil(image)
    if not isinstance(image, np.ndarray):
        raise ValueError(
            "an image must be an array, RGB uint8 (H, W, 3), a path or a PIL image, "
            f"not {type(image).__name__}"
        )
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise ValueError(f"an image must be RGB uint8 (H, W, 3), not {image.dtype} {image.shape}")
    return image


def _from_pil(image: Any) -> NDArray[np.uint8]:
    from PIL import Image, ImageOps

    image = ImageOps.exif_transpose(image)
    if image.mode in ("I", "F") and not 1 < np.asarray(image).max() < 256:
        raise ValueError(
            f"an image of PIL's mode {image.mode!r} must have values from 0 to 255: convert it to RGB first"
        )
    if image.mode.startswith("I;16"):  # PIL itself would make every value above 255 white
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return np.array(image.convert("RGB"))
