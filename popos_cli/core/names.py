"""Names and sizes that settings, flags and files share; imports nothing that takes time."""

from typing import Literal, get_args

DecoderName = Literal["one-hot", "two-hot", "dark", "keyposs", "gauss-newton", "popos", "ml"]
Resolution = Literal[64, 32, 16, 8, 4]  # width and height of a heatmap, pixels
Split = Literal["train", "val", "test", "private"]  # "private": 300W's 600 faces of 2014
DetectorName = Literal["auto", "haar", "yunet"]

DECODER_NAMES: tuple[str, ...] = get_args(DecoderName)
RESOLUTIONS: tuple[int, ...] = get_args(Resolution)
SPLITS: tuple[str, ...] = get_args(Split)
