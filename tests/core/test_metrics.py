import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from popos_cli.core.metrics import auc, ced, failure_rate, nme_per_face, summary

quick = settings(deadline=None, max_examples=30, derandomize=True)
error_lists = st.lists(st.floats(0, 0.3), min_size=1, max_size=40).map(np.array)


def test_nme_by_hand():
    truth = np.array([[[0, 0], [10, 0]], [[5, 5], [5, 9]]], float)
    predicted = truth + np.array([[[3, 4], [0, 0]], [[0, 2], [0, -1]]])
    np.testing.assert_allclose(nme_per_face(predicted, truth, np.array([10.0, 4.0])), [0.25, 0.375])


def test_unlabelled_points_do_not_count():
    truth = np.array([[[0, 0], [np.nan, np.nan], [10, 0]]])
    predicted = np.array([[[3, 4], [99, 99], [10, 1.0]]])
    np.testing.assert_allclose(nme_per_face(predicted, truth, np.array([2.0])), [1.5])


def test_faces_that_cannot_be_measured_are_nan_and_left_out():
    truth = np.zeros((5, 2, 2))
    truth[1] = np.nan
    errors = nme_per_face(truth + [0.03, 0.04], truth, np.array([1.0, 1.0, 0.0, -1.0, np.nan]))
    np.testing.assert_allclose(errors, [0.05, np.nan, np.nan, np.nan, np.nan])
    figures = summary(errors, 0.1)
    assert figures["faces"] == 1
    assert figures["nme"] == pytest.approx(5.0)


def test_failure_rate_counts_what_exceeds_the_threshold():
    assert failure_rate(np.array([0.05, 0.1, 0.1000001, 0.4]), 0.1) == 0.5


def test_ced_by_hand():
    grid, share = ced(np.array([0.0, 0.0002, 0.00035, 5.0]), 0.0005)
    np.testing.assert_allclose(grid, [0, 1e-4, 2e-4, 3e-4, 4e-4, 5e-4])
    np.testing.assert_allclose(share, [0.25, 0.25, 0.5, 0.5, 0.75, 0.75])


@quick
@given(errors=error_lists, threshold=st.sampled_from([0.07, 0.08, 0.1]))
def test_ced_rises_to_the_share_that_did_not_fail(errors, threshold):
    grid, share = ced(errors, threshold)
    assert (np.diff(share) >= 0).all()
    assert grid[-1] == threshold
    assert share[-1] == pytest.approx(1 - failure_rate(errors, threshold))


@quick
@given(errors=error_lists, threshold=st.sampled_from([0.07, 0.08, 0.1]))
def test_auc_is_simpsons_rule_on_the_ced(errors, threshold):
    integrate = pytest.importorskip("scipy.integrate")
    grid = np.arange(round(threshold / 1e-4) + 1) * 1e-4
    grid[-1] = threshold
    share = [(errors <= g).mean() for g in ced(errors, threshold)[0]]
    expected = integrate.simpson(share, x=grid) / threshold
    assert auc(errors, threshold) == pytest.approx(expected, abs=1e-9)


def test_auc_of_an_odd_number_of_steps_lies_between_its_neighbours():
    errors = np.linspace(0.001, 0.2, 500)
    areas = [auc(errors, t) * t for t in (0.0999, 0.1, 0.1001)]
    assert areas[0] < areas[1] < areas[2]
    assert areas[1] == pytest.approx((areas[0] + areas[2]) / 2, rel=1e-3)


def test_auc_ends():
    assert auc(np.zeros(7), 0.1) == pytest.approx(1.0)
    assert auc(np.full(7, 0.2), 0.1) == 0.0
    assert auc(np.full(7, 0.05), 0.1) == pytest.approx(0.5, abs=1e-3)


def test_summary_is_in_percent():
    figures = summary(np.array([0.0, 0.02, 0.3, np.nan]), 0.1)
    assert figures["faces"] == 3
    assert figures["nme"] == pytest.approx(32 / 3)
    assert figures["failure_rate"] == pytest.approx(100 / 3)
    assert figures["auc"] == pytest.approx((100 + 80) / 3, abs=0.1)
