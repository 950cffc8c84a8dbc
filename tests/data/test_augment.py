"""What is drawn for a face; how the loader softens it; and its colours on the training device, which are
torchvision's, the same one by one."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as TF

from popos_cli.data.augment import BLURS, PLAIN, Augment, apply_colours, soften

SIZE = 64
COLOURS = {
    "plain": PLAIN,
    "dark": (0.4, 1, 1, 0, 0, 0),
    "bright": (1.9, 1, 1, 0, 0, 0),
    "flat": (1, 0.3, 1, 0, 0, 0),
    "hard": (1, 1.8, 1, 0, 0, 0),
    "pale": (1, 1, 0.4, 0, 0, 0),
    "garish": (1, 1, 1.7, 0, 0, 0),
    "grey": (1, 1, 0, 0, 0, 0),
    "all": (1.4, 1.3, 0.7, 0, 0, 0),
    "dark, hard and grey": (0.7, 1.4, 0, 0, 0, 0),
    "softened, which is done": (1, 1, 1, 23, 2.5, 40),
}


@pytest.fixture
def images():
    """One picture for each of COLOURS: soft shapes, and noise up to black and white."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(len(COLOURS), 3, 8, 8, generator=generator)
    soft = torch.nn.functional.interpolate(coarse, SIZE, mode="bicubic")
    return (soft + 0.2 * torch.randn(soft.shape, generator=generator)).clamp(0, 1)


@pytest.fixture
def look():
    return torch.tensor(list(COLOURS.values()), dtype=torch.float32)


def by_torchvision(image, look):
    brightness, contrast, saturation = look[:3].tolist()
    image = TF.adjust_contrast(TF.adjust_brightness(image, brightness), contrast)
    return TF.adjust_saturation(image, saturation) if saturation else TF.rgb_to_grayscale(image, 3)


def test_colours_are_torchvisions(images, look):
    for name, ours, image, parameters in zip(COLOURS, apply_colours(images, look), images, look, strict=True):
        torch.testing.assert_close(
            ours,
            by_torchvision(image, parameters),
            rtol=0,
            atol=2e-4,
            msg=lambda m, name=name: f"{name}: {m}",
        )


def test_a_batch_is_its_single_pictures(images, look):
    together = apply_colours(images, look)
    for n in range(len(COLOURS)):
        alone = apply_colours(images[n : n + 1], look[n : n + 1])
        torch.testing.assert_close(alone[0], together[n], rtol=0, atol=1e-6)


def test_colours_keep_the_layout_and_their_input(images, look):
    batch = images.contiguous(memory_format=torch.channels_last)
    before = batch.clone()
    seen = apply_colours(batch, look)
    assert seen.is_contiguous(memory_format=torch.channels_last) and seen.dtype == torch.float32
    assert torch.equal(batch, before)
    assert torch.equal(seen[0], batch[0])  # plain: not a bit changes
    torch.testing.assert_close(seen, apply_colours(images, look), rtol=0, atol=1e-6)


def test_probabilities_end_and_factors_stay_in_their_range():
    rng = np.random.default_rng(0)
    never = Augment(brightness=0.4, contrast=0.2, saturation=0.3)
    always = Augment(grey=1.0, low_resolution=1.0, blur=1.0, jpeg=1.0)
    looks = np.array([never.look(256, rng) for _ in range(300)])
    for factors, strength in zip(looks.T[:3], (0.4, 0.2, 0.3), strict=True):
        assert 1 - strength <= factors.min() < 1 - 0.9 * strength
        assert 1 + 0.9 * strength < factors.max() <= 1 + strength
    assert not looks[:, 3:].any()
    looks = np.array([always.look(256, rng) for _ in range(300)])
    assert (looks[:, :3] == (1, 1, 0)).all()
    assert (looks[:, 3] >= 32).all() and (looks[:, 3] < 128).all() and len(set(looks[:, 3])) > 50
    assert BLURS[0] <= looks[:, 4].min() < 0.6 and 2.9 < looks[:, 4].max() <= BLURS[1]
    assert looks[:, 5].min() < 20 < 70 < looks[:, 5].max()
    assert (looks[:, 5] >= 15).all() and (looks[:, 5] <= 75).all() and (looks[:, 5] % 1 == 0).all()
    assert (always.look(128, rng)[3:5] < (64, 1.6)).all()  # as much of a smaller picture
    assert Augment().look(256, rng).tolist() == list(PLAIN)


@pytest.mark.parametrize(
    ("part", "columns"),
    [("brightness", 0), ("contrast", 1), ("low_resolution", 3), ("blur", 4), ("jpeg", 5)],
)
def test_a_part_that_is_off_leaves_the_others_their_draw(part, columns):
    strong = Augment(brightness=0.4, contrast=0.2, grey=0.5, low_resolution=0.9, blur=0.9, jpeg=0.9)
    looks, without = (
        np.array([augment.look(256, np.random.default_rng(n)) for n in range(40)])
        for augment in (strong, replace(strong, **{part: 0.0}))
    )
    assert (without[:, columns] == PLAIN[columns]).all() and (looks[:, columns] != PLAIN[columns]).any()
    others = np.delete(np.arange(len(PLAIN)), columns)
    assert np.array_equal(looks[:, others], without[:, others])


def placed(augment, count=2000):
    """Centres (F, 2), sides (F,), rotations (F,) and mirrors (F,) of crops around (50, 60), side 100."""
    rng = np.random.default_rng(0)
    places = [augment.place(np.array([50.0, 60.0]), 100.0, rng) for _ in range(count)]
    return tuple(map(np.array, zip(*places, strict=True)))


def test_the_reference_draws_its_crops_so():
    """N(1, .25) clipped at .75 and 1.25; N(0, 30 degrees) clipped at 60 for six in ten; nothing else."""
    centers, sides, rotations, mirrors = placed(
        Augment(rotation=30, rotation_share=0.6, scale=0.25, scale_clip=1.0, flip=0.5)
    )
    assert (sides.min(), sides.max()) == (75, 125) and abs(sides.mean() - 100) < 1.5
    assert 0.13 < (sides == 75).mean() < 0.19 and 0.13 < (sides == 125).mean() < 0.19  # 16 % each
    turned = rotations[rotations != 0]
    assert 0.57 < len(turned) / len(rotations) < 0.63
    assert (turned.min(), turned.max()) == (-60, 60) and 27 < turned.std() < 30.5
    assert (centers == (50, 60)).all() and 0.46 < mirrors.mean() < 0.54


def test_a_crop_stays_where_nothing_moves_it():
    """And is shifted by fractions of its side along both axes."""
    centers, sides, rotations, mirrors = placed(Augment(rotation_share=1.0, scale_clip=3.0), 50)
    assert (centers == (50, 60)).all() and (sides == 100).all() and not rotations.any() and not mirrors.any()
    moved = (placed(Augment(shift=0.05))[0] - (50, 60)) / 100
    assert np.abs(moved).max() == pytest.approx(0.1)  # twice that at most
    assert (np.abs(moved.std(0) - 0.048) < 0.003).all() and abs(np.corrcoef(moved.T)[0, 1]) < 0.1


@pytest.mark.parametrize(
    ("column", "values", "most"), [(3, (128, 64, 32), 20), (4, (0.5, 1.5, 3), 20), (5, (75, 40, 15), 40)]
)
def test_softening_loses_more_and_more(column, values, most):
    """Detail, but not the mean of each of its colours; and the picture that came in stays."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(30, 220, (16, 16, 3), dtype=np.uint8)
    picture = cv2.resize(coarse, (256, 256), interpolation=cv2.INTER_CUBIC)
    picture[::4, ::4] += 30
    before, losses = picture.copy(), []
    for value in values:
        look = np.array(PLAIN, np.float32)
        look[column] = value
        image = soften(picture, look)
        assert image.shape == picture.shape and image.dtype == np.uint8
        assert np.abs(image.mean((0, 1)) - picture.mean((0, 1))).max() < 2
        losses.append(np.abs(image.astype(int) - picture).mean())
    assert 0 < losses[0] < losses[1] < losses[2] < most
    assert np.array_equal(picture, before)
    assert np.array_equal(soften(picture, np.array(PLAIN, np.float32)), picture)


def test_softening_is_centred():
    """Landmarks stay where they are: what is symmetric about the middle stays so."""
    picture = np.zeros((256, 256, 3), np.uint8)
    picture[90:166, 90:166] = 200
    for look in ((1, 1, 1, 57, 0, 0), (1, 1, 1, 0, 2.2, 0)):
        image = soften(picture, np.array(look, np.float32)).astype(int)
        assert np.abs(image - image[::-1, ::-1]).max() <= 1
        assert not np.array_equal(image, picture)


def test_a_patch_covers_part_of_the_picture():
    rng = np.random.default_rng(0)
    kinds = set()
    for _ in range(40):
        image = np.zeros((50, 50, 3), np.uint8)
        Augment(occlusion=1.0).occlude(image, rng)
        rows, columns = np.nonzero(image.any(2))
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert 4 <= height <= 20 and 4 <= width <= 20
        patch = image[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        kinds.add("colour" if (patch == patch[:1, :1]).all() else "noise")
    assert kinds == {"colour", "noise"}
    image = np.zeros((50, 50, 3), np.uint8)
    Augment().occlude(image, rng)
    assert not image.any()
