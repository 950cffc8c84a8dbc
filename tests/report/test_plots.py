import cv2

from popos_cli.report.plots import curve_names, save_ced


def test_curves_are_named_by_what_differs():
    def names(*rows):
        keys = ("resolution", "decoder", "weights")
        return curve_names([dict(zip(keys, row, strict=True)) for row in rows])

    assert names((16, "ml", "runs/a")) == ["ml"]
    assert names((16, "ml", "runs/a"), (16, "dark", "runs/a")) == ["ml", "dark"]
    assert names((16, "ml", "runs/a"), (8, "ml", "/x/runs/b")) == ["R=16, a", "R=8, b"]


def test_a_panel_for_each_dataset(evaluate, tmp_path):
    path = tmp_path / "ced.png"
    errors = [0.03, float("nan"), 0.01]
    save_ced([evaluate(errors)], path)
    one = cv2.imread(str(path)).shape
    # Two results of one dataset share a panel; a fourth dataset begins a second line.
    save_ced([evaluate(errors, dataset=name) for name in ("a", "a", "b", "c", "d")], path)
    height, width, _ = cv2.imread(str(path)).shape
    assert (height, width) == (2 * one[0], 3 * one[1])
