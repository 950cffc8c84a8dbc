"""Landmark schemes: their own consistency, against the drawn face, and a user's own in TOML.

The drawn face's geometry is written without the flip pairs, so that the two check each other.
"""

from dataclasses import replace

import numpy as np
import pytest
import tomli_w

from popos_cli.core.schemes import AFLW, COFW, SCHEMES, W300, WFLW, Scheme, find_scheme
from popos_cli.errors import UsageError
from popos_cli.prepare.synthetic_face import canonical_points

every_scheme = pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES.keys())


@every_scheme
def test_flip_is_an_involution_that_covers_every_index(scheme: Scheme) -> None:
    flip = scheme.flip_index
    assert sorted(flip) == list(range(scheme.landmarks))
    np.testing.assert_array_equal(flip[flip], np.arange(scheme.landmarks))
    swapped = {i for pair in scheme.flip_pairs for i in pair}
    assert set(np.flatnonzero(flip != np.arange(scheme.landmarks))) == swapped


@every_scheme
def test_the_mirrored_face_is_the_flipped_face(scheme: Scheme) -> None:
    points = canonical_points(scheme)
    assert points.shape == (scheme.landmarks, 2)
    np.testing.assert_allclose(points[scheme.flip_index] * (-1, 1), points, atol=1e-12)


@every_scheme
def test_points_that_stay_under_the_flip_lie_on_the_middle_line(scheme: Scheme) -> None:
    stays = scheme.flip_index == np.arange(scheme.landmarks)
    x = canonical_points(scheme)[:, 0]
    np.testing.assert_allclose(x[stays], 0, atol=1e-12)
    assert (abs(x[~stays]) > 0.02).all()


@every_scheme
def test_no_two_landmarks_of_the_face_coincide(scheme: Scheme) -> None:
    points = canonical_points(scheme)
    gaps = np.linalg.norm(points[:, None] - points, axis=-1) + np.eye(len(points))
    assert gaps.min() > 0.01


@every_scheme
def test_groups_named_left_lie_at_smaller_x(scheme: Scheme) -> None:
    x = canonical_points(scheme)[:, 0]
    for name, indices in scheme.groups.items():
        if name.startswith("left"):
            assert (x[list(indices)] < 0).all(), name
        if name.startswith("right"):
            assert (x[list(indices)] > 0).all(), name


@every_scheme
def test_groups_cover_every_index_once(scheme: Scheme) -> None:
    indices = [i for group in scheme.groups.values() for i in group]
    assert sorted(indices) == list(range(scheme.landmarks))
    assert len(set(scheme.names)) == scheme.landmarks
    assert all(scheme.names)


@every_scheme
def test_edges_join_neighbours_and_close_rings(scheme: Scheme) -> None:
    edges = scheme.edges
    assert all(0 <= i < scheme.landmarks for edge in edges for i in edge)
    assert len(set(edges)) == len(edges)
    for name, indices in scheme.groups.items():
        inside = [edge for edge in edges if edge[0] in indices]
        assert all(b in indices for _, b in inside)
        assert len(inside) == len(indices) - (name not in scheme.closed)


@pytest.mark.parametrize("scheme", [W300, WFLW, COFW], ids=lambda scheme: scheme.name)
def test_eye_corners_are_the_outer_ones(scheme: Scheme) -> None:
    assert scheme.normaliser == "inter-ocular"
    assert scheme.eye_corners is not None
    x = canonical_points(scheme)[:, 0]
    eyes = [i for name, group in scheme.groups.items() if name.endswith("eye") for i in group]
    assert scheme.eye_corners == (min(eyes, key=lambda i: x[i]), max(eyes, key=lambda i: x[i]))


def test_box_scheme_has_no_eye_corners() -> None:
    assert (AFLW.eye_corners, AFLW.normaliser) == (None, "box")


@pytest.mark.parametrize(
    ("scheme", "downwards"),
    [
        (W300, [(19, 37, 36, 41), (27, 28, 29, 30, 33, 51, 62, 66, 57, 8)]),
        (WFLW, [(35, 40, 62, 60, 66), (44, 48, 70, 72, 74), (51, 52, 53, 54, 57, 79, 90, 94, 85, 16)]),
        (COFW, [(4, 5, 12, 16, 13), (6, 7, 14, 17, 15), (20, 21, 24, 25, 26, 27, 28)]),
        (AFLW, [(1, 7, 13, 16, 18), (4, 10, 14, 17)]),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_parts_of_the_face_from_top_to_bottom(scheme: Scheme, downwards: list[tuple[int, ...]]) -> None:
    y = canonical_points(scheme)[:, 1]
    for indices in downwards:
        assert (np.diff(y[list(indices)]) > 0).all(), indices


@pytest.mark.parametrize(
    ("scheme", "rightwards"),
    [
        (
            W300,
            [range(1, 16), range(17, 27), (36, 37, 38, 39, 42, 43, 44, 45), (36, 41, 40, 39, 42, 47, 46, 45)],
        ),
        (W300, [range(31, 36), range(48, 55), (48, 59, 58, 57, 56, 55), range(60, 65), (67, 66, 65)]),
        (WFLW, [range(2, 31), (33, 41, 40, 39, 38, 50, 49, 48, 47, 46), (37, 42, 43, 44, 45, 46)]),
        (WFLW, [(*range(60, 65), *range(68, 73)), (67, 66, 65, 75, 74, 73), (60, 96, 64, 68, 97, 72)]),
        (WFLW, [range(55, 60), range(76, 83), (76, 87, 86, 85, 84, 83), range(88, 93), (95, 94, 93)]),
        (COFW, [(0, 4, 2, 3, 6, 1), (8, 12, 10, 11, 14, 9), (8, 16, 10, 11, 17, 9)]),
        (COFW, [(0, 5, 2, 3, 7, 1), (13, 15), (18, 20, 19), (22, 24, 23)]),
        (AFLW, [range(6), range(6, 12), range(12, 15), range(15, 18)]),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_parts_of_the_face_from_left_to_right(scheme: Scheme, rightwards: list[tuple[int, ...]]) -> None:
    x = canonical_points(scheme)[:, 0]
    for indices in rightwards:
        assert (np.diff(x[list(indices)]) > 0).all(), indices


@every_scheme
def test_toml_round_trip(scheme: Scheme, tmp_path) -> None:
    own = replace(scheme, name="mine", threshold=0.08)
    path = tmp_path / "mine.toml"
    path.write_text(tomli_w.dumps(own.to_dict()), encoding="utf-8")
    assert find_scheme(str(path)) == own


def test_built_in_schemes_by_name() -> None:
    assert [find_scheme(name).landmarks for name in ("300w", "wflw", "cofw", "aflw")] == [68, 98, 29, 19]


def _find(tmp_path, **changes) -> Scheme:
    own = Scheme("own", 3, {"all": (0, 1, 2)}, frozenset(), ((0, 2),), None)
    path = tmp_path / "own.toml"
    path.write_text(tomli_w.dumps(own.to_dict() | changes), encoding="utf-8")
    return find_scheme(str(path))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"landmarks": 0}, "at least 1"),
        ({"landmarks": "three"}, "not a landmark scheme"),
        ({"flip_pairs": [[0, 3]]}, "outside 0..2"),
        ({"flip_pairs": [[-1, 0]]}, "outside 0..2"),
        ({"flip_pairs": [[0, 1], [1, 2]]}, "two flip pairs"),
        ({"flip_pairs": [[1, 1]]}, "two flip pairs"),
        ({"flip_pairs": [[0, 1, 2]]}, "not a landmark scheme"),
        ({"eye_corners": [0, 9]}, "outside 0..2"),
        ({"eye_corners": [0]}, "not a landmark scheme"),
        ({"groups": {"all": [0, 7]}}, "outside 0..2"),
        ({"closed": ["mouth"]}, "mouth"),
        ({"threshold": 0.0}, "above 0"),
        ({"threshold": float("inf")}, "above 0"),
        ({"threshold": True}, "threshold must be a number"),
        ({"threshold": "0.1"}, "threshold must be a number"),
        ({"landmarks": 5.9}, "landmarks must be whole numbers, not 5.9"),
        ({"landmarks": 3.0}, "landmarks must be whole numbers, not 3.0"),
        ({"landmarks": True}, "landmarks must be whole numbers, not True"),
        ({"landmarks": "3"}, "landmarks must be whole numbers, not '3'"),
        ({"landmarks": 2**62}, "at most 10000"),
        ({"flip_pairs": [[0, 1.5]]}, "whole numbers"),
        ({"flip_pairs": [[False, True]]}, "whole numbers"),
        ({"flip_pairs": "02"}, "flip_pairs must be a list"),
        ({"eye_corners": [0, 1, 2]}, "not two landmarks"),
        ({"eye_corners": [1, 1]}, "two landmarks"),
        ({"eye_corners": {"left": 0}}, "eye_corners must be a list"),
        ({"groups": {"all": "012"}}, r"groups\.all must be whole numbers"),
        ({"groups": {"all": [0.0]}}, r"groups\.all must be whole numbers"),
        ({"groups": {"none": []}}, "'none' has no landmarks"),
        ({"groups": [[0, 1]]}, "groups must be a table"),
        ({"closed": "all"}, "closed must be a list"),
        ({"name": 300}, "name must be text"),
        ({"name": ""}, "name must be text"),
    ],
)
def test_a_wrong_scheme_file_is_refused_by_name(tmp_path, changes, message) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        _find(tmp_path, **changes)
    assert "own.toml" in caught.value.message


def test_unknown_key_names_the_nearest(tmp_path) -> None:
    with pytest.raises(UsageError, match="'flip_pair'") as caught:
        _find(tmp_path, flip_pair=[[0, 2]])
    assert caught.value.hint == "Did you mean 'flip_pairs'?"


def test_missing_key_is_named(tmp_path) -> None:
    path = tmp_path / "empty.toml"
    path.write_text('name = "empty"\n', encoding="utf-8")
    with pytest.raises(UsageError, match="no 'landmarks'"):
        find_scheme(str(path))


def test_a_byte_order_mark_is_no_part_of_a_scheme(tmp_path) -> None:
    """Windows' editors write one; and some call the file .TOML."""
    path = tmp_path / "OWN.TOML"
    path.write_bytes(b"\xef\xbb\xbf" + b'name = "own"\r\nlandmarks = 3\r\n')
    assert find_scheme(str(path)) == Scheme("own", 3, {}, frozenset(), (), None)


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"landmarks = [",
        b"\xff\xfe\x00",
        b"landmarks = " + b"[" * 100_000,
        b"landmarks = " + b"1" * 5000,
    ],
    ids=["missing", "open", "no text", "deep", "long"],
)
def test_unreadable_scheme_file(tmp_path, content) -> None:
    path = tmp_path / "broken.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=r"broken\.toml"):
        find_scheme(str(path))


def test_unknown_scheme_suggests_the_nearest() -> None:
    with pytest.raises(UsageError, match="'wflv'") as caught:
        find_scheme("wflv")
    assert caught.value.hint is not None
    assert "Did you mean 'wflw'?" in caught.value.hint
    assert ".toml" in caught.value.hint
