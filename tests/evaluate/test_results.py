"""Errors of faces -> the figures that evaluate reports; and which weights go with which dataset."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from popos_cli.core.schemes import W300, WFLW
from popos_cli.data.index import Index, write_index
from popos_cli.data.partial import mark
from popos_cli.errors import PoposError, UsageError
from popos_cli.evaluate.choose import Job, choose_jobs, faces_of
from popos_cli.evaluate.measure import Measured
from popos_cli.evaluate.results import Conditions, build_result
from popos_cli.evaluate.table import figure_tables
from popos_cli.weights.format import save_weights
from popos_cli.weights.info import WeightsInfo

FACES = 4


@pytest.fixture
def index():
    """Four faces; the last has no eye corners, so it cannot be measured. The third has 4 labelled points."""
    points = np.random.default_rng(0).uniform(0, 100, (FACES, 68, 2))
    points[:, 36], points[:, 45] = (20, 50), (80, 50)
    visible = np.full((FACES, 68), 2, np.uint8)
    visible[2, :64] = 0
    visible[2, [36, 45]] = 1
    visible[2, [64, 65]] = 0
    visible[3, 36] = 0
    points[visible == 0] = np.nan
    return Index(
        name="faces", scheme=W300, root=Path("."), image=np.array(["a.png"] * FACES),
        size=np.full((FACES, 2), 100, np.int32), points=points, visible=visible,
        center=np.full((FACES, 2), 50.0), side=np.full(FACES, 100.0), split=np.array(["test"] * FACES),
        group=np.array([""] * FACES), source=np.array(["x"] * FACES),
        subset=np.array([[1, 0, 0], [1, 0, 0], [0, 0, 0], [0, 1, 0]], bool), rect=np.full((FACES, 4), np.nan),
        subsets=("first", "unmeasurable", "empty"), notes={"benchmark": "300w"},
    )  # fmt: skip


def measured(index):
    """Rows in another order than the index's; every point is off by 6 pixels, a tenth of the eyes'
    distance, but 12 in the third face."""
    face = np.array([2, 0, 3, 1])
    distance = np.array([12.0, 6.0, 6.0, 6.0])
    points = np.nan_to_num(index.points[face]) + distance[:, None, None] * [0.6, 0.8]
    error = np.where(face == 3, np.nan, distance / 60)
    ones = np.ones((FACES, 68))
    return Measured(face, error, points, ones, ones)


def result(index, **conditions):
    job = Job(index, "w", Path("w.safetensors"), WeightsInfo(resolution=64, scheme="300w"))
    return build_result(index, job, "two-hot", measured(index), Conditions(**conditions))


def test_per_face_and_pooled(index):
    face, pooled = result(index), result(index, averaging="pooled")
    assert (face["averaging"], pooled["averaging"]) == ("face", "pooled")
    assert face["faces"] == pooled["faces"] == 3
    assert face["nme"] == pytest.approx((10 + 10 + 20) / 3)
    assert pooled["nme"] == pytest.approx((68 * 10 + 68 * 10 + 4 * 20) / 140)
    assert face["failure_rate"] == pooled["failure_rate"] == pytest.approx(100 / 3)
    assert face["auc"] == pooled["auc"]


def test_subsets_that_have_faces(index):
    found = result(index)
    assert set(found["subsets"]) == {"first"}
    first = found["subsets"]["first"]
    assert (first["faces"], first["nme"], first["published"]) == (2, pytest.approx(10), None)


def test_groups_of_landmarks_and_intervals(index):
    """Of face or points; a group counts the faces that have it: the third has a part of the inner lip alone
    beside its eye corners."""
    found = result(index)
    assert set(found["groups"]) == set(W300.groups)
    jaw, lip = found["groups"]["jaw"], found["groups"]["inner lip"]
    assert (jaw["faces"], jaw["nme"], jaw["nme_interval"]) == (2, pytest.approx(10), pytest.approx([10, 10]))
    assert (lip["faces"], lip["nme"]) == (3, pytest.approx(40 / 3))
    pooled = result(index, averaging="pooled")["groups"]["inner lip"]
    assert pooled["nme"] == pytest.approx((8 * 10 + 8 * 10 + 2 * 20) / 18)
    for figures in (found, lip, pooled):
        low, high = figures["nme_interval"]
        assert 10 - 1e-9 <= low < figures["nme"] < high <= 20 + 1e-9
    assert found == result(index)
    assert found["subsets"]["first"]["nme_interval"] == pytest.approx([10, 10])


def test_one_face_has_no_interval(index):
    alone = result(index.select(np.array([0, 1, 2, 3])))  # faces 0, 1 and 3 are in subsets
    assert alone["nme_interval"]
    subset = index.subset.copy()
    subset[1, 0] = False
    assert result(replace(index, subset=subset))["subsets"]["first"]["nme_interval"] is None


def test_the_threshold_is_the_schemes_or_the_users(index):
    assert result(index)["threshold"] == 0.1
    strict = result(index, threshold=0.05)
    assert (strict["threshold"], strict["failure_rate"], strict["auc"]) == (0.05, 100, 0)


def test_published_figures_are_for_the_papers_crops(index):
    row = result(index)["published"]
    assert row["nme"] == 3.37
    assert row["difference"] == pytest.approx(40 / 3 - 3.37)
    assert row["remark"] == "3 of 689 faces: not comparable"
    assert result(index, boxes="detector")["published"] is None


MISSING = {
    "benchmark": "300w", "split": "test", "faces": 4, "of": 689, "parts": {"ibug": [0, 135]},
    "subsets": {"unmeasurable": [1, 135]},
}  # fmt: skip


def test_a_partial_split_is_marked_and_a_whole_subset_of_it_is_not(index):
    """Faces that cannot be measured are no shortfall."""
    assert result(index)["partial"] is None
    index = replace(index, notes={"benchmark": "300w", "partial": True, "missing": {"test": MISSING}})
    found = result(index)
    assert (found["partial"], found["trained_on_partial"]) == (MISSING, None)
    assert found["subsets"]["first"]["partial"] is None
    assert found["published"]["remark"] == "partial, 3 of 689 faces: not comparable"
    (table,), notes = figure_tables([found])
    assert table.title == "faces test: NME in % of inter-ocular, failure (FR) above 10 %"
    whole, subset = (cells for kind, cells in table.rows if kind != "published")
    assert (whole[-1], notes[0], subset[-1]) == ("1", "partial: 4 of 689 faces", "")
    # Validation faces are some of the training part's; other splits of the dataset are whole.
    short = {**MISSING, "split": "train", "faces": 100, "of": 3148}
    index = replace(index, notes={**index.notes, "missing": {"train": short}})
    assert result(index)["partial"] is None
    held = result(replace(index, split=np.array(["val"] * FACES)))
    assert mark(held["partial"]) == "partial: 100 of 3148 training faces"
    index = replace(index, notes={"benchmark": "300w", "partial": True})  # an earlier version's
    assert mark(result(index)["partial"]) == "partial"


def test_weights_of_a_partial_training_set_are_marked_on_whole_test_faces_too(index):
    info = WeightsInfo(resolution=64, scheme="300w", training={"partial": {**MISSING, "split": "train"}})
    found = build_result(index, Job(index, "w", Path("w"), info), "ml", measured(index), Conditions())
    assert found["partial"] is None
    assert found["published"]["remark"] == "3 of 689 faces: not comparable; trained on part of 300w"
    (table,), notes = figure_tables([found])
    assert [cells[-1] for kind, cells in table.rows if kind != "published"] == ["1", "1"]
    assert notes[0] == "trained on part of 300w (4 of 689 faces)"


CHOSEN = {"dataset": "faces", "benchmark": "300w", "selected_on": "test", "val_nme": 5.0}
HELD = {**CHOSEN, "selected_on": "val"}
SELECTED, TRAINED = "epoch selected on these faces", "trained on these faces"


@pytest.mark.parametrize(
    ("training", "split", "remark"),
    [
        (CHOSEN, "test", SELECTED),
        ({**CHOSEN, "dataset": "the same under another name"}, "test", SELECTED),
        ({**CHOSEN, "dataset": "other", "benchmark": "wflw"}, "test", None),
        ({**CHOSEN, "dataset": "other", "benchmark": None}, "test", None),
        ({key: value for key, value in CHOSEN.items() if key != "val_nme"}, "test", None),  # the last epoch's
        (CHOSEN, "private", None),
        (CHOSEN, "train", TRAINED),
        (CHOSEN, "val", TRAINED),  # held back later
        (HELD, "val", SELECTED),
        (HELD, "test", None),
        (HELD, "train", TRAINED),
        ({"dataset": "faces", "val_nme": 5.0}, "test", None),  # an earlier version's: not known
        ({}, "test", None),
    ],
)
def test_faces_that_the_weights_know_are_marked(index, training, split, remark):
    index = replace(index, split=np.array([split] * FACES))
    info = WeightsInfo(resolution=64, scheme="300w", training=training)
    job = Job(index, "w", Path("w.safetensors"), info)
    assert build_result(index, job, "ml", measured(index), Conditions())["remark"] == remark


def test_faces_that_cannot_be_measured_are_found_before_the_network_runs(index):
    assert len(faces_of(index, "test")) == FACES
    with pytest.raises(PoposError, match="no face of split test can be measured"):
        faces_of(index.select(np.array([3])), None)


@pytest.fixture
def prepared(index, tmp_path, monkeypatch):
    """prepared(name, *splits): an index in POPOS_HOME with its faces in these splits."""
    monkeypatch.setenv("POPOS_HOME", str(tmp_path))

    def make(name, *splits, **changed):
        split = np.resize(np.array(splits), FACES)
        write_index(replace(index, name=name, split=split, **changed))

    return make


def chosen(*arguments):
    jobs, passed_over = choose_jobs(*arguments)
    return [(j.index.name, str(j.index.split[0]), j.info.resolution, j.label) for j in jobs], passed_over


def test_every_dataset_and_every_resolution_that_has_weights(prepared):
    prepared("a", "train", "val")
    prepared("b", "test", "private", "val")
    jobs, passed_over = chosen((), "all", (), None)
    assert jobs == [
        (dataset, split, resolution, weights)
        for dataset, split in (("a", "val"), ("b", "test"))
        for resolution, weights in ((16, "default"), (8, "small"), (4, "tiny"))
    ]
    assert passed_over == []
    assert chosen((), 8, (), None)[0] == [("a", "val", 8, "small"), ("b", "test", 8, "small")]
    assert chosen(["a"], None, (), "train")[0] == [("a", "train", 16, "default")]
    assert chosen((), "all", ["small"], None)[0] == [("a", "val", 8, "small"), ("b", "test", 8, "small")]


def test_datasets_without_the_split_are_passed_over(prepared):
    prepared("a", "train", "val")
    prepared("b", "test", "private", "val")
    prepared("c", "train")
    jobs, passed_over = chosen((), None, (), "private")
    assert jobs == [("b", "private", 16, "default")]
    assert passed_over == ["dataset 'a' has no split 'private'", "dataset 'c' has no split 'private'"]
    _, passed_over = chosen((), None, (), None)
    assert passed_over == ["dataset 'c' has neither test nor validation faces"]
    with pytest.raises(UsageError, match="has no split 'private'"):
        chosen(["a"], None, (), "private")


def test_a_split_that_no_dataset_has(prepared):
    prepared("a", "train", "val")
    prepared("b", "val")
    with pytest.raises(UsageError, match="no prepared dataset has a split 'private'"):
        chosen((), None, (), "private")


def test_nothing_fits_any_dataset(prepared):
    prepared("a", "val")
    prepared("b", "val")
    with pytest.raises(PoposError, match="no weights at resolution 64 fit a, b") as told:
        chosen((), 64, (), None)
    assert "popos train --dataset a --resolution 64" in told.value.hint


@pytest.fixture
def wflw_faces():
    """What makes the faces WFLW's."""
    points = np.random.default_rng(0).uniform(0, 100, (FACES, 98, 2))
    return {"scheme": WFLW, "points": points, "visible": np.full((FACES, 98), 2, np.uint8)}


def test_several_named_weights_and_datasets(prepared, wflw_faces):
    prepared("a", "val")
    prepared("b", "val")
    prepared("w", "val", **wflw_faces)
    assert chosen(["b", "a", "b"], None, ["small", "default", "small"], None)[0] == [
        ("b", "val", 8, "small"), ("b", "val", 16, "default"),
        ("a", "val", 8, "small"), ("a", "val", 16, "default"),
    ]  # fmt: skip
    jobs, passed_over = chosen((), None, ["small"], None)
    assert jobs == [("a", "val", 8, "small"), ("b", "val", 8, "small")]
    assert passed_over == ["small: finds the points of scheme '300w', but dataset 'w' has 'wflw'"]
    with pytest.raises(PoposError, match="dataset 'w' has 'wflw'"):  # nothing that was named is left out
        chosen(["a", "w"], None, ["small"], None)
    with pytest.raises(PoposError, match="dataset 'nowhere' is not prepared"):
        chosen(["a", "nowhere"], None, (), None)


def test_named_weights_that_fit_no_dataset(prepared, wflw_faces, tmp_path):
    prepared("a", "val")
    info = WeightsInfo(resolution=4, scheme="wflw")
    file = tmp_path / "w.safetensors"
    save_weights(file, info.build_model(98).state_dict(), info, half=True)
    with pytest.raises(PoposError, match=r"w\.safetensors: finds the points of scheme 'wflw'"):
        chosen((), None, ["small", str(file)], None)
    prepared("w", "val", **wflw_faces)
    jobs, passed_over = chosen((), None, ["small", str(file)], None)
    assert jobs == [("a", "val", 8, "small"), ("w", "val", 4, str(file))]
    assert len(passed_over) == 2


def test_an_index_that_is_torn_ends_no_sweep(prepared, tmp_path):
    prepared("a", "val")
    (tmp_path / "datasets/torn.npz").write_bytes(b"PK")
    jobs, passed_over = chosen((), None, (), None)
    assert jobs == [("a", "val", 16, "default")]
    assert "torn.npz" in passed_over[0]
