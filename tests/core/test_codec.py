"""Encode and decode as a pair: what holds for any landmark, map, size and dtype."""

import copy
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from popos_cli.core.calibration import FEATURES, Calibration
from popos_cli.core.codec import Codec
from popos_cli.core.decoders import DECODERS

EVERY = sorted(DECODERS)
EXACT = ["gauss-newton", "keyposs", "ml"]  # exact on a clean heatmap
SIZES = [64, 32, 16, 8, 4]
# Sizes (W, H) of heatmap and crop: not square, and resolutions that are in no table of the decoders.
ODD_SIZES = [((24, 16), (192, 256)), ((12, 32), (96, 256)), (32, 96), (12, 96), (6, 96), (4, 4)]

quick = settings(deadline=None, max_examples=20, derandomize=True)
seeds = st.integers(0, 2**32 - 1)


def landmarks(codec, count, seed, margin=0.0, batch=1):
    """(batch, count, 2) float64 crop pixels, at least `margin` heatmap pixels inside the hull."""
    last = np.array([codec.width - 1, codec.height - 1])
    points = np.random.default_rng(seed).uniform(margin, last - margin, (batch, count, 2))
    return codec.to_crop(torch.from_numpy(points))


def noisy(codec, count, seed, batch=1, noise=0.05):
    maps = codec.encode(landmarks(codec, count, seed, batch=batch))
    generator = torch.Generator().manual_seed(seed)
    return maps + noise * torch.randn(maps.shape, generator=generator, dtype=maps.dtype)


@pytest.mark.parametrize("decoder", EXACT)
@pytest.mark.parametrize("alignment", ["center", "mmpose", "hrnet"])
@pytest.mark.parametrize(("resolution", "image_size"), [(r, 256) for r in SIZES] + ODD_SIZES)
def test_round_trip(decoder, alignment, resolution, image_size):
    codec = Codec(resolution, image_size, decoder=decoder, alignment=alignment)
    points = landmarks(codec, 50, seed=1)
    decoded = codec.decode(codec.encode(points))
    torch.testing.assert_close(decoded.points, points, atol=0.005, rtol=0)
    torch.testing.assert_close(decoded.scores, torch.ones(1, 50).double(), atol=1e-3, rtol=0)


def test_points_outside_the_map_are_encoded_and_found():
    codec = Codec(16)
    points = torch.tensor([[[-20.0, 100.0], [270.0, 264.0], [128.0, -16.0]]])
    torch.testing.assert_close(codec.decode(codec.encode(points)).points, points, atol=0.05, rtol=0)


def test_encode_follows_its_formula():
    codec = Codec((6, 4), (48, 64), sigma=1.5)
    point = np.array([[[20.25, 41.0]]])
    px, py = (20.25 + 0.5) / 8 - 0.5, (41 + 0.5) / 16 - 0.5
    expected = [[np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * 1.5**2)) for x in range(6)] for y in range(4)]
    np.testing.assert_allclose(codec.encode(point)[0, 0], expected, rtol=1e-12)


@pytest.mark.parametrize(
    "alignment, first, last",
    [
        ("center", (7.5, 15.5), (247.5, 239.5)),
        ("mmpose", (0, 0), (240, 224)),
        ("hrnet", (8.5, 16.5), (248.5, 240.5)),
    ],
)
def test_alignment_places_the_heatmap_pixels(alignment, first, last):
    codec = Codec((16, 8), (256, 256), alignment=alignment)
    ends = torch.tensor([[0.0, 0.0], [15.0, 7.0]])
    torch.testing.assert_close(codec.to_crop(ends), torch.tensor([first, last]).float())
    torch.testing.assert_close(codec.to_heatmap(codec.to_crop(ends)), ends)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_point_that_is_not_finite_gives_a_zero_map(bad):
    codec = Codec(16)
    points = np.array([[[100.0, bad], [bad, 100.0], [100.0, 100.0]]])
    maps = codec.encode(points)
    assert not maps[0, :2].any()
    assert maps[0, 2].max() > 0.9
    np.testing.assert_array_equal(codec.decode(maps).scores[0, :2], 0)


def test_within_reach_ends_three_sigma_outside_the_map():
    codec = Codec(8, sigma=2.0)
    heatmap = torch.tensor(
        [[[-5.9, 3], [-6.1, 3], [12.9, 3], [13.1, 3], [3, -6.1], [3, 13.1], [3, torch.nan]]]
    )
    expected = torch.tensor([[True, False, True, False, False, False, False]])
    assert torch.equal(codec.within_reach(codec.to_crop(heatmap)), expected)


@pytest.mark.parametrize("decoder", EVERY)
@quick
@given(seed=seeds, resolution=st.sampled_from([4, 8, (12, 16), 32]))
def test_batch_equals_single_items(decoder, seed, resolution):
    codec = Codec(resolution, 96 if resolution == (12, 16) else 256, decoder=decoder)
    maps = noisy(codec, 3, seed, batch=2)
    whole = codec.decode(maps)
    for n in range(2):
        for k in range(3):
            one = codec.decode(maps[n : n + 1, k : k + 1])
            for field in ("points", "scores", "uncertainty"):
                expected = getattr(whole, field)[n, k]
                torch.testing.assert_close(getattr(one, field)[0, 0], expected, atol=1e-6, rtol=1e-9)


@pytest.mark.parametrize("decoder", EVERY)
@quick
@given(seed=seeds, dx=st.integers(-6, 6), dy=st.integers(-6, 6))
def test_moving_the_map_moves_the_point(decoder, seed, dx, dy):
    """A bump on a 13x13 patch, zero elsewhere, shifted by whole heatmap pixels."""
    codec = Codec(32, 256, decoder=decoder)
    rng = np.random.default_rng(seed)
    maps = codec.encode(codec.to_crop(torch.from_numpy(rng.uniform(14, 18, (1, 2, 2))))).numpy()
    patch = np.zeros_like(maps)
    patch[..., 10:23, 10:23] = (maps * rng.uniform(0.95, 1.05, maps.shape))[..., 10:23, 10:23]
    moved = codec.decode(np.roll(patch, (dy, dx), axis=(2, 3)))
    still = codec.decode(patch)
    np.testing.assert_allclose(moved.points, still.points + 8 * np.array([dx, dy]), atol=1e-6)
    np.testing.assert_allclose(moved.scores, still.scores, atol=1e-9)


# Not two-hot, keyposs under noise and popos: their border rule, block and grid favour one side.
@pytest.mark.parametrize(
    "decoder, noise", [(d, 0.05) for d in ("one-hot", "dark", "gauss-newton", "ml")] + [("keyposs", 0.0)]
)
@quick
@given(seed=seeds, size=st.sampled_from([8, 16, (16, 32)]))
def test_a_mirrored_map_gives_the_mirrored_point(decoder, noise, seed, size):
    codec = Codec(size, 256, decoder=decoder)
    maps = noisy(codec, 3, seed, noise=noise)
    points, mirrored = codec.decode(maps).points, codec.decode(maps.flip(-1)).points
    expected = torch.stack([255 - points[..., 0], points[..., 1]], dim=-1)
    torch.testing.assert_close(mirrored, expected, atol=1e-5, rtol=1e-6)


@pytest.mark.parametrize("decoder", EVERY)
def test_dtypes(decoder):
    codec = Codec(16, decoder=decoder)
    maps = noisy(codec, 4, seed=3)
    for given_dtype, expected in (
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ):
        decoded = codec.decode(maps.to(given_dtype))
        read = codec.decode(maps.to(given_dtype).to(expected))
        for field in ("points", "scores", "uncertainty"):
            assert getattr(decoded, field).dtype == expected
            assert torch.equal(getattr(decoded, field), getattr(read, field))


@pytest.mark.parametrize("decoder", EVERY)
def test_numpy_equals_torch(decoder):
    codec = Codec((12, 16), 96, decoder=decoder)
    points = landmarks(codec, 5, seed=4, batch=2)
    maps = codec.encode(points)
    np.testing.assert_array_equal(codec.encode(points.numpy()), maps.numpy())
    here, there = codec.decode(maps.numpy()), codec.decode(maps)
    for field in ("points", "scores", "uncertainty"):
        assert isinstance(getattr(here, field), np.ndarray)
        np.testing.assert_array_equal(getattr(here, field), getattr(there, field).numpy())


def assert_sane(decoded):
    assert torch.isfinite(decoded.points).all()
    assert ((decoded.scores >= 0) & (decoded.scores <= 1)).all()
    assert torch.isfinite(decoded.uncertainty).all() and (decoded.uncertainty >= 0).all()


@pytest.mark.parametrize("decoder", EVERY)
@pytest.mark.parametrize("resolution", [4, 8, 12, 32])
def test_maps_without_a_positive_value_score_zero(decoder, resolution):
    codec = Codec(resolution, 96 if resolution == 12 else 256, decoder=decoder)
    shape = (1, 1, resolution, resolution)
    fills = [torch.full(shape, v) for v in (torch.nan, torch.inf, -torch.inf, 0.0, -1.0)]
    decoded = codec.decode(torch.cat([*fills, -torch.rand(shape)], dim=1))
    assert_sane(decoded)
    assert not decoded.scores.any()
    assert (decoded.uncertainty > codec.image_width / 2).all()


@pytest.mark.parametrize("decoder", EVERY)
@settings(quick, max_examples=40)
@given(data=st.data(), size=st.sampled_from([(4, 4), (5, 7), (16, 16)]))
def test_any_map_gives_finite_numbers(decoder, data, size):
    floats = st.floats(width=32) | st.sampled_from([0.5, 1.0, 2.0**-100, 2.0**127])  # ties, tiny, huge
    maps = data.draw(hnp.arrays(np.float32, (1, 1, size[1], size[0]), elements=floats))
    codec = Codec(size, (size[0] * 8, size[1] * 8), decoder=decoder)
    assert_sane(codec.decode(torch.from_numpy(maps)))
    assert_sane(codec.decode(torch.from_numpy(maps).double()))


@pytest.mark.parametrize("decoder", EVERY)
@pytest.mark.parametrize("shape", [(0, 68), (3, 0)])
def test_empty_batches(decoder, shape):
    codec = Codec(16, decoder=decoder)
    maps = codec.encode(torch.zeros(*shape, 2))
    assert maps.shape == (*shape, 16, 16)
    decoded = codec.decode(maps)
    assert decoded.points.shape == (*shape, 2)
    assert decoded.scores.shape == decoded.uncertainty.shape == shape


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"resolution": 60}, "does not divide"),
        ({"resolution": (64, 60)}, "does not divide"),
        ({"resolution": 0}, "positive"),
        ({"resolution": 16, "image_size": -256}, "positive"),
        ({"resolution": 16, "sigma": 0}, "sigma"),
        ({"resolution": 16, "sigma": float("nan")}, "sigma"),
        ({"resolution": 16, "sigma": float("inf")}, "sigma"),
        ({"resolution": 16, "sigma": 1e-300}, "sigma"),
        ({"resolution": 16, "sigma": 1e30}, "sigma"),
        ({"resolution": 16.5}, "whole number"),
        ({"resolution": np.float32(16.5)}, "whole number"),
        ({"resolution": float("nan")}, "whole number"),
        ({"resolution": float("inf")}, "whole number"),
        ({"resolution": (16, 16.5)}, "whole number"),
        ({"resolution": True}, "whole number"),
        ({"resolution": np.True_}, "whole number"),
        ({"resolution": (16, True)}, "whole number"),
        ({"resolution": "16"}, "whole number"),
        ({"resolution": None}, "whole number"),
        ({"resolution": (16, 16, 16)}, "whole number"),
        ({"resolution": (16,)}, "whole number"),
        ({"resolution": 16, "image_size": 256.5}, "image_size"),
        ({"resolution": 16, "decoder": "onehot"}, "one-hot"),
        ({"resolution": 16, "alignment": "udp"}, "alignment"),
    ],
)
def test_wrong_settings_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Codec(**arguments)


@pytest.mark.parametrize(
    "size",
    [16.0, np.int64(16), np.uint8(16), np.float32(16), np.array(16), torch.tensor(16), (16, 16), [16, 16.0],
     (np.int32(16), np.float64(16)), np.array([16, 16])],
    ids=repr,
)  # fmt: skip
def test_a_size_is_whole_pixels_of_any_number_type(size):
    codec = Codec(size, image_size=np.int64(256))
    assert codec == Codec(16)
    assert type(codec.width) is type(codec.image_height) is int
    assert codec.encode(np.zeros((1, 2, 2))).shape == (1, 2, 16, 16)


def test_equal_codecs_are_equal():
    def calibration(bias):
        row = (0.0,) * len(FEATURES)
        return Calibration((bias, 2.0), row, row, (row, row), (row, row))

    plain = {"resolution": 16, "sigma": 1.5, "decoder": "dark", "calibration": calibration(1.0)}
    codec = Codec(**plain)
    for same in (Codec(**plain), pickle.loads(pickle.dumps(codec)), copy.deepcopy(codec)):
        assert same == codec and hash(same) == hash(codec) and len({same, codec}) == 1
    for change in (
        {"resolution": 32}, {"resolution": (16, 32)}, {"image_size": 128}, {"sigma": 2.0}, {"decoder": "ml"},
        {"alignment": "mmpose"}, {"calibration": None}, {"calibration": calibration(1.5)},
    ):  # fmt: skip
        assert Codec(**{**plain, **change}) != codec
    assert codec != repr(codec)


@pytest.mark.parametrize("shape", [(16, 16), (1, 16, 16), (1, 1, 16, 8), (1, 1, 8, 16)])
def test_maps_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match="heatmaps must be"):
        Codec(16).decode(torch.zeros(shape))


def test_reads_what_mmpose_draws():
    """mmpose's `_msra_generate_target` with unbiased encoding on a body's 48x64 map, here written
    out: mu = joint / stride, pixel i at i; and a peak that is not 1."""
    joints = np.random.default_rng(0).uniform((10, 10), (180, 245), (3, 17, 2))
    x, y = np.arange(48), np.arange(64)[:, None]
    mu = joints / 4
    maps = 0.8 * np.exp(
        -((x - mu[..., None, None, 0]) ** 2 + (y - mu[..., None, None, 1]) ** 2) / (2 * 1.5**2)
    )
    codec = Codec(resolution=(48, 64), image_size=(192, 256), sigma=1.5, alignment="mmpose")
    decoded = codec.decode(maps)
    np.testing.assert_allclose(decoded.points, joints, atol=1e-3)
    np.testing.assert_allclose(decoded.scores, 0.8, atol=1e-3)
