"""The scale of strengths: from the voters' own reward units to log-odds of the labels."""

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize_scalar
from scipy.special import log_expit

from rmkit.core.arrays import finite_array

LARGEST = 1e3  # per standard deviation of the gaps; sought below it


def calibrate_scale(gaps: ArrayLike) -> float:
    """The factor s >= 0 under which sigmoid(s * gap) fits the labels best.

        s = argmax mean [t log sigmoid(s * gap) + (1 - t) log sigmoid(-s * gap)],   t = (pairs + 1) / (pairs + 2)

    `gaps` over [pair] are the ensemble's mean gaps, chosen - rejected, on labelled pairs it was **not** trained on.
    Voters trained under a bounded loss have gaps of any size; times s they are log-odds of the (noisy) labels, which
    is what a margin in the reward units of a Bradley-Terry model, or a soft label, is to be made from. 0 where the
    labels contradict the voters as often as not. Raises `InputError` for a wrong shape or NaN.

    Source: logistic calibration with its smoothed targets (Platt, 1999), which keep s finite where no label
    contradicts the voters; without an intercept, which the symmetry of a pair rules out.
    """
    values = finite_array("gaps", gaps, ("pair",))
    spread = float(np.sqrt(np.mean(values**2)))
    if spread == 0.0 or values.mean() <= 0:
        return 0.0
    target = (len(values) + 1) / (len(values) + 2)

    def loss(scale: float) -> float:
        log_odds = scale * values / spread
        return -float((target * log_expit(log_odds) + (1 - target) * log_expit(-log_odds)).mean())

    return float(minimize_scalar(loss, bounds=(0.0, LARGEST), method="bounded").x) / spread
