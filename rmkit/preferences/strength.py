"""Preference strength: how far, and how unanimously, an ensemble prefers `chosen`."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_expit

from rmkit.core.arrays import finite_array, same_shape


class Strength(NamedTuple):
    """The ensemble's view of each pair, three arrays over [pair]; `mean` and `std` in reward units."""

    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    agreement: NDArray[np.float64]


def preference_strength(rewards_chosen: ArrayLike, rewards_rejected: ArrayLike) -> Strength:
    """Mean, population standard deviation and agreement of the members' gaps, per pair.

    With `gap[m, i] = rewards_chosen[m, i] - rewards_rejected[m, i]` over M members:

        mean[i]      = sum_m gap[m, i] / M
        std[i]       = sqrt(sum_m (gap[m, i] - mean[i])^2 / M)
        agreement[i] = share of members with gap[m, i] > 0 (a tie agrees with nobody)

    Both arguments are reward arrays over [member, pair]. A mean below zero says that the ensemble believes
    `rejected` to be the better one. Rewards are not rescaled between members.

    Raises `InputError` for other shapes, for arrays of different shape, and for NaN or infinite rewards.

    Source: Secrets of RLHF Part II (arXiv 2401.06080), Eq. (4), which divides by M and not by M - 1.
    `agreement` is not in the paper.
    """
    chosen = finite_array("rewards_chosen", rewards_chosen, ("member", "pair"))
    rejected = finite_array("rewards_rejected", rewards_rejected, ("member", "pair"))
    same_shape("rewards_rejected", rejected, "rewards_chosen", chosen)
    gaps = chosen - rejected
    return Strength(gaps.mean(axis=0), gaps.std(axis=0, ddof=0), (gaps > 0).mean(axis=0))


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
