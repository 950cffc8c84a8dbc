"""Names and sizes that a user may choose from, each listed once. Imports nothing heavy, so that the command
line and the settings can use it without loading torch."""

from typing import Literal, get_args

Resolution = Literal[64, 32, 16, 8, 4]  # heatmap width and height, pixels
RESOLUTIONS: tuple[Resolution, ...] = get_args(Resolution)

DecoderName = Literal["one-hot", "two-hot", "dark", "keyposs", "gauss-newton", "popos", "ml"]
DECODER_NAMES: tuple[DecoderName, ...] = get_args(DecoderName)
DEFAULT_DECODER: DecoderName = "ml"

# Where heatmap pixel i sits on the crop: (i + .5) * stride - .5, i * stride, or (i + .5) * stride + .5.
Alignment = Literal["center", "mmpose", "hrnet"]
ALIGNMENTS: tuple[Alignment, ...] = get_args(Alignment)

StemNorm = Literal["own", "shared"]  # batch norms behind the stem's extra convolutions
Fusion = Literal["nearest", "bilinear"]  # how HRNet enlarges its coarser branches

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # of RGB in 0..1
IMAGENET_STD = (0.229, 0.224, 0.225)
# Range of sigma, heatmap pixels: a narrower Gaussian may miss all pixels, a wider one is flat in float32.
SIGMAS = (0.1, 256.0)

ExportInput = Literal["uint8", "float"]  # crops of 0..255 or of 0..1

# The least score of a face: on 399 photos of WIDER FACE (`popos bench faces`).
MIN_SCORE = 0.75
DetectorName = Literal["auto", "haar", "yunet"]

Split = Literal["train", "val", "test", "private"]  # private: 300W's 600 faces of 2014
SPLITS: tuple[Split, ...] = get_args(Split)

# Pixels that a box around a face exceeds: a box in shares of the picture, 0..1, may reach a little over its
# border, and no face has two pixels.
SMALLEST_BOX = 2

BENCHMARK_NAMES = ("300w", "wflw", "cofw", "aflw", "coco-face")
IMPORTERS = ("custom", "synthetic", *BENCHMARK_NAMES)  # what `popos prepare-data` reads; "custom": own labels
