"""Calibration: is sigmoid(gap) the probability with which labels agree with the model?

Those of gaps take them over [pair], reward(chosen) - reward(rejected), hold for any finite gap, weigh every pair the
same, and raise `InputError` for an empty or wrongly shaped array, or NaN.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from rmkit.core.arrays import finite_array, same_shape
from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.metrics.accuracy import pair_correct


def log_loss(gaps: ArrayLike) -> float:
    """Mean negative log-likelihood of the labels in nats, -log sigmoid(gap); log 2 for a model that knows nothing."""
    return float(np.logaddexp(0.0, -finite_array("gaps", gaps, ("pair",))).mean())


def brier_score(gaps: ArrayLike) -> float:
    """Mean squared error of the predicted probability, (1 - sigmoid(gap))^2; 1/4 for a model that knows nothing."""
    return float(np.square(expit(-finite_array("gaps", gaps, ("pair",)))).mean())


def calibration_error(gaps: ArrayLike, *, bins: int = 10) -> float:
    """Expected calibration error: mean over pairs of |accuracy - confidence| of the bin the pair falls in.

    Confidence is sigmoid(|gap|), what the model gives the response it prefers, in `bins` equal bins over [1/2, 1];
    accuracy is the bin's share of pairs ordered as labelled, ties half. Binning sigmoid(gap) itself would be
    meaningless: the first response is `chosen` in every pair, so the outcome would be 1 in every bin.

    Source: Guo et al. 2017 (arXiv 1706.04599), Eq. (3), for two classes.
    """
    array = finite_array("gaps", gaps, ("pair",))
    return bin_error(expit(np.abs(array)), pair_correct(array), bins)


class PreferenceCalibration(NamedTuple):
    """Calibration of stated preferences: error and brier in [0, 1], and the pairs they are of.

    confidence, outcome, size: over [bin], those without a pair left out: mean confidence, the mean outcome in favour
    of the one preferred, and the number of pairs; missing: pairs without a stated preference.
    """

    error: float
    brier: float
    confidence: NDArray[np.float64]
    outcome: NDArray[np.float64]
    size: NDArray[np.int64]
    missing: int


def preference_calibration(stated: ArrayLike, outcomes: ArrayLike, *, bins: int = 10) -> PreferenceCalibration:
    """Is the preference that a judge states the share of people (or labels) that share it?

    `stated` over [pair]: probability in [0, 1] that the first is the better one, NaN where the judge states none;
    `outcomes` over [pair]: share in [0, 1] of votes for the first, ties half, or labels 1, 1/2 and 0. error: expected
    calibration error as in `calibration_error`, of confidence max(stated, 1 - stated), outcomes turned alike; which
    of two a judge prefers that states 1/2 is arbitrary, and its outcome 1/2. brier: mean of (stated - outcome)^2.

    Raises `InputError` for different shapes, values out of range, fewer than one bin, and where nothing is stated.
    """
    said, came = np.asarray(stated, dtype=np.float64), finite_array("outcomes", outcomes, ("pair",))
    same_shape("stated", said, "outcomes", came)
    given = ~np.isnan(said)
    for name, array in (("stated", said[given]), ("outcomes", came)):
        if not len(array) or array.min() < 0 or array.max() > 1:
            seen = f"{array.min():g} to {array.max():g}" if len(array) else "none"
            raise_input_error(
                name, "probabilities in [0, 1]", Verbatim(seen), "A score is no probability: take its sigmoid."
            )
    said, came = said[given], came[given]
    confidence = np.maximum(said, 1 - said)
    favour = np.where(said > 0.5, came, np.where(said < 0.5, 1 - came, 0.5))
    error = bin_error(confidence, favour, bins)
    places, size = np.unique(bin_indices(confidence, bins), return_counts=True)
    inside = bin_indices(confidence, bins) == places[:, None]
    return PreferenceCalibration(
        error, float(np.square(said - came).mean()), inside @ confidence / size, inside @ favour / size, size,
        int(np.count_nonzero(~given)),
    )


def bin_error(confidence: NDArray[np.float64], credits: NDArray[np.float64], bins: int) -> float:
    """Mean over pairs of |mean credit - mean confidence| of the bin the pair falls in."""
    error = np.bincount(bin_indices(confidence, bins), weights=credits - confidence)
    return float(np.abs(error).sum() / len(confidence))


def bin_indices(confidence: NDArray[np.float64], bins: int) -> NDArray[np.intp]:
    """The bin of each confidence, of equal bins over [1/2, 1]."""
    if bins < 1:
        raise_input_error("bins", "at least one bin", bins, "Ten is customary.")
    return np.minimum((2 * (confidence - 0.5) * bins).astype(np.intp), bins - 1)
