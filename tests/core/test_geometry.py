"""One matrix for pixels and points: both move alike."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from popos_cli.core.geometry import (
    box_iou,
    compose,
    crop_matrix,
    crop_middle,
    edges_to_square,
    invert,
    tight_square,
    transform,
    warp,
)

quick = settings(deadline=None, max_examples=50, derandomize=True)
places = st.tuples(st.floats(-500, 5000), st.floats(-500, 5000))
alignments = st.sampled_from(["center", "mmpose", "hrnet"])


def dot(size, place, spread):
    """A grey picture (H, W, 3) with one Gaussian dot; size (W, H), place x then y."""
    x, y = np.arange(size[0]), np.arange(size[1])
    gx = np.exp(-((x - place[0]) ** 2) / (2 * spread**2))
    gy = np.exp(-((y - place[1]) ** 2) / (2 * spread**2))
    return np.repeat(np.round(255 * np.outer(gy, gx)).astype(np.uint8)[..., None], 3, axis=2)


def centroid(image):
    weight = image[..., 0].astype(float)
    y, x = np.indices(weight.shape)
    return np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum()


@quick
@given(
    center=places,
    side=st.floats(20, 4000),
    image_size=st.sampled_from([64, 256, 384]),
    alignment=alignments,
    rotation=st.floats(-180, 180),
    flip=st.booleans(),
    points=st.lists(places, min_size=1, max_size=5),
)
def test_invert_brings_points_back(center, side, image_size, alignment, rotation, flip, points):
    matrix = crop_matrix(np.array(center), side, image_size, alignment, rotation, flip)
    points = np.array(points)
    there = transform(points, matrix)
    np.testing.assert_allclose(transform(there, invert(matrix)), points, atol=1e-6)
    # The centre lands in the middle, and lengths scale by crop over side.
    middle = np.full((1, 2), crop_middle(image_size, alignment))
    np.testing.assert_allclose(transform(np.array([center]), matrix), middle, atol=1e-6)
    moved = np.linalg.norm(there - middle, axis=1)
    radius = np.linalg.norm(points - np.array(center), axis=1)
    np.testing.assert_allclose(moved, radius * image_size / side, rtol=1e-6, atol=1e-6)


def test_matrices_come_in_batches_and_compose():
    rng = np.random.default_rng(0)
    matrices = np.stack([crop_matrix(rng.uniform(0, 99, 2), 80, 64, rotation=r) for r in (0, 20, 40)])
    points = rng.uniform(0, 99, (3, 7, 2))
    moved, back = transform(points, matrices), invert(matrices)
    for i in range(3):
        np.testing.assert_allclose(moved[i], transform(points[i], matrices[i]))
        np.testing.assert_allclose(back[i], invert(matrices[i]))
    both = transform(transform(points[0], matrices[0]), matrices[1])
    np.testing.assert_allclose(transform(points[0], compose(matrices[1], matrices[0])), both)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("rotation", [0.0, 33.0, -120.0])
@pytest.mark.parametrize("alignment", ["center", "mmpose", "hrnet"])
@pytest.mark.parametrize("side", [60.0, 100.0, 180.0])
def test_pixels_and_points_move_alike(flip, rotation, alignment, side):
    place = np.array([93.3, 71.8])
    matrix = crop_matrix(np.array([88.6, 80.1]), side, 128, alignment, rotation, flip)
    crop = warp(dot((181, 160), place, spread=3.0), matrix, 128)
    # OpenCV samples at 1/32 pixel.
    np.testing.assert_allclose(centroid(crop), transform(place[None], matrix)[0], atol=0.04)


@pytest.mark.parametrize("shrink", [2.0, 3.0, 4.0, 5.5, 8.0, 17.0])
@pytest.mark.parametrize("size", [(1024, 768), (1023, 771), (901, 1101)])
def test_shrinking_keeps_the_place(shrink, size):
    place = np.array([0.52 * size[0] + 0.3, 0.49 * size[1]])
    center, side = np.array([0.5 * size[0], 0.5 * size[1]]), shrink * 128
    matrix = crop_matrix(center, side, 128, rotation=25.0)
    crop = warp(dot(size, place, spread=2.0 * shrink), matrix, 128)
    np.testing.assert_allclose(centroid(crop), transform(place[None], matrix)[0], atol=0.1)


def test_shrinking_does_not_skip_pixels():
    """Lines one pixel wide, every eighth pixel: bilinear sampling alone would hit all or none."""
    image = np.zeros((1024, 1024, 3), np.uint8)
    image[:, ::8] = 240
    crop = warp(image, crop_matrix(np.array([511.5, 511.5]), 1024, 128), 128)
    inside = crop[4:-4, 4:-4].astype(float)
    assert inside.mean() == pytest.approx(240 / 8, rel=0.05)
    assert inside.max() < 60


@pytest.mark.parametrize("place", [(330.0, 250.0), (20.0, 30.0), (640.0, 470.0), (-60.0, 240.0)])
@pytest.mark.parametrize("side", [150.0, 300.0])
def test_a_shrunk_crop_is_cut_from_the_whole_picture_halved(place, side):
    """Only the part that the crop shows is halved: bit-identical to halving all, at the borders too."""
    image = np.random.default_rng(0).integers(0, 256, (512, 704, 3), dtype=np.uint8)
    matrix = crop_matrix(np.array(place), side, 64, rotation=20.0)
    times = int(np.log2(side / 64))
    half = image
    for _ in range(times):
        half = cv2.resize(half, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    block = 2**times
    middle = (block - 1) / 2
    from_half = compose(matrix, np.array([[block, 0, middle], [0, block, middle]]))
    assert np.array_equal(warp(image, matrix, 64), warp(half, from_half, 64))


@pytest.mark.parametrize("tall", [False, True])
@pytest.mark.parametrize(("side", "rotation"), [(60.0, 0.0), (64.0, 33.0), (300.0, -70.0)])
def test_a_crop_of_a_picture_longer_than_opencv_warps(tall, side, rotation):
    """The same pixels as from a part of the picture, also at its far end, halved or not."""
    noise = np.random.default_rng(0).integers(0, 256, (512, 1024, 3), dtype=np.uint8)
    left = 38_912  # whole blocks of pixels away
    wide = np.zeros((512, left + 1024, 3), np.uint8)
    wide[:, left:] = noise
    place = np.array([900.0, 240.0])
    far = np.array([left, 0.0])
    if tall:
        wide, noise, place, far = (
            wide.swapaxes(0, 1).copy(),
            noise.swapaxes(0, 1).copy(),
            place[::-1],
            far[::-1],
        )
    crop = warp(wide, crop_matrix(place + far, side, 64, rotation=rotation), 64)
    expected = warp(noise, crop_matrix(place, side, 64, rotation=rotation), 64)
    # A position is rounded to 1/32 pixel, of which the last bit may fall otherwise so far out.
    assert np.mean(crop != expected) < 0.01
    assert crop.any()


@pytest.mark.parametrize("shape", [(40_000, 3), (2, 40_000), (40_000, 40)])
def test_the_whole_of_a_long_thin_picture_is_warped(shape):
    image = np.full((*shape, 3), 255, np.uint8)
    middle = np.array(shape[::-1]) / 2 - 0.5
    assert warp(image, crop_matrix(middle, 40_000, 64), 64).shape == (64, 64, 3)
    assert warp(image, crop_matrix(middle, 10, 64), 64)[32, 32].tolist() == [255] * 3


def test_outside_is_black_and_the_picture_untouched():
    image = np.full((40, 50, 3), 200, np.uint8)
    crop = warp(image, crop_matrix(np.array([0.0, 0.0]), 64, 64), 64)
    assert not crop[:31].any() and not crop[:, :31].any()
    assert (crop[33:60, 33:60] == 200).all() and (image == 200).all()
    for place in ((-400.0, 200.0), (300.0, 900.0), (1500.0, 1500.0)):  # shrunk, and beside the picture
        assert not warp(image, crop_matrix(np.array(place), 300.0, 64), 64).any()


@pytest.mark.parametrize("alignment", ["center", "mmpose", "hrnet"])
def test_flip_mirrors_about_the_crops_middle(alignment):
    center, side, points = np.array([70.3, 55.0]), 90.0, np.random.default_rng(0).uniform(0, 120, (9, 2))
    plain = transform(points, crop_matrix(center, side, 128, alignment, 15.0))
    flipped = transform(points, crop_matrix(center, side, 128, alignment, 15.0, flip=True))
    middle = crop_middle(128, alignment)
    np.testing.assert_allclose(flipped[:, 0], 2 * middle - plain[:, 0])
    np.testing.assert_allclose(flipped[:, 1], plain[:, 1])


def test_a_flipped_crop_is_the_mirrored_crop():
    noise = np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    image = cv2.resize(noise, (192, 160), interpolation=cv2.INTER_CUBIC)
    arguments = (np.array([95.0, 80.0]), 128, 128, "center")
    plain = warp(image, crop_matrix(*arguments), 128)
    assert np.array_equal(warp(image, crop_matrix(*arguments, flip=True), 128), plain[:, ::-1])


def test_rotation_is_counter_clockwise_on_the_screen():
    matrix = crop_matrix(np.array([50.0, 50.0]), 128, 128, "mmpose", rotation=90.0)
    right, top = transform(np.array([[60.0, 50.0], [50.0, 40.0]]), matrix)
    np.testing.assert_allclose(right, [64, 54], atol=1e-9)  # up: y points down
    np.testing.assert_allclose(top, [54, 64], atol=1e-9)


def test_tight_square_rounds_outwards_and_leaves_nan_out():
    points = np.array([[10.4, 20.0], [30.6, 24.2], [np.nan, np.nan], [12.0, 29.01]])
    center, side = tight_square(points)  # x 10..31, y 20..30
    np.testing.assert_array_equal(center, [20.5, 25.0])
    assert side == 21.0


def test_edges_to_square_gives_pixel_centres():
    """A box of 4 x 6 pixels at (10, 20) covers the centres 10..13 and 20..25."""
    center, side = edges_to_square(np.array([10, 20, 4, 6]))
    np.testing.assert_array_equal(center, [11.5, 22.5])
    assert side == 6.0


def test_box_iou():
    box = np.array([0.0, 0.0, 4.0, 2.0])
    boxes = np.array(
        [[0, 0, 4, 2], [2, 1, 4, 2], [4, 0, 4, 2], [9, 9, 1, 1], [1, 0.5, 2, 1], [0, 0, 0, 0]], float
    )
    np.testing.assert_allclose(box_iou(box, boxes), [1, 2 / 14, 0, 0, 2 / 8, 0])
    assert not box_iou(np.zeros(4), np.zeros((1, 4))).any()
