"""Calibration: is sigmoid(gap) the probability with which labels agree with the model?

All three take `gaps` over [pair], reward(chosen) - reward(rejected), hold for any finite gap, weigh every pair the
same, and raise `InputError` for an empty or wrongly shaped array, or NaN.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit

from rmkit.core.checks import refuse
from rmkit.ratings.accuracy import pair_credits
from rmkit.core.arrays import finite_array


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
    if bins < 1:
        refuse("bins", "at least one bin", bins, "Ten is customary.")
    confidence = expit(np.abs(array))
    index = np.minimum((2 * (confidence - 0.5) * bins).astype(int), bins - 1)
    error = np.bincount(index, weights=pair_credits(array) - confidence, minlength=bins)
    return float(np.abs(error).sum() / len(array))
