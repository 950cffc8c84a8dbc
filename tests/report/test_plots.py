import math

import cv2
import numpy as np
import pytest

from popos_cli.engine.runlog import COLUMNS
from popos_cli.report import plots
from popos_cli.report.plots import curve_names, save_ced, save_figure


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


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """drawn(rows): the three panels of the training curves, of which a picture was saved as well."""

    def draw(rows):
        figures = []

        def save(figure, path):
            figures.append(figure)
            save_figure(figure, path)

        monkeypatch.setattr(plots, "save_figure", save)
        plots.save_training_curves(rows, tmp_path / "curves.png")
        assert cv2.imread(str(tmp_path / "curves.png")) is not None
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
