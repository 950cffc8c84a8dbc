"""From crops to points in the picture: what validation, evaluation, calibration and prediction share."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .choices import Alignment
from .codec import Codec
from .decoded import Decoded, in_image
from .geometry import Floats
from .schemes import Scheme

CACHED = 4  # pictures in float32 that stay in a CPU's cache: 3 MB


def to_model_input(images: Tensor, device: torch.device) -> Tensor:
    """uint8 (N, 3, S, S) -> float32 0..1 on the device, channels last: twice as fast on a CPU."""
    moved = images.to(device, non_blocking=device.type == "cuda")  # elsewhere it may be read too early
    result = torch.empty(moved.shape, device=device, memory_format=torch.channels_last)
    size = len(moved) if device.type == "cuda" else CACHED
    for start in range(0, len(moved), size):
        part = slice(start, start + size)
        result[part] = moved[part].float().div_(255)
    return result


def mirror_index(scheme: Scheme, wanted: bool, device: torch.device) -> Tensor | None:
    """The order of landmarks for the flip test; None where it is not wanted, or the scheme has no mirror."""
    return torch.from_numpy(scheme.flip_index).to(device) if wanted and scheme.mirrors else None


def flip_back(heatmaps: Tensor, flip_index: Tensor, alignment: Alignment) -> Tensor:
    """Heatmaps (N, K, R, R) of mirrored crops -> the unmirrored crops' heatmaps.

    Exact for "center" and "hrnet". With "mmpose" the mirrored grid is off by 1 - 1 / stride pixels; mmpose
    shifts by one whole pixel (`shift_heatmap`), and so do we.
    """
    back = heatmaps.flip(-1)[:, flip_index]
    if alignment == "mmpose":
        back = torch.cat([back[..., :1], back[..., :-1]], dim=-1)
    return back


@torch.inference_mode()
def predict_heatmaps(
    model: torch.nn.Module,
    images: Tensor,
    flip_index: Tensor | None,
    alignment: Alignment,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Float32 heatmaps; with `flip_index`, the mean of the image's and its mirror image's.

    They stay on the images' device, except for Apple's GPUs, which lack operations that decoders need: there
    they move to the CPU.
    """
    with torch.autocast(images.device.type, dtype=dtype, enabled=dtype is not None):
        heatmaps = model(images).float()
        if flip_index is not None:
            mirror = images.flip(-1)
            if alignment == "hrnet":  # the middle of its crops lies one pixel to the right of the image's
                mirror = mirror.roll(2, -1)
            mirrored = model(mirror).float()
            heatmaps = (heatmaps + flip_back(mirrored, flip_index, alignment)) / 2
    averaged: Tensor = heatmaps.cpu() if images.device.type == "mps" else heatmaps
    return averaged


def decode_to_image(
    codec: Codec, heatmaps: Tensor, matrices: Floats, label_offset: tuple[float, float]
) -> Decoded[NDArray[Any]]:
    """Decode, and move points and uncertainty to image pixels."""
    decoded = codec.decode(heatmaps)
    # float64 by NumPy: Apple's GPUs have none.
    points, scores, uncertainty = (
        values.cpu().numpy().astype(np.float64)
        for values in (decoded.points, decoded.scores, decoded.uncertainty)
    )
    return in_image(Decoded(points, scores, uncertainty), matrices, label_offset)
