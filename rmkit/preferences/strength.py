"""Preference strength: how far, and how unanimously, an ensemble prefers `chosen`."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

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
