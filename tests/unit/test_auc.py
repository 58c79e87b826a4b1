"""Scores of probabilities against scikit-learn, and intervals over patients."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from custom import auc
from custom.findings import average_precision

STATE = np.random.default_rng(0)
TRUTH = STATE.integers(0, 2, 300).astype(float)
SCORES = np.round(STATE.random(300) + 0.3 * TRUTH, 1)  # with many ties


def test_auc_and_average_precision_are_those_of_scikit_learn() -> None:
    assert auc.roc_auc(TRUTH, SCORES)[0] == pytest.approx(roc_auc_score(TRUTH, SCORES))
    assert average_precision(TRUTH, SCORES) == pytest.approx(average_precision_score(TRUTH, SCORES))
    false, true = auc.roc_curve(TRUTH, SCORES)
    assert np.trapezoid(true, false) == pytest.approx(roc_auc_score(TRUTH, SCORES))


def test_a_weight_is_as_many_copies() -> None:
    weight = STATE.integers(0, 3, (4, 300))
    expected = [roc_auc_score(TRUTH.repeat(row), SCORES.repeat(row)) for row in weight]
    assert auc.roc_auc(TRUTH, SCORES, weight) == pytest.approx(expected)


def test_without_positives_or_negatives_scores_are_undefined() -> None:
    assert np.isnan(auc.roc_auc(np.zeros(5), np.arange(5.0))[0]) and np.isnan(
        auc.roc_auc(np.ones(5), np.arange(5.0))[0]
    )
    assert np.isnan(average_precision(np.zeros(5), np.arange(5.0)))


def test_calibration_error_is_the_gap_between_said_and_seen() -> None:
    assert auc.calibration_error(np.array([1.0, 0, 0, 0]), np.full(4, 0.25)) == pytest.approx(0)
    assert auc.calibration_error(np.zeros(10), np.full(10, 0.9)) == pytest.approx(0.9)
    assert auc.calibration_error(np.array([0.0, 1.0]), np.array([0.0, 1.0])) == pytest.approx(0)


def test_images_of_a_patient_are_drawn_together() -> None:
    patients = ["a", "b", "a", "c", "b"]
    counts = np.concatenate(list(auc.patient_replicates(patients, replicates=150)))
    assert len(counts) == 150
    assert (counts[:, 0] == counts[:, 2]).all() and (counts[:, 1] == counts[:, 4]).all()
    assert (counts[:, [0, 1, 3]].sum(axis=1) == 3).all()


def test_repeated_images_of_a_patient_do_not_narrow_the_interval() -> None:
    """Ten copies of every image are no more patients."""
    patients = [str(index) for index in range(300)]
    once = auc.interval(auc.bootstrap_aucs(TRUTH[:, None], SCORES[:, None], patients)[:, 0])
    copies = [part.repeat(10) for part in (TRUTH, SCORES, np.array(patients))]
    ten = auc.interval(auc.bootstrap_aucs(copies[0][:, None], copies[1][:, None], copies[2])[:, 0])
    assert once[1] - once[0] == pytest.approx(ten[1] - ten[0], rel=0.2)
    assert once[0] < roc_auc_score(TRUTH, SCORES) < once[1]
