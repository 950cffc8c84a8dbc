"""The look of a batch on the training device: torchvision's pictures, the same one by one."""

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as TF

from popos_cli.data.augment import PLAIN, Augment, apply_look

SIZE = 64
LOOKS = {
    "plain": PLAIN,
    "dark": (0.4, 1, 1, 0),
    "bright": (1.9, 1, 1, 0),
    "flat": (1, 0.3, 1, 0),
    "hard": (1, 1.8, 1, 0),
    "pale": (1, 1, 0.4, 0),
    "garish": (1, 1, 1.7, 0),
    "grey": (1, 1, 0, 0),
    "tiny": (1, 1, 1, 9),
    "half": (1, 1, 1, 32),
    "all": (1.4, 1.3, 0.7, 23),
    "grey and low": (0.7, 1.4, 0, 23),
}


@pytest.fixture
def images():
    """One picture for each of LOOKS: soft shapes, and noise up to black and white."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(len(LOOKS), 3, 8, 8, generator=generator)
    soft = torch.nn.functional.interpolate(coarse, SIZE, mode="bicubic")
    return (soft + 0.2 * torch.randn(soft.shape, generator=generator)).clamp(0, 1)


@pytest.fixture
def look():
    return torch.tensor(list(LOOKS.values()), dtype=torch.float32)


def by_torchvision(image, look):
    brightness, contrast, saturation, small = look.tolist()
    image = TF.adjust_contrast(TF.adjust_brightness(image, brightness), contrast)
    image = TF.adjust_saturation(image, saturation) if saturation else TF.rgb_to_grayscale(image, 3)
    if not small:
        return image
    low = TF.resize(image, [int(small)] * 2, antialias=True)
    return TF.resize(low, list(image.shape[-2:]), antialias=True)


def test_looks_are_torchvisions(images, look):
    for name, ours, image, parameters in zip(LOOKS, apply_look(images, look), images, look, strict=True):
        torch.testing.assert_close(
            ours,
            by_torchvision(image, parameters),
            rtol=0,
            atol=2e-4,
            msg=lambda m, name=name: f"{name}: {m}",
        )


def test_a_batch_is_its_single_pictures(images, look):
    together = apply_look(images, look)
    for n in range(len(LOOKS)):
        alone = apply_look(images[n : n + 1], look[n : n + 1])
        torch.testing.assert_close(alone[0], together[n], rtol=0, atol=1e-6)


def test_a_look_keeps_the_layout_and_its_input(images, look):
    batch = images.contiguous(memory_format=torch.channels_last)
    before = batch.clone()
    seen = apply_look(batch, look)
    assert seen.is_contiguous(memory_format=torch.channels_last) and seen.dtype == torch.float32
    assert torch.equal(batch, before)
    assert torch.equal(seen[0], batch[0])  # plain: not a bit changes
    torch.testing.assert_close(seen, apply_look(images, look), rtol=0, atol=1e-6)


def test_probabilities_end_and_factors_stay_in_their_range():
    rng = np.random.default_rng(0)
    never, always = Augment(brightness=0.4, contrast=0.2, saturation=0.3), Augment(grey=1.0, blur=1.0)
    looks = np.array([never.look(256, rng) for _ in range(300)])
    for factors, strength in zip(looks.T[:3], (0.4, 0.2, 0.3), strict=True):
        assert 1 - strength <= factors.min() < 1 - 0.9 * strength
        assert 1 + 0.9 * strength < factors.max() <= 1 + strength
    assert not looks[:, 3].any()
    looks = np.array([always.look(256, rng) for _ in range(300)])
    assert (looks[:, :3] == (1, 1, 0)).all()
    assert (looks[:, 3] >= 32).all() and (looks[:, 3] < 128).all() and len(set(looks[:, 3])) > 50
    assert Augment().look(256, rng).tolist() == list(PLAIN)


def test_a_patch_covers_part_of_the_picture():
    rng = np.random.default_rng(0)
    kinds = set()
    for _ in range(40):
        image = np.zeros((3, 50, 50), np.uint8)
        Augment(occlusion=1.0).occlude(image, rng)
        rows, columns = np.nonzero(image.any(0))
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert 4 <= height <= 20 and 4 <= width <= 20
        patch = image[:, rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        kinds.add("colour" if (patch == patch[:, :1, :1]).all() else "noise")
    assert kinds == {"colour", "noise"}
    image = np.zeros((3, 50, 50), np.uint8)
    Augment().occlude(image, rng)
    assert not image.any()
