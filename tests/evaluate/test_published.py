"""Published figures, and when they stand beside ours."""

from dataclasses import replace

import numpy as np
import pytest

from popos_cli.core.decoders import DECODERS
from popos_cli.evaluate.published import nearest, nearest_published, published_figures
from popos_cli.prepare.benchmarks import BENCHMARKS


def test_the_table_speaks_of_what_there_is():
    """A slip in a name would hide a row for good."""
    for row in published_figures():
        protocol = BENCHMARKS[row.benchmark]
        assert row.subset in ("full", *protocol.subsets, *protocol.splits), row
        assert row.decoder in (None, *DECODERS), row
        assert row.citation
    keys = [(row.benchmark, row.subset, row.method, row.resolution) for row in published_figures()]
    assert len(set(keys)) == len(keys)
    for name, protocol in BENCHMARKS.items():
        assert {row.subset for row in published_figures() if row.benchmark == name} >= {
            "full",
            *protocol.subsets,
        }


def test_a_coarser_heatmap_never_was_published_as_better():
    """Catches figures that have changed places."""
    for method in {(row.benchmark, row.subset, row.method) for row in published_figures()}:
        series = sorted((row.resolution, row.nme) for row in published_figures()
                        if (row.benchmark, row.subset, row.method) == method)  # fmt: skip
        assert [nme for _, nme in series] == sorted((nme for _, nme in series), reverse=True)


@pytest.mark.parametrize(
    ("name", "subset", "resolution", "decoder", "nme"),
    [
        ("wflw", "full", 16, "dark", 5.38),
        ("wflw", "full", 16, "ml", 4.94),  # of the family of KeyPosS
        ("wflw", "full", 4, "popos", 12.04),
        ("aflw", "full", 64, "dark", 1.34),  # two papers: the better one
        ("wflw", "full", 64, "two-hot", 4.06),
        ("300w", "common", 8, "ml", 2.86),  # R=64 alone is published, and no KeyPosS
        ("wflw", "largepose", 16, "dark", 6.99),
        ("wflw", "blur", 16, "keyposs", 4.57),  # the best of three
        ("coco-face", "full", 64, "gauss-newton", 5.17),
        ("300w", "private", 64, "ml", 3.97),
    ],
)
def test_the_nearest(name, subset, resolution, decoder, nme):
    assert nearest(name, subset, resolution, decoder).nme == nme


def test_nothing_published_of_it():
    assert nearest("cofw", "common", 64, "ml") is None
    assert nearest("mine", "full", 64, "ml") is None


@pytest.fixture
def official(index):
    """official(benchmark, split, **notes): an index that says it is that benchmark's."""

    def make(benchmark, split="test", **notes):
        return replace(index, split=np.array([split] * 3), notes={"benchmark": benchmark, **notes})

    return make


def test_ours_minus_theirs(official):
    found = nearest_published(official("cofw"), None, 16, "ml", 507, 3.9)
    assert found.pop("difference") == pytest.approx(0.5)
    assert found == {
        "nme": 3.4, "method": "HRNetV2-W18 (mmpose)", "resolution": 64, "decoder": "two-hot",
        "citation": "MMPose model zoo, v0.29.0", "remark": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "split", "subset", "faces", "remark"),
    [
        ("300w", "test", None, 5, "partial, 5 of 689 faces: not comparable"),
        ("300w", "test", None, 689, None),
        ("300w", "test", "common", 553, "partial, 553 of 554 faces: not comparable"),
        ("300w", "private", None, 600, None),
        # Nobody states how many.
        ("coco-face", "test", None, 5, "not known to be all of the data: not comparable"),
    ],
)
def test_other_faces_than_the_papers(official, name, split, subset, faces, remark):
    found = nearest_published(official(name, split, partial=True), subset, 64, "ml", faces, 4.0)
    assert found["remark"] == remark


@pytest.mark.parametrize(
    ("notes", "comparable"),
    [({"whole": ["test"]}, True), ({"whole": ["train"]}, False), ({"whole": []}, False), ({}, False)],
)
def test_coco_faces_are_the_papers_only_where_the_labels_are_known_to_be_whole(official, notes, comparable):
    """An index of an earlier version does not say."""
    found = nearest_published(official("coco-face", **notes), None, 64, "ml", 5000, 4.0)
    assert (found["remark"] is None) == comparable


@pytest.mark.parametrize("split", ["train", "val"])
def test_papers_measure_the_test_split(official, split):
    assert nearest_published(official("300w", split), None, 64, "ml", 689, 4.0) is None


def test_a_dataset_of_the_users_own(index):
    assert nearest_published(index, None, 64, "ml", 3, 4.0) is None
    assert nearest_published(replace(index, name="300w"), None, 64, "ml", 3, 4.0) is None
