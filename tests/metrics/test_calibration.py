import numpy as np
import pytest
from sklearn.metrics import brier_score_loss
from sklearn.metrics import log_loss as sklearn_log_loss

from rmkit.core.checks import InputError
from rmkit.metrics.calibration import brier_score, calibration_error, log_loss, preference_calibration


def calibrated(scale=1.0, pairs=20000, seed=0):
    """Gaps whose labels are drawn with probability sigmoid(gap), then reported `scale` times too large."""
    generator = np.random.default_rng(seed)
    gaps = generator.normal(0, 2, pairs)
    return scale * np.where(generator.random(pairs) < 1 / (1 + np.exp(-gaps)), gaps, -gaps)


def test_log_loss_and_brier_score_equal_scikit_learn():
    gaps = np.random.default_rng(0).normal(0.5, 2, 200)
    probabilities = 1 / (1 + np.exp(-np.concatenate([gaps, -gaps])))
    outcomes = np.repeat([1, 0], 200)
    assert log_loss(gaps) == pytest.approx(sklearn_log_loss(outcomes, probabilities), abs=1e-12)
    assert brier_score(gaps) == pytest.approx(brier_score_loss(outcomes, probabilities), abs=1e-12)


def test_closed_form_values():
    assert log_loss([0.0]) == pytest.approx(np.log(2))
    assert brier_score([0.0, np.log(3)]) == pytest.approx((1 / 4 + 1 / 16) / 2)
    assert calibration_error([np.log(3), np.log(3), np.log(3), -np.log(3)]) == pytest.approx(0, abs=1e-12)
    assert calibration_error([np.log(3), -np.log(3)]) == pytest.approx(0.25)
    assert calibration_error([0.0, 0.0]) == 0


def test_calibration_error_shows_over_and_under_confidence():
    assert calibration_error(calibrated()) < 0.015
    assert calibration_error(calibrated(scale=3.0)) > 0.08
    assert calibration_error(calibrated(scale=0.3)) > 0.08


def test_calibration_error_equals_a_slow_loop():
    gaps = np.random.default_rng(0).normal(0.3, 3, 300)
    total = 0.0
    for index in range(10):
        low, high = 0.5 + index / 20, 0.5 + (index + 1) / 20
        inside = [g for g in gaps if low <= 1 / (1 + np.exp(-abs(g))) < high]
        if inside:
            confidence = np.mean([1 / (1 + np.exp(-abs(g))) for g in inside])
            total += len(inside) / 300 * abs(confidence - np.mean([g > 0 for g in inside]))
    assert calibration_error(gaps) == pytest.approx(total, abs=1e-12)


@pytest.mark.parametrize("gap", [1e4, -1e4])
def test_extreme_gaps(gap):
    wrong = gap < 0
    assert log_loss([gap]) == (1e4 if wrong else 0)
    assert brier_score([gap]) == wrong
    assert calibration_error([gap]) == wrong


@pytest.mark.parametrize("measure", [log_loss, brier_score, calibration_error])
@pytest.mark.parametrize("gaps", [[], [np.inf], [[1.0]]])
def test_invalid_gaps(measure, gaps):
    with pytest.raises(InputError, match="gaps"):
        measure(gaps)


def test_stated_preferences_against_labels():
    gaps = np.random.default_rng(0).normal(0.5, 2, 300)
    first = np.random.default_rng(1).random(300) < 0.5
    stated = 1 / (1 + np.exp(-np.where(first, gaps, -gaps)))
    result = preference_calibration(stated, first)
    assert result.error == pytest.approx(calibration_error(gaps), abs=1e-12)
    assert result.brier == pytest.approx(brier_score(gaps), abs=1e-12)
    assert result.size.sum() == 300 and result.missing == 0
    assert result.error == pytest.approx((np.abs(result.confidence - result.outcome) * result.size).sum() / 300)


def test_stated_preferences_against_vote_shares():
    votes = np.array([0.9, 0.6, 0.2])
    assert preference_calibration(votes, votes)[:2] == (0, 0)
    result = preference_calibration([1.0, 0.6, np.nan, 0.1], [0.8, 0.6, 1.0, 0.1], bins=2)
    assert result.brier == pytest.approx(0.2**2 / 3)
    assert result.confidence == pytest.approx([0.6, 0.95]) and result.outcome == pytest.approx([0.6, 0.85])
    assert (result.size.tolist(), result.missing) == ([1, 2], 1)
    assert preference_calibration([0.5, 0.5], [1.0, 0.9]).error == 0  # no preference
    reversed_ = preference_calibration([0.0, 0.4, 0.9], [0.2, 0.4, 0.9], bins=2)
    assert reversed_.error == pytest.approx(preference_calibration([1.0, 0.6, 0.1], [0.8, 0.6, 0.1], bins=2).error)


@pytest.mark.parametrize("stated, outcomes, bins, message", [
    ([1.2], [1], 10, "stated.*1.2"), ([0.5], [-1], 10, "outcomes"), ([np.nan], [1], 10, "stated.*none"),
    ([0.5], [1, 1], 10, "shape"), ([0.5], [1], 0, "bins"),
])
def test_invalid_preferences(stated, outcomes, bins, message):
    with pytest.raises(InputError, match=message):
        preference_calibration(stated, outcomes, bins=bins)
