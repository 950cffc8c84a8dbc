"""The way back from heatmaps to the picture, and the flip test."""

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from popos_cli.core.codec import Codec
from popos_cli.core.decoders import DECODERS
from popos_cli.core.geometry import crop_matrix, transform
from popos_cli.core.inference import decode_to_image, flip_back, predict_heatmaps, to_model_input
from popos_cli.core.schemes import W300
from popos_cli.data.pictures import read_image
from popos_cli.evaluate.detections import detect_all
from popos_cli.prepare.synthetic import prepare_synthetic

FLIP_INDEX = torch.from_numpy(W300.flip_index)


def faces(count=3):
    return torch.from_numpy(np.random.default_rng(0).uniform(40, 215, (count, 68, 2))).double()


def mirrored(points):
    """Where landmarks of the mirrored 256-pixel crop lie, in its own order."""
    flipped = points[:, FLIP_INDEX].clone()
    flipped[..., 0] = 255 - flipped[..., 0]
    return flipped


def test_heatmaps_of_the_mirrored_crop_come_back_exactly_in_center_alignment():
    codec = Codec(16, alignment="center")
    back = flip_back(codec.encode(mirrored(faces())), FLIP_INDEX, "center")
    assert torch.allclose(back, codec.encode(faces()), atol=1e-12)


def test_in_mmpose_alignment_the_shift_by_one_pixel_leaves_one_crop_pixel():
    codec = Codec(16, alignment="mmpose", decoder="ml")
    inner = faces() / 3 + 90  # the doubled first column is out of the decoder's window
    back = flip_back(codec.encode(mirrored(inner)), FLIP_INDEX, "mmpose")
    # The grid lies 1 - 1/stride heatmap pixels aside, mmpose shifts by 1: 1/stride is one crop pixel.
    difference = codec.decode(back).points - inner
    assert torch.allclose(difference[..., 0], torch.ones(3, 68).double(), atol=0.05)
    assert torch.allclose(difference[..., 1], torch.zeros(3, 68).double(), atol=0.05)


@pytest.mark.parametrize("alignment", ["center", "hrnet"])
def test_both_views_of_the_flip_test_give_the_same_point(alignment):
    codec = Codec(64, alignment=alignment)

    class FindsTheDot(torch.nn.Module):
        """The heatmap of the brightest spot's centre."""

        def forward(self, images):
            light = images[:, 0] / images[:, 0].sum((1, 2), keepdim=True)
            at = torch.arange(256.0)
            return codec.encode(
                torch.stack([(light.sum(1) * at).sum(1), (light.sum(2) * at).sum(1)], 1)[:, None]
            )

    dot = Codec(256, sigma=3.0).encode(torch.tensor([[[90.3, 140.6]]]))
    heatmaps = predict_heatmaps(FindsTheDot(), dot.repeat(1, 3, 1, 1), torch.tensor([0]), alignment)
    torch.testing.assert_close(
        codec.decode(heatmaps).points, torch.tensor([[[90.3, 140.6]]]), atol=0.01, rtol=0
    )


def test_the_flip_test_averages_both_views():
    class Left(torch.nn.Module):
        """Heatmaps that only look at the crop's left half: a mirror image gives other ones."""

        def forward(self, images):
            return images[:, :1, ::16, ::16].repeat(1, 68, 1, 1) * (torch.arange(16) < 8)

    images = torch.rand(2, 3, 256, 256)
    plain = predict_heatmaps(Left(), images, None, "center")
    other = flip_back(predict_heatmaps(Left(), images.flip(-1), None, "center"), FLIP_INDEX, "center")
    both = predict_heatmaps(Left(), images, FLIP_INDEX, "center")
    assert torch.allclose(both, (plain + other) / 2)
    assert not torch.allclose(both, plain)


def test_points_return_through_the_inverse_matrix_and_uncertainty_scales_with_it():
    codec = Codec(32)
    truth = np.random.default_rng(1).uniform(300, 380, (2, 68, 2))
    matrices = np.stack(
        [
            crop_matrix(np.array([340.0, 340.0]), side, 256, rotation=turn)
            for side, turn in ((128, 20), (512, -5))
        ]
    )
    heatmaps = codec.encode(torch.from_numpy(transform(truth, matrices)))
    heatmaps = heatmaps + 0.01 * torch.randn(heatmaps.shape, generator=torch.manual_seed(0))
    found = decode_to_image(codec, heatmaps, matrices, (1.0, 2.0))
    error = found.points + (1.0, 2.0) - truth
    assert np.abs(error).mean(axis=(1, 2))[0] < 0.1  # half a source pixel is one crop pixel
    # The same crop uncertainty is four times as many source pixels in a crop four times as wide.
    ratio = found.uncertainty[1].mean() / found.uncertainty[0].mean()
    assert 3.5 < ratio < 4.5


def test_detectors_get_the_stored_pictures_in_rgb(tmp_path):
    index = prepare_synthetic(tmp_path / "faces", 2, W300, seed=0)
    seen = []

    def detector(picture):
        seen.append(picture.copy())
        return []

    assert detect_all(index, detector) == [[], []]
    for picture, name in zip(seen, index.image, strict=True):
        np.testing.assert_array_equal(picture, read_image(index.root / name, upright=False))


class NoDouble(TorchDispatchMode):
    """Refuses float64, as Apple's GPUs do."""

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        result = function(*arguments, **(options or {}))
        for value in tree_leaves(result):
            assert not (isinstance(value, torch.Tensor) and value.dtype == torch.float64), function
        return result


@pytest.mark.parametrize("decoder", DECODERS)
def test_nothing_is_float64_on_the_device(decoder):
    """From a loader's bytes to points in the picture, with the flip test."""
    codec, images = Codec(4, decoder=decoder), torch.zeros(2, 3, 256, 256, dtype=torch.uint8)
    model = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(4), torch.nn.Conv2d(3, 68, 1))
    matrices = np.tile(np.eye(2, 3), (2, 1, 1))
    with NoDouble():
        batch = to_model_input(images, torch.device("cpu"))
        heatmaps = predict_heatmaps(model, batch, FLIP_INDEX, "center")
        found = decode_to_image(codec, heatmaps, matrices, (0.0, 0.0))
        codec.calibration_features(heatmaps)
    assert found.points.dtype == found.scores.dtype == found.uncertainty.dtype == np.float64
