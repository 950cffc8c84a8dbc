import csv

from popos_cli.evaluate.run import write_per_face


def test_the_worst_face_first_and_what_cannot_be_measured_last(evaluate, tmp_path):
    write_per_face(
        tmp_path / "t.csv",
        [evaluate([0.02, float("nan"), 0.05]), evaluate([0.03, 0.04, 0.01], decoder="dark", resolution=8)],
    )
    with (tmp_path / "t.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["nme_percent"] for row in rows] == ["5.0000", "4.0000", "3.0000", "2.0000", "1.0000", "nan"]
    first = {
        "dataset": "squares", "split": "test", "weights": "runs/w", "resolution": "16", "decoder": "ml",
        "image": "a.png", "source": "x:1", "subsets": "dark;far", "mean_score": "0.5000",
        "mean_uncertainty_px": "2.0000",
    }  # fmt: skip
    assert {key: rows[0][key] for key in first} == first
    second = ("dark", "8", "b <i>&.png", "")
    assert tuple(rows[1][key] for key in ("decoder", "resolution", "image", "subsets")) == second


def test_a_name_that_is_no_utf8(evaluate, index, tmp_path):
    index.image[0] = "caf\udce9.png"
    write_per_face(tmp_path / "t.csv", [evaluate([0.02, 0.01, 0.03])])
    with (tmp_path / "t.csv").open(newline="", encoding="utf-8") as file:
        assert next(row["image"] for row in csv.DictReader(file)) == r"caf\udce9.png"
