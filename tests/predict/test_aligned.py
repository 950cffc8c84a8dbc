"""Aligned crops: where eyes and mouths come to lie, for every scheme; that pixels move as points do."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from popos_cli.core.geometry import compose, crop_matrix, invert, transform
from popos_cli.core.schemes import SCHEMES, Scheme
from popos_cli.predict.aligned import align, similarity
from popos_cli.prepare.synthetic_face import canonical_points

quick = settings(deadline=None, max_examples=50, derandomize=True)
PICTURE = np.zeros((400, 500, 3), np.uint8)
LEFT_EYE, RIGHT_EYE, MOUTH = [0.36, 0.40], [0.64, 0.40], [0.50, 0.7125]


def face_of(scheme, angle=0.0, side=120.0, center=(250.0, 200.0)):
    """A drawn face's landmarks in a picture, turned by `angle` degrees."""
    return transform(
        canonical_points(scheme), crop_matrix(np.array([0.0, 0.6]), 2.4, 120, rotation=angle)
    ) * (side / 120) + (np.array(center) - 59.5 * side / 120)


def center_of(points, scheme, *names):
    for name in names:
        if name in scheme.groups:
            return points[list(scheme.groups[name])].mean(0)
    raise AssertionError(names)


@pytest.mark.parametrize("name", SCHEMES)
@pytest.mark.parametrize("angle", [0, 33, 170])
def test_eyes_and_mouth_lie_in_their_places(name, angle):
    scheme = SCHEMES[name]
    crop, matrix = align(PICTURE, face_of(scheme, angle), scheme, 200)
    assert crop.shape == (200, 200, 3) and matrix.shape == (2, 3)
    points = (transform(face_of(scheme, angle), matrix) + 0.5) / 200
    left, right = center_of(points, scheme, "left eye"), center_of(points, scheme, "right eye")
    mouth = center_of(points, scheme, "outer lip", "mouth")
    # The drawn face's own proportions differ a little from the mean's.
    np.testing.assert_allclose([left, right, mouth], [LEFT_EYE, RIGHT_EYE, MOUTH], atol=0.02)
    assert abs(left[1] - right[1]) < 1e-9  # level: the drawn face is symmetric
    assert points.min() > 0.1 and points.max() < 0.97


@pytest.mark.parametrize("size", [64, 256])
def test_the_crop_does_not_depend_on_where_the_face_is(size):
    scheme = SCHEMES["300w"]
    one, other = face_of(scheme), face_of(scheme, 75, side=40, center=(90, 333))
    moved = [transform(p, align(PICTURE, p, scheme, size)[1]) for p in (one, other)]
    np.testing.assert_allclose(*moved, atol=1e-9)


def test_pixels_move_as_points_do():
    scheme = SCHEMES["300w"]
    points = face_of(scheme, 20)
    image = PICTURE.copy()
    tip = points[30]
    y, x = np.mgrid[:400, :500]
    image[...] = np.round(255 * np.exp(-((x - tip[0]) ** 2 + (y - tip[1]) ** 2) / 18))[..., None]
    crop, matrix = align(image, points, scheme, 256)
    weight = crop[..., 0].astype(float)
    y, x = np.indices(weight.shape)
    found = np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum()
    np.testing.assert_allclose(found, transform(tip[None], matrix)[0], atol=0.1)


def test_a_scheme_of_eye_corners_alone():
    """As that of docs/how-to/own-data.md, whose group is called "eyes"."""
    scheme = Scheme("eyes", 3, {"eyes": (0, 1)}, eye_corners=(0, 1))
    points = np.array([[100.0, 150], [180, 210], [110, 260]])
    moved = transform(points, align(PICTURE, points, scheme, 100)[1])
    half = 0.28 * 1.383 / 2
    np.testing.assert_allclose(
        moved[:2], [[(0.5 - half) * 100 - 0.5, 39.5], [(0.5 + half) * 100 - 0.5, 39.5]]
    )


@pytest.mark.parametrize(
    "points", [[[100.0, 150], [180, 210], [110, 260]], [[7.0, 7.0]] * 3], ids=["apart", "all the same"]
)
@pytest.mark.parametrize("scheme", [Scheme("none", 3), Scheme("eyes", 3, eye_corners=(0, 1))])
def test_without_eyes_an_upright_square(scheme, points):
    if scheme.eye_corners and points[0] != points[1]:
        pytest.skip("has eyes")
    crop, matrix = align(PICTURE, np.array(points), scheme, 90)
    assert crop.shape == (90, 90, 3)
    assert matrix[0, 1] == matrix[1, 0] == 0 and matrix[0, 0] == matrix[1, 1] > 0
    moved = transform(np.array(points), matrix)
    np.testing.assert_allclose((moved.min(0) + moved.max(0)) / 2, 44.5, atol=1)
    assert moved.min() >= 8 and moved.max() <= 81


numbers = st.lists(
    st.tuples(st.floats(-100, 100), st.floats(-100, 100)), min_size=2, max_size=7, unique=True
).filter(lambda pairs: np.ptp(np.array(pairs), axis=0).max() > 1)


@quick
@given(numbers, st.floats(-180, 180), st.floats(0.1, 10), st.tuples(st.floats(-99, 99), st.floats(-99, 99)))
def test_a_similarity_is_found_again(pairs, angle, scale, shift):
    points = np.array(pairs)
    matrix = cv2.getRotationMatrix2D((0, 0), angle, scale)
    matrix[:, 2] = shift
    np.testing.assert_allclose(similarity(points, transform(points, matrix)), matrix, atol=1e-6)


@quick
@given(numbers, st.integers(0, 99))
def test_no_similarity_is_nearer(pairs, seed):
    """Nor one that mirrors is taken: its determinant is that of a rotation."""
    points = np.array(pairs)
    rng = np.random.default_rng(seed)
    places = rng.uniform(-100, 100, points.shape)
    best = similarity(points, places)
    assert best[0, 0] == best[1, 1] and best[0, 1] == -best[1, 0]
    least = ((transform(points, best) - places) ** 2).sum()
    for _ in range(20):
        angle, scale = rng.normal(0, 5), rng.normal(1, 0.05)
        nudge = cv2.getRotationMatrix2D((0, 0), angle, scale)
        nudge[:, 2] = rng.normal(0, 3, 2)
        assert ((transform(points, compose(nudge, best)) - places) ** 2).sum() >= least - 1e-6


def test_the_way_back_is_the_inverse():
    scheme = SCHEMES["wflw"]
    points = face_of(scheme, 12)
    _, matrix = align(PICTURE, points, scheme)
    np.testing.assert_allclose(transform(transform(points, matrix), invert(matrix)), points, atol=1e-9)
