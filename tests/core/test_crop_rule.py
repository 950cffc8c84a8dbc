"""Rules from one square to another, and measuring them."""

import numpy as np
import pytest

from popos_cli.core.crop_rule import (
    FROM_300W,
    FROM_LANDMARKS,
    SAME,
    CropRule,
    median_rule,
    squares_around,
    turned_upright,
)
from popos_cli.core.geometry import rotation
from popos_cli.core.schemes import SCHEMES


def test_a_square_for_a_box():
    center, side = CropRule((0.1, -0.2), 0.5).square(np.array([10.0, 20.0]), 40.0)
    np.testing.assert_allclose(center, [14, 12])
    assert side == 20
    center, side = SAME.square(np.array([1 / 3, 2 / 7]), 1 / 9)
    assert (*center, side) == (1 / 3, 2 / 7, 1 / 9)  # bit-identical: figures of older weights stay


def test_squares_turn_with_the_face():
    """A face tilted by a quarter gets its neighbour's square, turned."""
    rule, points = CropRule((0.1, -0.2), 1.5), np.random.default_rng(0).random((1, 20, 2)) * 90
    first = np.zeros((1, 2)), np.array([90.0])
    upright, turned = points[0], points @ rotation(90)  # which stands upright once turned by 90 degrees
    (center,), (side,) = squares_around(upright[None], *first, rule)
    (other,), (same,) = squares_around(turned, *first, rule, np.array([90.0]))
    np.testing.assert_allclose(other, center @ rotation(90), atol=1e-9)
    assert same == side


@pytest.mark.parametrize(
    ("tilt", "seen", "following"),
    [
        (0, 19, 0),
        (0, 21, 21),
        (0, -21, -21),
        (170, -175, 170),
        (170, -165, -165),
        (90, None, 90),
        (350, 5, 350),
    ],
)
def test_a_crop_is_turned_where_the_face_is_too_crooked(tilt, seen, following):
    assert turned_upright(tilt, seen) == following


def test_rules_chain_and_invert():
    one, two = CropRule((0.1, -0.2), 0.5), CropRule((-0.3, 0.4), 3.0)
    box = np.array([10.0, 20.0]), 40.0
    step = two.square(*one.square(*box))
    whole = one.then(two).square(*box)
    np.testing.assert_allclose(whole[0], step[0])
    assert whole[1] == pytest.approx(step[1])
    back = one.inverse().square(*one.square(*box))
    np.testing.assert_allclose(back[0], box[0])
    assert back[1] == pytest.approx(box[1])


@pytest.mark.parametrize(
    ("shift", "side"),
    [((0, 0), 0), ((0, 0), -1), ((0, 0), np.nan), ((np.nan, 0), 1), ((0, np.inf), 1), ((0, 0), 1e300)],
)
def test_numbers_that_no_face_has_are_refused(shift, side):
    with pytest.raises(ValueError, match="not a crop rule"):
        CropRule(shift, side)


def test_the_median_tolerates_a_quarter_of_outliers():
    rng = np.random.default_rng(0)
    boxes = [(rng.uniform(0, 500, 2), rng.uniform(20, 300)) for _ in range(30)]
    true = CropRule((0.02, 0.165), 0.45)
    squares = [true.square(*box) for box in boxes]
    squares[::4] = [(center + side * 2, side * 3) for center, side in squares[::4]]
    found = median_rule(squares, boxes)
    assert found.side == pytest.approx(0.45)
    np.testing.assert_allclose(found.shift, true.shift, atol=1e-4)


def test_no_rule_where_none_holds():
    boxes = [(np.zeros(2), 1.0)] * 12
    assert median_rule([(np.zeros(2), 4.0**n) for n in range(-3, 3)] * 2, boxes) is None
    assert median_rule([], []) is None


def test_every_built_in_scheme_has_a_rule():
    """COFW's and AFLW's points span less than the 68, but their boxes are wider than the points."""
    assert set(FROM_300W) == set(FROM_LANDMARKS) == set(SCHEMES)
    assert FROM_300W["300w"] == FROM_300W["wflw"] == SAME
    assert 1 < FROM_300W["cofw"].side < FROM_300W["aflw"].side < 1.3
    assert FROM_300W["aflw"].shift[1] < 0  # the box has the forehead
