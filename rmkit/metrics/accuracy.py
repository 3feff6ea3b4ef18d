"""Pair accuracy, with one convention for ties."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rmkit.core.arrays import finite_array


class PairAccuracy(NamedTuple):
    """Share of pairs with a positive gap, a tie counting half, and the share of ties; both in [0, 1]."""

    accuracy: float
    tie_rate: float


def pair_accuracy(gaps: ArrayLike) -> PairAccuracy:
    """Accuracy, mean of `pair_correct(gaps)`, and tie rate, mean of (gap == 0).

    `gaps`: [pair], reward(chosen) - reward(rejected). Raises `InputError` for an empty or wrongly shaped array, or NaN.
    """
    array = finite_array("gaps", gaps, ("pair",))
    return PairAccuracy(float(pair_correct(array).mean()), float((array == 0).mean()))


def pair_correct(gaps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Correctness of each pair, in the shape of `gaps`: 1 for a positive gap, 1/2 for a tie, 0 for a negative one."""
    return (np.sign(gaps) + 1) / 2
