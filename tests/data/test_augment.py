"""What is drawn for a face, and what the draw does to its picture."""

import cv2
import numpy as np
import pytest
import torch
from pydantic import ValidationError

from popos_cli.data.augment import BLUR, JPEG_QUALITY, PLAIN, Augment, change_colours, lose_detail


def photometric(**changed):
    """PLAIN but for some parameters, by name."""
    names = ("brightness", "contrast", "saturation", "width", "sigma", "quality")
    return np.array([changed.get(name, plain) for name, plain in zip(names, PLAIN, strict=True)], np.float32)


def draws(augment, count=300, size=256):
    rng = np.random.default_rng(0)
    return np.array([augment.draw_photometric(size, rng) for _ in range(count)])


def blend(image, other, factor):
    return (factor * image + (1 - factor) * other).clamp(0, 1)


def grey(image):
    """Luma of red, green and blue as ITU-R 601 has it."""
    return (image * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(0, keepdim=True)


@pytest.mark.parametrize(
    "factors",
    [
        (0.4, 1, 1),
        (1.9, 1, 1),
        (1, 0.3, 1),
        (1, 1.8, 1),
        (1, 1, 0.4),
        (1, 1, 1.7),
        (1, 1, 0),
        (1.4, 1.3, 0.7),
    ],
)
def test_colours_are_blends_with_black_mean_grey_and_grey_in_this_order(factors):
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 64, 64), dtype=np.uint8))
    brightness, contrast, saturation = factors
    expected = blend(image / 255, 0.0, brightness)
    expected = blend(expected, grey(expected).mean(), contrast)
    expected = blend(expected, grey(expected), saturation)
    before = image.clone()
    found = change_colours(image, np.array([*factors, 0, 0, 0], np.float32))
    assert found.dtype == torch.uint8 and torch.equal(image, before)
    assert (found - expected * 255).abs().max() < 0.6


def test_plain_parameters_change_nothing():
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert np.array_equal(lose_detail(image, photometric()), image)
    planes = torch.from_numpy(image).permute(2, 0, 1)
    assert torch.equal(change_colours(planes, photometric()), planes)
    assert (draws(Augment.only(), 5) == PLAIN).all()


def test_factors_widths_and_qualities_stay_in_their_range():
    found = draws(Augment.only(brightness=0.4, contrast=0.2, saturation=0.3))
    for factors, strength in zip(found.T[:3], (0.4, 0.2, 0.3), strict=True):
        assert 1 - strength <= factors.min() < 1 - 0.9 * strength
        assert 1 + 0.9 * strength < factors.max() <= 1 + strength
    assert not found[:, 3:].any()
    always = Augment.only(grey=1.0, low_resolution=1.0, blur=1.0, jpeg=1.0)
    found = draws(always)
    assert (found[:, :3] == (1, 1, 0)).all()
    for column, (low, high), edge in ((3, (32, 128), 4), (4, BLUR, 0.1), (5, JPEG_QUALITY, 3)):
        values = found[:, column]
        assert low <= values.min() < low + edge and high - edge < values.max() <= high
    assert (found[:, 5] % 1 == 0).all()
    assert (draws(always, size=128)[:, 3:5] < (64, 1.6)).all()  # as much of a smaller picture
    assert 0.4 < (draws(Augment.only(grey=0.5))[:, 2] == 0).mean() < 0.6


@pytest.mark.parametrize(
    ("part", "column"), [("brightness", 0), ("contrast", 1), ("low_resolution", 3), ("blur", 4), ("jpeg", 5)]
)
def test_a_part_that_is_off_leaves_the_others_their_draw(part, column):
    strong = {
        "brightness": 0.4,
        "contrast": 0.2,
        "grey": 0.5,
        "low_resolution": 0.9,
        "blur": 0.9,
        "jpeg": 0.9,
    }
    found, without = draws(Augment.only(**strong), 40), draws(Augment.only(**{**strong, part: 0.0}), 40)
    assert (without[:, column] == PLAIN[column]).all() and (found[:, column] != PLAIN[column]).any()
    others = np.delete(np.arange(len(PLAIN)), column)
    assert np.array_equal(found[:, others], without[:, others])


def squares(augment, count=2000):
    """Centres (F, 2), sides (F,), rotations (F,) and mirrors (F,) of crops around (50, 60), side 100."""
    rng = np.random.default_rng(0)
    found = [augment.draw_square(np.array([50.0, 60.0]), 100.0, rng) for _ in range(count)]
    return tuple(map(np.array, zip(*found, strict=True)))


def test_the_reference_recipes_crops():
    """N(1, .25) clipped at .75 and 1.25; N(0, 30 degrees) clipped at 60 for six in ten; nothing else."""
    centers, sides, rotations, mirrors = squares(
        Augment.only(rotation=30, rotation_share=0.6, scale=0.25, scale_clip=1.0, flip=0.5)
    )
    assert (sides.min(), sides.max()) == (75, 125) and abs(sides.mean() - 100) < 1.5
    assert 0.13 < (sides == 75).mean() < 0.19 and 0.13 < (sides == 125).mean() < 0.19  # 16 % each
    turned = rotations[rotations != 0]
    assert 0.57 < len(turned) / len(rotations) < 0.63
    assert (turned.min(), turned.max()) == (-60, 60) and 27 < turned.std() < 30.5
    assert (centers == (50, 60)).all() and 0.46 < mirrors.mean() < 0.54


def test_a_crop_stays_where_nothing_moves_it():
    """And is shifted by fractions of its side along both axes."""
    centers, sides, rotations, mirrors = squares(Augment.only(scale_clip=3.0), 50)
    assert (centers == (50, 60)).all() and (sides == 100).all() and not rotations.any() and not mirrors.any()
    moved = (squares(Augment.only(shift=0.05))[0] - (50, 60)) / 100
    assert np.abs(moved).max() == pytest.approx(0.1)  # twice that at most
    assert (np.abs(moved.std(0) - 0.048) < 0.003).all() and abs(np.corrcoef(moved.T)[0, 1]) < 0.1


@pytest.mark.parametrize(
    ("name", "values", "most"),
    [("width", (128, 64, 32), 20), ("sigma", (0.5, 1.5, 3), 20), ("quality", (75, 40, 15), 40)],
)
def test_more_and_more_detail_is_lost(name, values, most):
    """Detail, but not the mean of each of its colours; and the input stays."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(30, 220, (16, 16, 3), dtype=np.uint8)
    picture = cv2.resize(coarse, (256, 256), interpolation=cv2.INTER_CUBIC)
    picture[::4, ::4] += 30
    before, losses = picture.copy(), []
    for value in values:
        image = lose_detail(picture, photometric(**{name: value}))
        assert image.shape == picture.shape and image.dtype == np.uint8
        assert np.abs(image.mean((0, 1)) - picture.mean((0, 1))).max() < 2
        losses.append(np.abs(image.astype(int) - picture).mean())
    assert 0 < losses[0] < losses[1] < losses[2] < most
    assert np.array_equal(picture, before)


@pytest.mark.parametrize("loss", [{"width": 57}, {"sigma": 2.2}])
def test_landmarks_stay_where_they_are_when_detail_is_lost(loss):
    """What is symmetric about the middle stays so."""
    picture = np.zeros((256, 256, 3), np.uint8)
    picture[90:166, 90:166] = 200
    image = lose_detail(picture, photometric(**loss)).astype(int)
    assert np.abs(image - image[::-1, ::-1]).max() <= 1
    assert not np.array_equal(image, picture)


def test_a_patch_covers_part_of_the_picture():
    rng = np.random.default_rng(0)
    kinds = set()
    for _ in range(40):
        image = np.zeros((50, 50, 3), np.uint8)
        Augment.only(occlusion=1.0).occlude(image, rng)
        rows, columns = np.nonzero(image.any(2))
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert 4 <= height <= 20 and 4 <= width <= 20
        patch = image[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        kinds.add("colour" if (patch == patch[:1, :1]).all() else "noise")
    assert kinds == {"colour", "noise"}
    image = np.zeros((50, 50, 3), np.uint8)
    Augment.only().occlude(image, rng)
    assert not image.any()


@pytest.mark.parametrize("wrong", [{"rotation": 91}, {"flip": -0.1}, {"scale": float("nan")}, {"look": 1}])
def test_strengths_out_of_range_and_unknown_ones_are_refused(wrong):
    with pytest.raises(ValidationError):
        Augment.only(**wrong)
