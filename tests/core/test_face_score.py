"""The probability that there is a face."""

import numpy as np
import pytest

from popos_cli.core.face_score import COEFFICIENTS, evidence, face_score, fit_coefficients, fit_of


@pytest.mark.parametrize(
    ("detector", "low", "high"), [("yunet", 0.5, 0.95), ("haar", 3, 60), ("box", None, None)]
)
def test_surer_with_each_piece_of_evidence(detector, low, high):
    sure, unsure = (fit_of("uncertainty", doubt) for doubt in (0.02, 0.3))
    assert face_score(detector, high, "uncertainty", sure) > 0.9
    assert face_score(detector, high, "uncertainty", sure) > face_score(detector, high, "uncertainty", unsure)
    if low is not None:
        assert face_score(detector, high, "none", 0.0) > face_score(detector, low, "none", 0.0)


@pytest.mark.parametrize("source", COEFFICIENTS)
def test_a_probability_whatever_happens(source):
    name, kind = source
    for own in (0.0, 1.0, 1e6):
        for doubt in (0.0, 1e9):
            fit = fit_of(kind, doubt)
            assert 0 <= face_score(name, None if name == "box" else own, kind, fit) <= 1


def test_evidence_of_windows_and_scores():
    assert evidence("haar", 1) == 0 < evidence("haar", 10)
    assert evidence("yunet", 0.5) == pytest.approx(0)
    assert np.isfinite([evidence("yunet", 0), evidence("yunet", 1)]).all()


def test_the_fit_finds_the_coefficients():
    rng = np.random.default_rng(0)
    says, fits = rng.normal(size=(2, 20_000))
    labels = (rng.random(20_000) < 1 / (1 + np.exp(-(0.5 + 2 * says - 1 * fits)))).astype(float)
    assert fit_coefficients(says, fits, labels) == pytest.approx((0.5, 2, -1), abs=0.1)
    assert fit_coefficients(0 * says, fits, labels)[1] == 0
