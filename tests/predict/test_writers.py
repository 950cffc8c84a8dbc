"""What is drawn on a picture, where and in which colours; and which names the files get."""

import time
from pathlib import Path

import numpy as np
import pytest

from popos_cli.predict.overlay import BOX, EDGE, POINT, draw_box, draw_points
from popos_cli.predict.writers import output_names


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


def test_thousands_of_pictures_of_one_name(tmp_path):
    paths = [Path(f"{n}/face.jpg") for n in range(8000)] + [Path("face-7.jpg"), Path("FACE.png")]
    began = time.process_time()
    names = output_names(paths, tmp_path)
    assert time.process_time() - began < 5
    assert names[paths[0]] == "face" and names[paths[7999]] == "face-8000"
    assert len({name.lower() for name in names.values()}) == len(paths)
