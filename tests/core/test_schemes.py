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
def test_the_mirrored_face_is_the_flipped_face(scheme):
    flip, points = scheme.flip_index, canonical_points(scheme)
    assert points.shape == (scheme.landmarks, 2)
    np.testing.assert_array_equal(flip[flip], np.arange(scheme.landmarks))
    np.testing.assert_allclose(points[flip] * (-1, 1), points, atol=1e-12)
    stays = flip == np.arange(scheme.landmarks)
    assert set(np.flatnonzero(~stays)) == {i for pair in scheme.flip_pairs for i in pair}
    assert (abs(points[~stays, 0]) > 0.02).all()
    gaps = np.linalg.norm(points[:, None] - points, axis=-1) + np.eye(len(points))
    assert gaps.min() > 0.01


@every_scheme
def test_groups_cover_every_index_once_and_lie_on_their_side(scheme):
    x = canonical_points(scheme)[:, 0]
    assert sorted(i for group in scheme.groups.values() for i in group) == list(range(scheme.landmarks))
    assert len(set(scheme.names)) == scheme.landmarks and all(scheme.names)
    for name, indices in scheme.groups.items():
        side = -1 if name.startswith("left") else name.startswith("right")
        assert not side or (side * x[list(indices)] > 0).all(), name


@every_scheme
def test_edges_join_neighbours_and_close_rings(scheme):
    edges = scheme.edges
    assert len(set(edges)) == len(edges)
    for name, indices in scheme.groups.items():
        inside = [edge for edge in edges if edge[0] in indices]
        assert all(b in indices for _, b in inside)
        assert len(inside) == len(indices) - (name not in scheme.closed)


@every_scheme
def test_eye_corners_are_the_outer_ones(scheme):
    if scheme is AFLW:
        assert (scheme.eye_corners, scheme.normaliser) == (None, "box")
        return
    x = canonical_points(scheme)[:, 0]
    eyes = [i for name, group in scheme.groups.items() if name.endswith("eye") for i in group]
    assert scheme.eye_corners == (min(eyes, key=lambda i: x[i]), max(eyes, key=lambda i: x[i]))
    assert scheme.normaliser == "inter-ocular"


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
def test_parts_of_the_face_from_top_to_bottom(scheme, downwards):
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
def test_parts_of_the_face_from_left_to_right(scheme, rightwards):
    x = canonical_points(scheme)[:, 0]
    for indices in rightwards:
        assert (np.diff(x[list(indices)]) > 0).all(), indices


@every_scheme
def test_toml_round_trip(scheme, tmp_path):
    assert find_scheme(scheme.name) is scheme
    own = replace(scheme, name="mine", threshold=0.08)
    path = tmp_path / "mine.toml"
    path.write_text(tomli_w.dumps(own.to_dict()), encoding="utf-8")
    assert find_scheme(str(path)) == own


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"landmarks": 0}, "landmarks: .*greater than or equal to 1"),
        ({"landmarks": 2**62}, "landmarks: .*less than or equal to 10000"),
        *[({"landmarks": value}, "landmarks: .*integer") for value in ("three", "3", 5.9, 3.0, True)],
        ({"landmarks": None}, "landmarks: Field required"),
        ({"flip_pairs": [[0, 3]]}, r"index 3 lies outside 0\.\.2"),
        ({"flip_pairs": [[-1, 0]]}, r"index -1 lies outside 0\.\.2"),
        ({"flip_pairs": [[0, 1], [1, 2]]}, "two flip pairs"),
        ({"flip_pairs": [[1, 1]]}, "two flip pairs"),
        ({"flip_pairs": [[0, 1, 2]]}, r"flip_pairs\.0: "),
        ({"flip_pairs": [[0, 1.5]]}, r"flip_pairs\.0\.1: .*integer"),
        ({"flip_pairs": [[False, True]]}, r"flip_pairs\.0\.0: .*integer"),
        ({"flip_pairs": "02"}, "flip_pairs: "),
        ({"eye_corners": [0, 9]}, r"index 9 lies outside 0\.\.2"),
        ({"eye_corners": [0]}, r"eye_corners\.1: Field required"),
        ({"eye_corners": [0, 1, 2]}, "eye_corners: .*2 items"),
        ({"eye_corners": [1, 1]}, "two landmarks"),
        ({"eye_corners": {"left": 0}}, "eye_corners: "),
        ({"groups": {"all": [0, 7]}}, r"index 7 lies outside 0\.\.2"),
        ({"groups": {"all": "012"}}, r"groups\.all: "),
        ({"groups": {"all": [0.0]}}, r"groups\.all\.0: .*integer"),
        ({"groups": {"none": []}}, r"groups\.none: "),
        ({"groups": [[0, 1]]}, "groups: .*dictionary"),
        ({"closed": ["mouth"]}, "closed names no group: mouth"),
        ({"closed": "all"}, "closed: "),
        ({"threshold": 0.0}, "threshold: .*greater than 0"),
        ({"threshold": float("inf")}, "threshold: .*finite"),
        *[({"threshold": value}, "threshold: .*number") for value in (True, "0.1")],
        *[({"name": value}, "name: ") for value in (300, "", None)],
        ({"flip_pair": [[0, 2]]}, "flip_pair: Unexpected"),
    ],
)
def test_a_wrong_scheme_file_is_refused_by_file_and_key(tmp_path, changes, message):
    right = Scheme("own", 3, {"all": (0, 1, 2)}, frozenset(), ((0, 2),), None).to_dict()
    path = tmp_path / "own.toml"
    content = {key: value for key, value in (right | changes).items() if value is not None}
    path.write_text(tomli_w.dumps(content), encoding="utf-8")
    with pytest.raises(UsageError, match=rf"own\.toml: not a landmark scheme: .*{message}") as caught:
        find_scheme(str(path))
    assert caught.value.hint == ("Did you mean 'flip_pairs'?" if "flip_pair" in changes else None)


def test_a_byte_order_mark_is_no_part_of_a_scheme(tmp_path):
    """Windows' editors write one; and some call the file .TOML."""
    path = tmp_path / "OWN.TOML"
    path.write_bytes(b"\xef\xbb\xbf" + b'name = "own"\r\nlandmarks = 3\r\n')
    assert find_scheme(str(path)) == Scheme("own", 3)


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"landmarks = [",
        b"\xff\xfe\x00",
        b"landmarks = " + b"[" * 100_000,
        b"landmarks = " + b"1" * 5000,
    ],
    ids=["missing", "open", "not text", "deep", "long"],
)
def test_unreadable_scheme_file(tmp_path, content):
    path = tmp_path / "broken.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=r"broken\.toml"):
        find_scheme(str(path))


def test_unknown_scheme_suggests_the_nearest():
    with pytest.raises(UsageError, match="'wflv'") as caught:
        find_scheme("wflv")
    assert "Did you mean 'wflw'?" in caught.value.hint and ".toml" in caught.value.hint
