"""Calibration: is sigmoid(gap) the probability that the label agrees with the model?

Functions of gaps take them over [pair], reward(chosen) - reward(rejected). They hold for any finite gap, weigh every
pair the same, and raise `InputError` for an empty or wrongly shaped array, or NaN.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from rmkit.core.arrays import finite_array, same_shape
from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.metrics.accuracy import pair_correct


def log_loss(gaps: ArrayLike) -> float:
    """Mean negative log-likelihood of the labels in nats, -log sigmoid(gap); log 2 for constant rewards."""
    return float(np.logaddexp(0.0, -finite_array("gaps", gaps, ("pair",))).mean())


def brier_score(gaps: ArrayLike) -> float:
    """Mean squared error of the predicted probability, (1 - sigmoid(gap))^2; 1/4 for constant rewards."""
    return float(np.square(expit(-finite_array("gaps", gaps, ("pair",)))).mean())


def calibration_error(gaps: ArrayLike, *, bins: int = 10) -> float:
    """Expected calibration error: mean over pairs of |accuracy - confidence| of the bin that holds the pair.

    Confidence is sigmoid(|gap|), the probability of the preferred response, in `bins` equal bins over [1/2, 1];
    accuracy is the bin's share of pairs ordered as labelled, ties half. Binning sigmoid(gap) itself would be
    meaningless: the first response is `chosen` in every pair, so the outcome would be 1 in every bin.

    Source: Guo et al. 2017 (arXiv 1706.04599), Eq. (3), for two classes.
    """
    array = finite_array("gaps", gaps, ("pair",))
    return expected_error(expit(np.abs(array)), pair_correct(array), bins)


class PreferenceCalibration(NamedTuple):
    """Calibration of stated preferences: error and brier in [0, 1].

    confidence, outcome, size: [bin], without empty bins: mean confidence, mean outcome in favour of the preferred
    response, and number of pairs. missing: pairs without a stated preference.
    """

    error: float
    brier: float
    confidence: NDArray[np.float64]
    outcome: NDArray[np.float64]
    size: NDArray[np.int64]
    missing: int


def preference_calibration(stated: ArrayLike, outcomes: ArrayLike, *, bins: int = 10) -> PreferenceCalibration:
    """Does the probability that a judge states match the share of people (or labels) that agree?

    Args:
        stated: [pair], probability in [0, 1] that the first response is the better one, NaN where not stated.
        outcomes: [pair], share in [0, 1] of votes for the first response, ties half, or labels 1, 1/2 and 0.
        bins: number of equal bins over [1/2, 1].

    error: expected calibration error as in `calibration_error`, of confidence max(stated, 1 - stated), with outcomes
    turned alike; for a stated 1/2 the outcome is 1/2. brier: mean of (stated - outcome)^2.

    Raises `InputError` for different shapes, values out of range, fewer than one bin, and where nothing is stated.
    """
    probability, outcome = np.asarray(stated, dtype=np.float64), finite_array("outcomes", outcomes, ("pair",))
    same_shape("stated", probability, "outcomes", outcome)
    given = ~np.isnan(probability)
    for name, array in (("stated", probability[given]), ("outcomes", outcome)):
        if not len(array) or array.min() < 0 or array.max() > 1:
            got = f"{array.min():g} to {array.max():g}" if len(array) else "none"
            raise_input_error(
                name, "probabilities in [0, 1]", Verbatim(got), "A score is no probability: take its sigmoid."
            )
    probability, outcome = probability[given], outcome[given]
    confidence = np.maximum(probability, 1 - probability)
    agreed = np.where(probability > 0.5, outcome, np.where(probability < 0.5, 1 - outcome, 0.5))
    used, size = np.unique(bin_indices(confidence, bins), return_counts=True)
    inside = bin_indices(confidence, bins) == used[:, None]
    return PreferenceCalibration(
        error=expected_error(confidence, agreed, bins),
        brier=float(np.square(probability - outcome).mean()),
        confidence=inside @ confidence / size,
        outcome=inside @ agreed / size,
        size=size,
        missing=int(np.count_nonzero(~given)),
    )


def expected_error(confidence: NDArray[np.float64], correct: NDArray[np.float64], bins: int) -> float:
    """Mean over pairs of |mean correctness - mean confidence| of the bin that holds the pair."""
    error = np.bincount(bin_indices(confidence, bins), weights=correct - confidence)
    return float(np.abs(error).sum() / len(confidence))


def bin_indices(confidence: NDArray[np.float64], bins: int) -> NDArray[np.intp]:
    """The bin of each confidence, of equal bins over [1/2, 1]."""
    if bins < 1:
        raise_input_error("bins", "at least one bin", bins, "Ten is customary.")
    return np.minimum((2 * (confidence - 0.5) * bins).astype(np.intp), bins - 1)
