"""Overlays of faces from 20 pixels to thousands: dots of the face's size, labels inside of the picture."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from popos_cli.core.schemes import SCHEMES
from popos_cli.predict.face import Face
from popos_cli.predict.overlay import POINT, UNCERTAINTY, draw_faces, draw_points
from popos_cli.prepare.synthetic_face import canonical_points

SCHEME = SCHEMES["300w"]
GREY = 100


def face_of(extent, center, score=None):
    flat = canonical_points(SCHEME)
    points = (flat - (flat.min(0) + flat.max(0)) / 2) / np.ptp(flat, axis=0).max() * extent + center
    low = points.min(0)
    box = np.array([*low, *(points.max(0) - low)], np.float32)
    ones = np.ones(68, np.float32)
    return Face(box, score, points.astype(np.float32), ones, ones * extent / 30, scheme=SCHEME)


def share_of(image, color):
    """How much of each pixel is of this colour, 0..1, in a grey picture where nothing else was drawn."""
    return ((image.astype(float) - GREY) @ (np.array(color) - GREY)) / ((np.array(color) - GREY) ** 2).sum()


@pytest.mark.parametrize("extent", [20, 40, 109, 111, 1000])
def test_dots_scale_with_the_face(extent):
    """Their colour on all pixels together is the area of 68 dots; of the smallest, 0.35 pixels of radius."""
    side = round(extent * 1.5)
    image = np.full((side, side, 3), GREY, np.uint8)
    points = face_of(extent, side / 2).points
    draw_points(image, points, (), POINT)
    radius = max(extent / 110, 0.35)
    area = share_of(image, POINT).sum() / 68
    assert 0.6 * np.pi * radius**2 < area < 1.3 * np.pi * (radius + 0.5) ** 2  # OpenCV adds half a pixel
    x = np.nonzero((image != GREY).any(axis=2))[1]
    assert np.abs([x.min() - points[:, 0].min(), x.max() - points[:, 0].max()]).max() < radius + 1.5
    assert (image != GREY).any(axis=2).mean() < 0.25  # no blob


def test_a_small_faces_jaw_is_single_dots():
    image = np.full((40, 40, 3), GREY, np.uint8)
    points = face_of(20, 20).points
    draw_points(image, points[:17], (), POINT)
    share = share_of(image, POINT)
    y, x = np.round(points[:17, ::-1]).astype(int).T
    assert share[y, x].min() > 0.1 and share.max() < 0.75


def test_nothing_else_of_the_picture_changes():
    image = np.random.default_rng(0).integers(0, 255, (300, 300, 3), np.uint8)
    for extent, touched in ((30, 25), (150, 85)):
        drawn = draw_faces(image, [face_of(extent, 150)], SCHEME.edges)
        y, x = np.nonzero((drawn != image).any(axis=2))
        assert np.abs(np.array([x, y]) - 150).max() < touched + 15  # the label is above the box


@pytest.mark.parametrize("extent", [20, 400, 4000])
def test_circles_of_the_uncertaintys_radius(extent):
    side = round(extent * 1.3)
    face = face_of(extent, side / 2)
    one = Face(face.box, None, face.points[30:31], face.scores[:1], np.array([extent / 4], np.float32))
    image = np.full((side, side, 3), GREY, np.uint8)
    plain, drawn = (draw_faces(image, [one], (), uncertainty) for uncertainty in (False, True))
    y, x = np.nonzero((plain != drawn).any(axis=2))
    far = np.hypot(x - one.points[0, 0], y - one.points[0, 1])
    assert far.min() > 0.2 * extent - 1 and far.max() < 0.27 * extent + 2
    strongest = drawn[np.abs(drawn.astype(int) - UNCERTAINTY).sum(axis=2) < 60]
    assert extent == 20 or len(strongest)


@pytest.mark.parametrize("center", [(60, 60), (0, 0), (239, 239), (0, 239), (-9, 120), (120, 30)])
def test_labels_stay_in_the_picture(center):
    """Number and score are drawn whole, above the face or below it."""
    image = np.full((240, 240, 3), GREY, np.uint8)
    face = face_of(80, np.array(center), 0.93)
    drawn = draw_faces(image, [face], ())
    alone = draw_faces(np.full((500, 500, 3), GREY, np.uint8), [face_of(80, np.array([250, 250]), 0.93)], ())
    # The letters are white: nothing else has much red.
    np.testing.assert_array_equal((drawn[..., 0] > 180).sum(), (alone[..., 0] > 180).sum())
    assert (alone[..., 0] > 180).sum() > 50


def test_each_face_has_its_number_and_tracks_their_own():
    image = np.full((200, 600, 3), GREY, np.uint8)
    two = [face_of(80, np.array([100, 120])), face_of(80, np.array([400, 120]))]
    plain = draw_faces(image, two, ())
    tracks = draw_faces(image, [replace(face, id=n) for n, face in enumerate(two, 1)], ())
    np.testing.assert_array_equal(plain, tracks)
    assert (draw_faces(image, [replace(face, id=5) for face in two], ()) != plain).any()


def test_no_faces_and_faces_outside():
    image = np.full((50, 70, 3), GREY, np.uint8)
    np.testing.assert_array_equal(draw_faces(image, [], SCHEME.edges), image)
    drawn = draw_faces(image, [face_of(30, np.array([500.0, 500.0]))], SCHEME.edges)
    assert drawn.shape == image.shape
