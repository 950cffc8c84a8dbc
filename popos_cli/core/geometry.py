"""Squares around faces, the 2x3 matrix that moves pixels and points alike, and its inverse.

Frames: `image` is the source picture, `crop` the square that the network sees. Both have pixel centres at
integers, x to the right, y down.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from .choices import Alignment

_LONGEST = 32_766  # pixels: the longest side that OpenCV's warpAffine takes
Floats = NDArray[np.floating]


def tight_square(points_image: Floats) -> tuple[Floats, float]:
    """Centre (2,) and side of the square around landmarks (K, 2), as HRNet and mmpose define it: the bounds
    are rounded outwards to whole pixels, the side is the longer one. NaN rows are left out."""
    low = np.floor(np.nanmin(points_image, axis=0))
    high = np.ceil(np.nanmax(points_image, axis=0))
    return (low + high) / 2, float((high - low).max())


def edges_to_square(box: Floats) -> tuple[Floats, float]:
    """Centre (2,) in pixel centres and longer side of a box (x, y, w, h) given in pixel edges."""
    x, y, w, h = (float(v) for v in box)
    return np.array([x + w / 2 - 0.5, y + h / 2 - 0.5]), max(w, h)


def crop_middle(image_size: int, alignment: Alignment) -> float:
    """Where the box centre lands in the crop: 127.5 of 256 ("center"), 128 ("mmpose"), 128.5 ("hrnet")."""
    return (image_size + {"center": -1, "mmpose": 0, "hrnet": 1}[alignment]) / 2


def crop_matrix(
    center: Floats,
    side: float,
    image_size: int,
    alignment: Alignment = "center",
    rotation: float = 0.0,
    flip: bool = False,
) -> Floats:
    """The (2, 3) float64 matrix image -> crop.

    center: (2,), image pixels. side: image pixels that fill the crop, padding included. rotation: degrees,
    counter-clockwise as seen on the screen. flip: mirrors the crop left to right about its own middle.
    """
    scale = image_size / side
    angle = np.deg2rad(rotation)
    cos, sin = np.cos(angle) * scale, np.sin(angle) * scale
    matrix = np.array([[cos, sin, 0.0], [-sin, cos, 0.0]])
    if flip:
        matrix[0] *= -1
    linear = matrix[:, :2]
    matrix[:, 2] = crop_middle(image_size, alignment) - linear @ np.asarray(center, dtype=np.float64)
    return matrix


def rotation(degrees: float) -> Floats:
    """The (2, 2) matrix that turns a picture counter-clockwise as seen on the screen: R @ [x, y]. Its
    transpose turns back."""
    angle = np.deg2rad(degrees)
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos, sin], [-sin, cos]])


def invert(matrix: Floats) -> Floats:
    """Inverse of (..., 2, 3) affine matrices, same shape: the only way back to the image."""
    linear = np.linalg.inv(matrix[..., :2])
    return np.concatenate([linear, -linear @ matrix[..., 2:]], axis=-1)


def transform(points: Floats, matrix: Floats) -> Floats:
    """Move points (..., K, 2) by matrices (..., 2, 3)."""
    return points @ np.swapaxes(matrix[..., :2], -1, -2) + matrix[..., None, :, 2]


def compose(second: Floats, first: Floats) -> Floats:
    """The (2, 3) matrix that applies `first` and then `second`."""
    composed = second[:, :2] @ first
    composed[:, 2] += second[:, 2]
    return composed


def warp(image: NDArray[np.uint8], matrix: Floats, image_size: int) -> NDArray[np.uint8]:
    """Cut the crop (image_size, image_size, 3) out of `image` (H, W, 3) of any size; outside is black.

    To shrink by two or more, the image is first halved by `cv2.INTER_AREA`, as often as needed: bilinear
    sampling alone would skip pixels and alias.
    """
    scale = float(np.sqrt(abs(matrix[0, 0] * matrix[1, 1] - matrix[0, 1] * matrix[1, 0])))
    short, long = sorted(image.shape[:2])
    times = 0
    while scale <= 0.5 and (short >> times >= 2 or long >> times > _LONGEST):
        scale, times = scale * 2, times + 1
    if times or long > _LONGEST:
        image, matrix = _halved(image, matrix, image_size, times)
        if not image.size:
            return np.zeros((image_size, image_size, 3), np.uint8)
    return cv2.warpAffine(image, matrix, (image_size, image_size), flags=cv2.INTER_LINEAR)  # type: ignore[return-value]


def _halved(
    image: NDArray[np.uint8], matrix: Floats, image_size: int, times: int
) -> tuple[NDArray[np.uint8], Floats]:
    """The part of `image` that the crop shows, each side halved `times` times, and the matrix from there.

    Blocks of 2^times pixels become one; the rest at the image's right and lower border, less than a pixel of
    the crop, is dropped. Empty where the crop lies outside the image.
    """
    block = 2**times
    last = image_size - 1
    corners = transform(np.array([[0, 0], [last, 0], [0, last], [last, last]]), invert(matrix)) / block
    blocks = np.array([image.shape[1] // block, image.shape[0] // block])
    # One block more on each side, for bilinear sampling.
    low = np.clip(np.floor(corners.min(0)).astype(int) - 1, 0, blocks)
    high = np.clip(np.floor(corners.max(0)).astype(int) + 2, low, blocks)
    (left, top), (right, bottom) = low * block, high * block
    part = image[top:bottom, left:right]
    for _ in range(times if part.size else 0):
        height, width = part.shape[:2]
        part = cv2.resize(part, (width // 2, height // 2), interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    # Pixel centres: x_image = (x_part + .5) * block - .5 + left
    to_image = np.array([[block, 0, (block - 1) / 2 + left], [0, block, (block - 1) / 2 + top]])
    return part, compose(matrix, to_image)


def box_iou(box: Floats, boxes: Floats) -> Floats:
    """Intersection over union of one box (4,) with boxes (M, 4), all x, y, w, h in pixel edges."""
    low = np.maximum(box[:2], boxes[:, :2])
    high = np.minimum(box[:2] + box[2:], boxes[:, :2] + boxes[:, 2:])
    intersection = np.clip(high - low, 0, None).prod(axis=1)
    union = box[2:].prod() + boxes[:, 2:].prod(axis=1) - intersection
    iou: Floats = intersection / np.maximum(union, 1e-12)
    return iou
