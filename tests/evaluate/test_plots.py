import math
from dataclasses import replace

import cv2
import numpy as np
import pytest

from popos_cli.evaluate import plots
from popos_cli.evaluate.plots import curve_names, save_ced, save_cost, save_figure, save_groups
from popos_cli.inspect import describe
from popos_cli.inspect.describe import save_histograms
from popos_cli.train.runlog import COLUMNS


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
    # Two results of one dataset share a panel; those of others are below it.
    save_ced([evaluate(errors, dataset=name) for name in ("a", "a", "b", "c")], path)
    height, width, _ = cv2.imread(str(path)).shape
    assert width == one[1] and 3 * one[0] < height < 3.3 * one[0]


NINE = [("ml", 5.0), ("dark", 3.0), ("popos", 9.0), ("keyposs", 8.0), ("one-hot", 4.0), ("two-hot", 7.0),
        ("gauss-newton", 6.0), ("ml8", 2.0), ("dark8", 1.0)]  # fmt: skip


@pytest.mark.parametrize("save", [save_ced, save_groups])
def test_nine_curves_are_told_apart_and_listed_by_their_error_below_the_axes(
    figures, evaluate, tmp_path, save
):
    save(
        [evaluate([0.03, 0.02, 0.01], decoder=decoder, nme=nme) for decoder, nme in NINE], tmp_path / "c.png"
    )
    (part,) = figures[0].subfigs
    (panel,) = part.axes
    (below,) = part.legends
    wanted = [f"NME {nme:.2f} %: {decoder}" for decoder, nme in sorted(NINE, key=lambda one: one[1])]
    assert [text.get_text() for text in below.get_texts()] == wanted
    assert len({(line.get_color(), line.get_linestyle(), line.get_marker()) for line in panel.lines}) == 9
    assert len({line.get_color() for line in panel.lines}) == 9
    assert below.get_window_extent().y1 < panel.get_tightbbox().y0 + 1
    assert figures[0].bbox.contains(*below.get_window_extent().p0)


def test_a_group_lies_at_its_error_with_its_interval(figures, evaluate, tmp_path):
    save_groups([evaluate([0.03, 0.02, 0.01])], tmp_path / "g.png")
    (panel,) = figures[0].axes
    assert [label.get_text() for label in panel.get_yticklabels()] == ["all", "ring"]
    assert panel.lines[0].get_xydata().tolist() == [[5.0, 0.0], [5.5, 1.0]]
    (bars,) = panel.collections
    assert [segment[:, 0].tolist() for segment in bars.get_segments()] == [[4.0, 6.0], [4.5, 6.5]]
    save_groups([evaluate([0.03, 0.02, 0.01], groups={})], tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()


def test_weights_of_one_name_in_two_folders_are_told_apart():
    rows = [{"resolution": 16, "decoder": "ml", "weights": f"{folder}/w-1"} for folder in "ab"]
    assert curve_names(rows) == ["a/w-1", "b/w-1"]
    rows = [{"resolution": 16, "decoder": "ml", "weights": f"/home/x/{folder}/w-1"} for folder in "ab"]
    assert curve_names(rows) == ["a/w-1", "b/w-1"]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("$^$", "$^$"),
        ("$$", "$$"),
        (r"cost_$5\$6$", r"cost_$5\$6$"),
        ("_hidden", "_hidden"),
        ("two\nlines", r"two\nlines"),
        ("x" * 3000, "x" * 28 + "..." + "x" * 29),
        ("日本語 🙂", "日本語 🙂"),
        ("caf\udce9", r"caf\udce9"),
    ],
    ids=lambda name: ascii(name[:12]),
)
def test_any_name_can_be_drawn(figures, evaluate, tmp_path, recwarn, name, shown):
    evaluated = [evaluate([0.03, 0.02, 0.01], dataset=name, weights=w) for w in (f"runs/{name}", "other")]
    save_ced(evaluated, tmp_path / "ced.png")
    (panel,) = figures[0].axes
    (below,) = figures[0].subfigs[0].legends
    # What stands there once matplotlib has read formulas.
    title, *legend = (text._preprocess_math(text.get_text()) for text in (
        panel.title, *below.get_texts()
    ))  # fmt: skip
    assert legend == [(f"NME 5.00 %: {shown}", False), ("NME 5.00 %: other", False)]
    assert title[0].startswith(shown[:28]) and title[0].endswith(", 3 faces") and title[1] is False
    assert not recwarn.list


def test_any_name_can_stand_above_histograms(figures, index, tmp_path):
    save_histograms(replace(index, name="$^$\x1b"), tmp_path / "h.png")
    assert figures[0].get_suptitle() == r"\$^\$\x1b: 3 faces, test"


@pytest.fixture
def figures(monkeypatch):
    """The figures that were saved."""
    kept = []

    def save(figure, path):
        kept.append(figure)
        save_figure(figure, path)
        assert cv2.imread(str(path)) is not None

    monkeypatch.setattr(plots, "save_figure", save)
    monkeypatch.setattr(describe, "save_figure", save)
    return kept


@pytest.fixture
def drawn(figures, tmp_path):
    """drawn(rows): the three panels of the training curves, of which a picture was saved as well."""

    def draw(rows):
        plots.save_training_curves(rows, tmp_path / "curves.png", "300w-16-1: 300w, $16")
        return figures[0].axes

    return draw


def epoch(number, **values):
    return {**dict.fromkeys(COLUMNS, math.nan), "epoch": number, **values}


def labels(axes):
    return axes.get_legend_handles_labels()[1]


def test_the_parts_of_the_loss_that_there_are(drawn):
    rows = [
        epoch(
            n, loss=3 / n, heatmap_loss=1 / n, points_loss=float(n > 1), anchor_loss=2 / n,
            sinkhorn_loss=0.0, learning_rate=1e-3 / n**9, val_nme=nme,
        )
        for n, nme in enumerate([9.0, 4.0, 5.0, 6.0], 1)
    ]  # fmt: skip
    losses, errors, rates = drawn(rows)
    assert labels(losses) == ["loss", "heatmap, weighted", "points, weighted", "anchor, weighted"]
    points = losses.lines[2].get_ydata()
    assert np.isnan(points[0]) and list(points[1:]) == [1, 1, 1]  # its weight began at 0
    assert labels(errors) == ["best: 4.000 %, epoch 2"]
    assert list(rates.lines[0].get_ydata()) == [row["learning_rate"] for row in rows]
    assert losses.get_xlim() == errors.get_xlim() == rates.get_xlim()
    assert losses.figure.get_suptitle() == r"300w-16-1: 300w, \$16"
    low, high = rates.get_ylim()
    assert low > high / 1e4  # cosine decay ends at almost 0


@pytest.mark.parametrize("epochs", [1, 2])
def test_curves_of_an_older_run(drawn, epochs):
    """It noted no more than this, and perhaps no parts of a loss that were on."""
    rows = [epoch(n, loss=0.5, heatmap_loss=0.5, points_loss=0.0, val_nme=7.0) for n in range(1, epochs + 1)]
    losses, errors, rates = drawn(rows)
    assert labels(losses) == ["loss", "heatmap, weighted"]
    assert labels(errors) == ["best: 7.000 %, epoch 1"]
    assert not rates.lines


def test_nothing_that_can_be_drawn(drawn):
    assert not any(axes.lines for axes in drawn([epoch(1)]))


def test_cost_compares_resolutions(figures, evaluate, tmp_path):
    both = []
    for resolution, nme in ((16, 3.0), (8, 6.0)):
        both.append(evaluate([nme / 100]))
        both[-1].result.update(resolution=resolution, nme=nme, multiply_adds=int(resolution * 2e7))
    save_cost(both, tmp_path / "cost.png")
    (panel,) = figures[0].axes
    ours, *published = panel.get_lines()
    assert ours.get_xydata() == pytest.approx(np.array([[0.16, 2.0], [0.32, 1.0]]))
    keyposs = published[-1].get_ydata()  # 7.68 and 4.94 % on WFLW
    assert keyposs[0] / keyposs[1] == pytest.approx(7.68 / 4.94)
