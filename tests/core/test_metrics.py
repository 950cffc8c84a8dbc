"""NME, failure rate and AUC against their definitions, and their limits."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from popos_cli.core.metrics import auc, bootstrap_intervals, ced, failure_rate, nme_per_face, summary

quick = settings(deadline=None, max_examples=30, derandomize=True)
error_lists = st.lists(st.floats(0, 0.3), min_size=1, max_size=40).map(np.array)


def test_faces_that_cannot_be_measured_are_nan_and_left_out():
    truth = np.zeros((5, 2, 2))
    truth[1] = np.nan
    errors = nme_per_face(truth + [0.03, 0.04], truth, np.array([1.0, 1.0, 0.0, -1.0, np.nan]))
    np.testing.assert_allclose(errors, [0.05, np.nan, np.nan, np.nan, np.nan])
    figures = summary(errors, 0.1)
    assert figures["faces"] == 1
    assert figures["nme"] == pytest.approx(5.0)


def test_nothing_to_measure_has_no_figures():
    assert summary(np.full(3, np.nan), 0.1) is None
    assert summary(np.zeros(0), 0.1, np.zeros(0, int)) is None


def thousand_faces():
    """Predictions and labels as benchmarks have them: points not labelled, faces without a size."""
    rng = np.random.default_rng(11)
    truth = rng.uniform(0, 500, (1000, 19, 2))
    predicted = truth + rng.normal(size=truth.shape) * rng.gamma(1.2, 4, (1000, 1, 1))
    truth[rng.random((1000, 19)) < 0.2] = np.nan
    truth[::91] = np.nan
    normalisers = rng.uniform(40, 200, 1000)
    normalisers[5::50] = 0
    return predicted, truth, normalisers


@pytest.mark.parametrize("threshold", [0.07, 0.08, 0.1])
def test_figures_by_the_definitions_written_out(threshold):
    """Loops over faces and points; mmpose's pooled mean, the CED and its area as the papers have them."""
    predicted, truth, normalisers = thousand_faces()
    faces, pool = [], []
    for p, g, d in zip(predicted, truth, normalisers, strict=True):
        errors = [np.hypot(*(a - b)) / d for a, b in zip(p, g, strict=True) if d > 0 and not np.isnan(b[0])]
        pool += errors
        if errors:
            faces.append(sum(errors) / len(errors))
    steps = round(threshold / 1e-4)
    share = [sum(e <= threshold * n / steps for e in faces) / len(faces) for n in range(steps + 1)]
    area = sum(share[n] + 4 * share[n + 1] + share[n + 2] for n in range(0, steps, 2)) / 3 / steps
    found = nme_per_face(predicted, truth, normalisers)
    figures = summary(found, threshold)
    assert figures["faces"] == len(faces) < 1000
    assert figures["nme"] == pytest.approx(100 * sum(faces) / len(faces), rel=1e-12)
    assert figures["failure_rate"] == pytest.approx(100 * sum(e > threshold for e in faces) / len(faces))
    assert figures["auc"] == pytest.approx(100 * area, rel=1e-9)
    pooled = summary(found, threshold, np.isfinite(truth).all(-1).sum(1))
    assert pooled["nme"] == pytest.approx(100 * sum(pool) / len(pool), rel=1e-12)
    assert abs(pooled["nme"] - figures["nme"]) > 1e-3
    assert {**pooled, "nme": 0} == {**figures, "nme": 0}


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


def test_auc_of_an_odd_number_of_steps_lies_between_its_neighbours():
    errors = np.linspace(0.001, 0.2, 500)
    areas = [auc(errors, t) * t for t in (0.0999, 0.1, 0.1001)]
    assert areas[0] < areas[1] < areas[2]
    assert areas[1] == pytest.approx((areas[0] + areas[2]) / 2, rel=1e-3)


def test_auc_ends():
    assert auc(np.zeros(7), 0.1) == pytest.approx(1.0)
    assert auc(np.full(7, 0.2), 0.1) == 0.0
    assert auc(np.full(7, 0.05), 0.1) == pytest.approx(0.5, abs=1e-3)


def test_intervals_cover_the_mean_as_often_as_they_say():
    """Of 300 samples of 60 skewed errors, as those of faces are."""
    errors = np.random.default_rng(0).lognormal(0, 0.5, (60, 300))
    low, high = bootstrap_intervals(errors, np.ones_like(errors)).T
    share = ((low < np.exp(0.125)) & (np.exp(0.125) < high)).mean()
    assert 0.9 <= share <= 0.97
    # As wide as the normal approximation says.
    expected = 2 * 1.96 * errors.std(0, ddof=1) / np.sqrt(60)
    assert np.median((high - low) / expected) == pytest.approx(1, abs=0.05)


def test_intervals_are_the_same_each_time_and_leave_nan_out():
    errors = np.random.default_rng(0).lognormal(size=(40, 3))
    errors[::2, 1] = np.nan
    errors[1:, 2] = np.nan
    weights = np.random.default_rng(1).integers(1, 5, errors.shape).astype(float)
    found = bootstrap_intervals(errors, weights)
    np.testing.assert_array_equal(found, bootstrap_intervals(errors, weights))
    means = np.nansum(errors * weights, 0) / np.where(np.isnan(errors), 0, weights).sum(0)
    assert (found[:2, 0] < means[:2]).all() and (means[:2] < found[:2, 1]).all()
    assert np.isnan(found[2]).all()  # one face
    assert np.isnan(bootstrap_intervals(errors[:1], weights[:1])).all()
