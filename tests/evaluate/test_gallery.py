"""Pages of the worst faces."""

import numpy as np
import pytest

from popos_cli.core.geometry import crop_matrix, transform
from popos_cli.evaluate.gallery import PREDICTION, TRUTH, worst_page, worst_tiles

TILE, LEGEND, CAPTION = 320, 24, 18


def worst_faces(one):
    return worst_page(one, worst_tiles(one))


def tile(page, number):
    """The picture at this place of a page of one row."""
    return page[LEGEND : LEGEND + TILE, number * TILE : (number + 1) * TILE]


def middle(picture, color):
    """Where the pixels of a colour lie on average, x then y."""
    y, x = np.nonzero((np.abs(picture.astype(int) - color) < 8).all(-1))
    return np.array([x.mean(), y.mean()])


def test_truth_and_prediction_lie_where_they_are(evaluate, index):
    page = worst_faces(evaluate([0.03, 0.02, 0.01], shift=(8, -6)))
    assert page.shape == (LEGEND + TILE + CAPTION, 4 * TILE, 3)
    # 160 pixels of the picture, 1.6 times the square, fill a tile.
    matrix = crop_matrix(np.array([100.0, 100.0]), 160, TILE)
    for number, face in enumerate([2, 1, 0]):
        truth = transform(np.nanmean(index.points[face], axis=0)[None], matrix)[0]
        assert middle(tile(page, number), TRUTH) == pytest.approx(truth, abs=0.5)
        assert middle(tile(page, number), PREDICTION) == pytest.approx(truth + [16, -12], abs=0.5)
    # The last face, here the worst, has two labelled points: each dot as large as the others'.
    dots = [(tile(page, n) == TRUTH).all(-1).sum() for n in range(3)]
    assert dots[0] == pytest.approx(dots[1] / 2, rel=0.1)


def test_the_picture_has_its_colours(evaluate):
    page = worst_faces(evaluate([0.03, 0.02, 0.01]))
    for number in range(3):
        assert tile(page, number)[160, 160].tolist() == [120, 90, 60]


def test_the_legend_shows_both_colours(evaluate):
    strip = worst_faces(evaluate([0.03, 0.02, 0.01]))[:LEGEND]
    assert (strip == TRUTH).all(-1).any()
    assert (strip == PREDICTION).all(-1).any()


def test_a_face_that_cannot_be_measured_is_not_shown(evaluate):
    one = evaluate([float("nan"), 0.02, 0.01])
    assert one.worst(12) == [1, 2]
    assert one.worst(1) == [1]
    page = worst_faces(one)
    assert (page[LEGEND:, 2 * TILE :] == 255).all()


def test_a_prediction_far_away_does_not_harm(evaluate):
    page = worst_faces(evaluate([0.03, 0.02, 0.01], shift=(1e7, -1e7)))
    assert page.shape == (LEGEND + TILE + CAPTION, 4 * TILE, 3)
