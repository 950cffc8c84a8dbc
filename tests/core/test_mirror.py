"""Flip pairs against labels: drawn faces of all schemes, turned, jittered and incomplete."""

from dataclasses import replace

import numpy as np
import pytest

from popos_cli.core.mirror import check_mirror
from popos_cli.core.schemes import SCHEMES, W300, Scheme
from popos_cli.prepare.synthetic_face import canonical_points

every_scheme = pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES.keys())
FIVE = Scheme("five", 5, {}, frozenset(), ((0, 1), (3, 4)), (0, 1))
FIVE_OF_68 = [36, 45, 30, 48, 54]


def faces(scheme, count=40, turned=0.0, seed=0):
    """(F, K, 2) image pixels: the drawn face at any place, size and angle, jittered, and narrower on the side
    that a turned head hides."""
    rng = np.random.default_rng(seed)
    shape = canonical_points(scheme)
    points = np.repeat(shape[None], count, 0) + rng.normal(0, 0.02, (count, *shape.shape))
    yaw = rng.normal(turned, 0.1, (count, 1))
    points[..., 0] += yaw * (0.5 - points[..., 0] ** 2)
    angle = rng.normal(0, 0.15, count)
    turn = np.stack([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]).transpose(2, 0, 1)
    return points @ turn * rng.uniform(20, 300, (count, 1, 1)) + rng.uniform(0, 900, (count, 1, 2))


def five(count=40, **given):
    return faces(W300, count, **given)[:, FIVE_OF_68]


def sorted_pairs(scheme):
    return tuple(sorted(tuple(sorted(pair)) for pair in scheme.flip_pairs))


@every_scheme
def test_the_pairs_of_the_built_in_schemes_are_recovered(scheme):
    found = check_mirror(faces(scheme), scheme)
    assert (found.wrong, found.lone) == ((), ())
    assert found.pairs == sorted_pairs(scheme)
    forgotten = check_mirror(faces(scheme), replace(scheme, flip_pairs=()))
    assert forgotten.pairs == sorted_pairs(scheme)
    assert set(forgotten.wrong) == {n for pair in scheme.flip_pairs for n in pair}


@every_scheme
def test_every_missing_pair_is_found(scheme):
    labels = faces(scheme)
    for pair in scheme.flip_pairs[:: max(len(scheme.flip_pairs) // 6, 1)]:
        found = check_mirror(labels, replace(scheme, flip_pairs=tuple(set(scheme.flip_pairs) - {pair})))
        assert found.wrong == tuple(sorted(pair))
        assert found.pairs == sorted_pairs(scheme)


@pytest.mark.parametrize(
    ("pairs", "wrong"),
    [
        (((0, 1),), (3, 4)),
        (((0, 4), (1, 3)), (0, 1, 3, 4)),
        (((0, 1), (3, 2)), (2, 3, 4)),
        (((0, 3), (1, 4)), (0, 1, 3, 4)),  # left with left
    ],
)
def test_pairs_of_another_order(pairs, wrong):
    found = check_mirror(five(), replace(FIVE, flip_pairs=pairs))
    assert found.wrong == wrong
    assert found.pairs == ((0, 1), (3, 4))


def test_swapped_neighbours():
    pairs = [pair for pair in W300.flip_pairs if pair not in ((3, 13), (4, 12))]
    found = check_mirror(faces(W300), replace(W300, flip_pairs=(*pairs, (3, 12), (4, 13))))
    assert found.wrong == (3, 4, 12, 13)


def test_a_point_without_a_mirror_image():
    four = Scheme("four", 4, {}, frozenset(), ((0, 1),), (0, 1))  # the right corner of the mouth is missing
    found = check_mirror(five()[:, :4], four)
    assert (found.wrong, found.lone) == ((), (3,))


def test_points_on_the_middle_line_alone_stay():
    line = Scheme("line", 4, {}, frozenset(), (), None)
    found = check_mirror(faces(W300)[:, [27, 30, 51, 8]], line)
    assert (found.wrong, found.lone, found.pairs) == ((), (), ())


def test_unlabelled_points_do_not_count():
    labels = faces(W300)
    labels[np.random.default_rng(1).random(labels.shape[:2]) < 0.3] = np.nan
    found = check_mirror(labels, W300)
    assert (found.wrong, found.lone, found.pairs) == ((), (), sorted_pairs(W300))
    labels[:, 5] = np.nan  # nobody has it
    assert check_mirror(labels, W300) is None


def test_pictures_that_lie_on_their_side():
    labels = faces(W300)[..., ::-1] * [1, -1]
    assert check_mirror(labels, W300).wrong == ()


def test_few_faces_and_faces_of_one_side_prove_nothing():
    assert check_mirror(faces(W300, 5), W300) is None
    assert check_mirror(faces(W300, 40, turned=0.6), W300) is None
    assert check_mirror(np.full((20, 5, 2), np.nan), FIVE) is None
