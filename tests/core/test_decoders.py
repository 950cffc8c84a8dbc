"""The published decoders: exactness, known biases, and oracles: naive NumPy loops over one map, written from
the decoders' descriptions."""

import math

import numpy as np
import pytest
import torch

from popos_cli.core.codec import Codec
from popos_cli.core.decoders import DECODERS, multilateration

SIGMA = 2.0
SIZES = [64, 32, 16, 8, 4]


def draw(size, count=2048):
    """(count, 2) heatmap pixels, the last fifth within 1 heatmap pixel of an edge of the hull."""
    rng = np.random.default_rng(size)
    inside, near = count - count // 5, count // 5
    points = rng.uniform(0, size - 1, (count, 2))
    points[:inside] = rng.uniform(1, size - 2, (inside, 2))
    depth, far = rng.uniform(0, 1, near), rng.integers(0, 2, near)
    axis = rng.integers(0, 2, near)
    points[np.arange(inside, count), axis] = np.where(far, size - 1 - depth, depth)
    return points


def errors(size, decoder, chosen=slice(None), dtype=torch.float64):
    """Distances (M,) in heatmap pixels between drawn and decoded points of clean maps."""
    codec = Codec(size, decoder=decoder)
    points = codec.to_crop(torch.from_numpy(draw(size)[chosen])[None])
    decoded = codec.decode(codec.encode(points).to(dtype)).points
    return (decoded - points).norm(dim=-1)[0].numpy() * size / 256


# Crop pixels, measured with the functions of mmpose 0.29 itself on this draw.
@pytest.mark.parametrize("size, mean", [(64, 0.411), (32, 0.987), (16, 2.853), (8, 9.355), (4, 24.34)])
def test_dark_on_clean_maps(size, mean):
    assert errors(size, "dark", dtype=torch.float32).mean() * 256 / size == pytest.approx(mean, rel=0.005)


@pytest.mark.parametrize("size, published", [(64, 0.09), (32, 0.05), (16, 0.05), (8, 0.03), (4, 0.02)])
def test_popos_on_clean_maps_is_off_by_its_grid(size, published):
    """Its start is exact there, and the grid's nearest candidate lies beside the start."""
    side, spacing = {64: 8, 32: 8, 16: 4, 8: 3, 4: 2}[size], size / 128
    grid = np.linspace(-side / 2, side / 2, int(side / spacing)) - spacing / 2
    error = errors(size, "popos", slice(None, None, 4))
    np.testing.assert_allclose(error, math.sqrt(2) * np.abs(grid).min(), rtol=1e-6)
    assert error.mean() * 256 / size == pytest.approx(published, abs=0.005)


def test_popos_does_not_depend_on_its_chunks(monkeypatch):
    maps = torch.from_numpy(noisy_maps(16, 5, noise=0.05))
    whole = multilateration.popos(maps, SIGMA)
    monkeypatch.setattr(multilateration, "CHUNK_MAPS", 2)
    assert torch.equal(multilateration.popos(maps, SIGMA), whole)


def noisy_maps(size, count, noise, height=1.0):
    """(count, size, size) float64: Gaussians with white noise, half of them near the border."""
    rng = np.random.default_rng(size)
    points = draw(size)[-2 * count :: 2]
    points[::2] = rng.uniform(0, size - 1, points[::2].shape)
    codec = Codec(size)
    maps = codec.encode(codec.to_crop(torch.from_numpy(points)[None]))[0].numpy()
    return height * maps + noise * rng.standard_normal(maps.shape)


def first_peak(h):
    row, column = divmod(int(np.argmax(h)), h.shape[1])
    return column, row


def distance(value):
    return SIGMA * math.sqrt(-2 * math.log(min(max(value, 1e-9), 1.0)))


def anchors(h, count):
    """The highest pixels as (x, y, distance)."""
    order = sorted(range(h.size), key=lambda i: -h.flat[i])[:count]
    return [(i % h.shape[1], i // h.shape[1], distance(h.flat[i])) for i in order]


def one_hot_oracle(h):
    return np.array(first_peak(h) if h.max() > 0 else (-1, -1), dtype=float)


def two_hot_oracle(h):
    (x, y), (height, width) = first_peak(h), h.shape
    if 1 < x < width - 1 and 1 < y < height - 1:
        return np.array(
            [x + 0.25 * np.sign(h[y, x + 1] - h[y, x - 1]), y + 0.25 * np.sign(h[y + 1, x] - h[y - 1, x])]
        )
    return np.array([x, y], dtype=float)


def dark_oracle(h):
    (x, y), (height, width) = first_peak(h), h.shape
    if not (1 < x < width - 2 and 1 < y < height - 2):
        return np.array([x, y], dtype=float)
    kernel = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 2.0**2))
    padded, blurred = np.pad(h, 5), np.zeros_like(h)
    for i in range(11):
        for j in range(11):
            blurred += kernel[i] * kernel[j] / kernel.sum() ** 2 * padded[i : i + height, j : j + width]
    log = np.log(np.maximum(blurred * (h.max() / blurred.max()), 1e-10))

    def slope(f, dx, dy):  # central difference over one pixel each way
        return lambda i, j: (f(i + dx, j + dy) - f(i - dx, j - dy)) / 2

    def at(i, j):
        return log[j, i]

    dx, dy = slope(at, 1, 0), slope(at, 0, 1)
    hessian = [[slope(dx, 1, 0)(x, y), slope(dx, 0, 1)(x, y)], [slope(dy, 1, 0)(x, y), slope(dy, 0, 1)(x, y)]]
    return np.array([x, y]) - np.linalg.solve(hessian, [dx(x, y), dy(x, y)])


def keyposs_oracle(h):
    (cx, cy), (height, width) = first_peak(h), h.shape
    best, block = -math.inf, None
    for y in range(max(cy - 2, 0), min(cy, height - 3) + 1):
        for x in range(max(cx - 2, 0), min(cx, width - 3) + 1):
            total = h[y : y + 2, x : x + 2].sum()
            if total >= best:
                best, block = total, [(x, y), (x + 1, y), (x, y + 1), (x + 1, y + 1)]
    *others, last = [(x, y, distance(h[y, x]) ** 2) for x, y in block]
    # (x - a)^2 + (y - b)^2 = d^2, minus the same for the last anchor: linear in x and y.
    left = [[2 * (last[0] - x), 2 * (last[1] - y)] for x, y, _ in others]
    right = [last[0] ** 2 + last[1] ** 2 - last[2] - (x * x + y * y - d) for x, y, d in others]
    return np.linalg.lstsq(np.array(left, float), np.array(right, float), rcond=None)[0]


def gauss_newton_oracle(h):
    count = {64: 30, 32: 30, 16: 30, 8: 15, 4: 10}[h.shape[0]]
    near, point, last = anchors(h, count), one_hot_oracle(h), math.inf
    for _ in range(20):
        error, jacobian = [], []
        for x, y, d in near:
            error.append((x - point[0]) ** 2 + (y - point[1]) ** 2 - d * d)
            jacobian.append([-2 * (x - point[0]), -2 * (y - point[1])])
        cost = float(np.sum(np.square(error)))
        if cost >= last:
            break
        point, last = point - np.linalg.lstsq(np.array(jacobian), np.array(error), rcond=None)[0], cost
    return point


def popos_oracle(h):
    size = h.shape[0]
    count = {64: 30, 32: 10, 16: 20, 8: 15, 4: 10}[size]
    side = {64: 8, 32: 8, 16: 4, 8: 3, 4: 2}[size]
    start, near = keyposs_oracle(h), anchors(h, count)
    steps = np.linspace(-side / 2, side / 2, int(side / (size / 128))) - size / 256
    best, found = math.inf, None
    for dy in steps:
        for dx in steps:
            x, y = start[0] + dx, start[1] + dy
            cost = sum(abs(math.hypot(x - a, y - b) - d) for a, b, d in near)
            if cost < best:
                best, found = cost, (x, y)
    return np.array(found)


ORACLES = {
    "one-hot": one_hot_oracle,
    "two-hot": two_hot_oracle,
    "dark": dark_oracle,
    "keyposs": keyposs_oracle,
    "gauss-newton": gauss_newton_oracle,
    "popos": popos_oracle,
}


@pytest.mark.parametrize("noise, height", [(0.0, 1.0), (0.05, 1.0), (0.02, 0.6)])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("decoder", ORACLES)
def test_against_the_naive_oracle(decoder, size, noise, height):
    maps = noisy_maps(size, 6 if decoder == "popos" else 40, noise, height)
    expected = np.array([ORACLES[decoder](h) for h in maps])
    points = DECODERS[decoder](torch.from_numpy(maps), SIGMA).numpy()
    np.testing.assert_allclose(points, expected, atol=1e-6)


def test_the_last_of_equal_blocks_wins():
    """A symmetric bump that is no Gaussian: its four blocks tie and give four answers."""
    h = np.zeros((16, 16))
    h[6:9, 6:9] = [[0.125, 0.5, 0.125], [0.5, 1.0, 0.5], [0.125, 0.5, 0.125]]
    found = DECODERS["keyposs"](torch.from_numpy(h)[None], SIGMA)[0].numpy()
    np.testing.assert_allclose(found, keyposs_oracle(h))
    assert abs(found - 7).min() > 1  # the first block would give 14 - found


def test_maps_without_a_positive_value_give_minus_one():
    maps = torch.stack([torch.zeros(8, 8), -torch.rand(8, 8)])
    for decoder in ("one-hot", "two-hot", "dark"):
        assert torch.equal(DECODERS[decoder](maps, SIGMA), torch.full((2, 2), -1.0))
