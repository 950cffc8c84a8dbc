"""CSV columns by their names: whatever their order, each landmark gets its own x and y."""

import numpy as np
import pytest

from popos_cli.core.schemes import Scheme
from popos_cli.errors import PoposError
from popos_cli.prepare.custom_csv import read_csv
from popos_cli.prepare.labels import Bad

NAMES = ("left eye", "right eye", "nose", "left mouth", "right mouth")
PLAIN = Scheme("five", 5, {}, frozenset(), (), None)
NAMED = Scheme("named", 5, {name: (n,) for n, name in enumerate(NAMES)}, frozenset(), (), None)
IN_GROUPS = Scheme("grouped", 5, {"eye": (0, 1), "nose": (2,), "mouth": (3, 4)}, frozenset(), (), None)
X = [11.5, 12.25, 13, 14, 15]
Y = [21.5, 22.25, 23, 24, 25]
POINTS = np.array([X, Y]).T
CELLS = {f"x{n}": x for n, x in enumerate(X)} | {f"y{n}": y for n, y in enumerate(Y)}


def pairs(axes="xy", x="{a}{n}", numbers=range(5)):
    return [x.format(a=a, n=n) for n in numbers for a in axes]


def read(tmp_path, header, row, scheme=PLAIN, separator=","):
    path = tmp_path / "labels.csv"
    lines = [separator.join(header), separator.join(map(str, row))]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    rows, scheme, remarks = read_csv(path, scheme)
    return rows[0], scheme, remarks


INTERLEAVED = [v for pair in zip(X, Y, strict=True) for v in pair]
WORDS = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")
# name -> header, its cells: all are the same face.
ORDERS = {
    "as OpenFace writes, with spaces": (
        ["image", " frame", *(f" x_{n}" for n in range(5)), *(f" y_{n}" for n in range(5))],
        ["a.png", 7, *X, *Y],
    ),
    "OpenFace's whole table": (
        ["source", "confidence", "success", *pairs(x="gaze_{n}_{a}", numbers=(0, 1)), "gaze_angle_x",
         "gaze_angle_y", *pairs(x="eye_lmk_{a}_{n}"), *pairs("XYZ", "eye_lmk_{a}_{n}"),
         *pairs("XYZ", "{a}_{n}"), *pairs(x="{a}_{n}"), "p_scale", "AU01_r"],
        ["a.png", 0.9, 1, *[9] * 6, *[8] * 10, *[6] * 15, *[7] * 15, *INTERLEAVED, 1, 0],
    ),
    "from 1 on, with zeros": (["image", *pairs(x="{a}{n:02}", numbers=range(1, 6))], ["a.png", *INTERLEAVED]),
    "number before axis": (["image", *pairs(x="{n}_{a}")], ["a.png", *INTERLEAVED]),
    "HRNet's": (
        ["image_name", "scale", "center_w", "center_h", *pairs(x="original_{n}_{a}")],
        ["a.png", 1, 50, 60, *INTERLEAVED],
    ),
    "index column of pandas": (["", "Image", *pairs()], [0, "a.png", *INTERLEAVED]),
    "capitals, image last": ([*pairs("XY"), "FILE_NAME"], [*INTERLEAVED, "a.png"]),
    "CelebA's names": (["image_id", *pairs(x="{n}_{a}", numbers=WORDS)], ["a.png", *INTERLEAVED]),
    "names beside a box": (
        ["image", *pairs(x="bbox_{a}", numbers=[0]), "bbox_w", *pairs(x="{n}_{a}", numbers=WORDS)],
        ["a.png", 1, 2, 3, *INTERLEAVED],
    ),
    "names behind the axis": (["image", *pairs(x="{a}_{n}", numbers=WORDS)], ["a.png", *INTERLEAVED]),
    "camel case": (
        ["image", *pairs("XY", "{n}{a}", ("leftEye", "rightEye", "nose", "leftMouth", "rightMouth"))],
        ["a.png", *INTERLEAVED],
    ),
}  # fmt: skip


@pytest.mark.parametrize("order", ORDERS)
def test_columns_by_name(tmp_path, order):
    header, cells = ORDERS[order]
    row, _, _ = read(tmp_path, header, cells)
    assert (row.source, row.group) == ("labels.csv:2", "a.png")
    np.testing.assert_array_equal(row.points, POINTS)
    np.testing.assert_array_equal(row.visible, [2] * 5)


def test_any_order_of_the_columns_is_the_same_face(tmp_path):
    rng = np.random.default_rng(0)
    names = ["image", *CELLS]
    for _ in range(20):
        header = rng.permutation(names).tolist()
        row, _, _ = read(tmp_path, header, [CELLS.get(name, "a.png") for name in header])
        np.testing.assert_array_equal(row.points, POINTS)


@pytest.mark.parametrize("separator", [";", "\t"])
def test_other_separators(tmp_path, separator):
    row, _, _ = read(tmp_path, ["image", *pairs()], ["a,b.png", *INTERLEAVED], separator=separator)
    assert row.group == "a,b.png"
    np.testing.assert_array_equal(row.points, POINTS)


@pytest.mark.parametrize("scheme", [NAMED, IN_GROUPS])
def test_the_schemes_own_names_set_the_order(tmp_path, scheme):
    places = [4, 2, 0, 3, 1]
    names = [scheme.names[place].replace(" ", "_") for place in places]
    cells = [v for place in places for v in POINTS[place]]
    row, same, _ = read(tmp_path, ["image", *pairs(x="{n}_{a}", numbers=names)], ["a.png", *cells], scheme)
    np.testing.assert_array_equal(row.points, POINTS)
    assert same == scheme


def test_the_schemes_own_names_come_before_numbers(tmp_path):
    """x1, y1, x2, y2 are the corners of a box there."""
    two = Scheme("two", 2, {"left eye": (0,), "nose": (1,)}, frozenset(), (), None)
    header = ["image", "x1", "y1", "x2", "y2", *pairs(x="{n}_{a}", numbers=("nose", "left_eye"))]
    row, _, _ = read(tmp_path, header, ["a.png", 1, 2, 3, 4, *POINTS[2], *POINTS[0]], two)
    np.testing.assert_array_equal(row.points, POINTS[[0, 2]])


def test_names_become_those_of_a_scheme_without(tmp_path):
    header = ["image", *pairs(x="{n}_{a}", numbers=WORDS)]
    _, scheme, remarks = read(tmp_path, header, ["a.png", *INTERLEAVED])
    assert scheme.names == NAMES
    assert "left eye, right eye, nose" in remarks[0]


REFUSED = {
    "letters": (["image", *"abcdefghij"], "no x and y for each of 5 landmarks: image, a, b"),
    "a gap": (["image", *pairs(numbers=(0, 1, 2, 3, 5))], "no x and y"),
    "from 2 on": (["image", *pairs(numbers=range(2, 7))], "no x and y"),
    "an x for a y": (["image", "x0", "y0", "x1", "y1", "x2", "x3", "y3", "x4", "y4", "y5"], "no x and y"),
    "one twice": (["image", *pairs(numbers=(0, 1, 2, 3, 3))], "'x3'"),
    "one written two ways": (["image", *pairs(numbers=(0, 1, 2, 3)), "x3", "y03"], "two columns for the x"),
    "two sets": (["image", *pairs(), *pairs(x="{a}_{n}")], "several sets of columns"),
    "a box or landmarks": (
        ["image", *pairs(numbers=range(1, 6)), *pairs(x="{n}_{a}", numbers=WORDS)],
        "several sets of columns",
    ),
    "axes alone": (["image", *["x", "y"] * 5], "no x and y"),
    "no header": (["a.png", *map(str, INTERLEAVED)], "no column is called image"),
    "six landmarks": (["image", *pairs(numbers=range(6))], "6 landmarks, but scheme 'five' has 5"),
    "four names": (["image", *pairs(x="{n}_{a}", numbers=WORDS[:4])], "4 landmarks, but scheme 'five' has 5"),
}


@pytest.mark.parametrize("header", REFUSED)
def test_a_header_that_leaves_it_open_is_refused(tmp_path, header):
    names, reason = REFUSED[header]
    with pytest.raises(PoposError) as caught:
        read(tmp_path, names, ["1"] * len(names))
    assert reason in caught.value.message
    assert "labels.csv:1" in caught.value.message
    assert caught.value.hint


def test_names_that_contradict_the_scheme_are_refused(tmp_path):
    """Some are its own, but of other landmarks: no order would be right for all."""
    header = ["image", *pairs(x="{n}_{a}", numbers=("nose", "eye_a", "eye_b", "c", "d"))]
    with pytest.raises(PoposError, match="'nose' is landmark 0 there, but 2 in scheme 'named'"):
        read(tmp_path, header, ["a.png", *INTERLEAVED], NAMED)


def test_other_columns_are_named_and_passed_by(tmp_path):
    header = ["image", "confidence", *pairs(), *(f"u_{n}" for n in range(9))]
    row, _, remarks = read(tmp_path, header, ["a.png", 0.5, *INTERLEAVED, *[3] * 9])
    np.testing.assert_array_equal(row.points, POINTS)
    assert "not used: confidence, u_0, u_1, u_2, u_3, u_4 ... (10 in all)" in remarks[0]


@pytest.mark.parametrize(
    "missing",
    [("", ""), ("NaN", "nan"), ("", "NaN"), (" ", "NA"), ("null", "None"), ("#N/A", "n/a")],
)
def test_a_point_that_is_not_labelled(tmp_path, missing):
    cells = ["a.png", *INTERLEAVED]
    cells[3:5] = missing
    row, _, _ = read(tmp_path, ["image", *pairs()], cells)
    assert row.visible.tolist() == [2, 0, 2, 2, 2]
    assert np.isnan(row.points[1]).all()
    np.testing.assert_array_equal(np.delete(row.points, 1, 0), np.delete(POINTS, 1, 0))


def test_visibility_columns_mean_what_coco_means(tmp_path):
    cells = [v for n, v in enumerate((2, 1, 0, 0.4, 2)) for v in (*POINTS[n], v)]
    row, _, _ = read(tmp_path, ["image", *pairs("xyv")], ["a.png", *cells])
    assert row.visible.tolist() == [2, 1, 0, 2, 2]


@pytest.mark.parametrize(
    "cell, reason",
    [("", "column y1: '' is not a number"), ("left", "column y1: 'left' is not a number"),
     ("9" * 1000 + "x", "column y1: '9999")],
)  # fmt: skip
def test_half_a_point_is_a_bad_row(tmp_path, cell, reason):
    cells = ["a.png", *INTERLEAVED]
    cells[4] = cell
    row, _, _ = read(tmp_path, ["image", *pairs()], cells)
    assert isinstance(row, Bad)
    assert row.source == "labels.csv:2" and reason in row.reason and len(row.reason) < 100


def test_a_row_is_named_by_the_line_where_it_begins(tmp_path):
    """A quote that is never closed swallows the lines below it, however many; the file begins with a mark."""
    header = ",".join(["image", *pairs()])
    good = ",".join(map(str, ["a.png", *INTERLEAVED]))
    path = tmp_path / "labels.csv"
    path.write_text("\ufeff" + "\n".join([header, good, "", good, '"' + good, *[good] * 10_000]))
    rows, _, _ = read_csv(path, PLAIN)
    assert [row.source for row in rows] == [f"labels.csv:{line}" for line in (2, 4, 5)]
    assert [isinstance(row, Bad) for row in rows] == [False, False, True]
