"""What is drawn on a picture, where, and in which colours; and how it is saved."""

import cv2
import numpy as np
import pytest

from popos_cli.data.pictures import read_image, save_picture
from popos_cli.predict.overlay import BOX, EDGE, POINT, draw_box, draw_points


def middle_of(image, color):
    """The mean place (x, y) of the pixels of about this colour."""
    y, x = np.nonzero((np.abs(image.astype(int) - color) < 50).all(axis=2))
    return np.array([x.mean(), y.mean()])


@pytest.mark.parametrize("offset", [0, 29_000, 39_000, 69_000])
def test_points_edges_and_boxes_are_where_the_face_is(offset):
    """Also far to the right."""
    image = np.zeros((200, offset + 300, 3), np.uint8)
    points = np.array([[60.0, 50.0], [210.0, 50.0], [130.0, 150.0]]) + [offset, 0]
    draw_box(image, np.array([offset + 20.5, 20.5, 250.0, 160.0]))
    draw_points(image, points, ((0, 1),))
    assert middle_of(image, BOX) == pytest.approx([offset + 145, 100], abs=1)
    assert middle_of(image, EDGE) == pytest.approx([offset + 135, 50], abs=1)
    assert middle_of(image, POINT) == pytest.approx(points.mean(0), abs=1)


def test_a_saved_picture_has_its_colours(tmp_path):
    picture = np.full((16, 16, 3), (250, 20, 90), np.uint8)
    for name in ("a.png", "a.jpg"):
        save_picture(picture, tmp_path / name)
        assert np.abs(read_image(tmp_path / name, upright=True).astype(int) - (250, 20, 90)).max() < 12


@pytest.mark.parametrize("shape", [(30, 65_501), (70_000, 14), (1, 131_000)])
def test_a_jpeg_that_would_be_too_long_is_made_smaller(tmp_path, shape):
    picture = np.full((*shape, 3), (0, 200, 90), np.uint8)
    save_picture(picture, tmp_path / "long.jpg")
    saved = cv2.imread(str(tmp_path / "long.jpg"))
    assert max(saved.shape) == 65_500
    scale = 65_500 / max(shape)
    assert min(saved.shape[:2]) == max(int(min(shape) * scale), 1)
    assert np.abs(saved[0, -1].astype(int) - (90, 200, 0)).max() < 12
