"""Bootstrap intervals that draw whole groups of pairs, and McNemar's test."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binomtest

from rmkit.core.arrays import finite_array, same_shape
from rmkit.core.checks import Verbatim, raise_input_error

LEVEL = 0.95
QUANTILES = (1 - LEVEL) / 2, (1 + LEVEL) / 2
BLOCK = 2**22  # weights held at once, 32 MiB


class Interval(NamedTuple):
    """The two ends of an interval, in the statistic's units."""

    low: float
    high: float


def bootstrap_interval(
    statistic: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    groups: ArrayLike,
    *,
    seed: int,
    n_bootstrap: int = 1000,
) -> Interval:
    """95 % percentile bootstrap interval of a statistic, drawing whole groups with replacement.

    Args:
        statistic: takes weights [resample, pair], how often each pair was drawn, and returns one value per resample;
            for a mean, `lambda weights: weights @ values / weights.sum(axis=1)`. NaN values are left out.
        groups: [pair], name of each pair's group (the prompt): pairs that share a prompt are not independent.

    Raises `InputError` for fewer than two groups, fewer than one resample, and where no resample gives a finite value.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), Section 13.3.
    """
    values = cluster_bootstrap(statistic, groups, seed=seed, n_bootstrap=n_bootstrap)
    values = values[~np.isnan(values)]
    if not len(values):
        raise_input_error(
            "statistic", "a value for some resample", Verbatim("NaN for all"), "Look at what it divides by."
        )
    low, high = np.quantile(values, QUANTILES)
    return Interval(float(low), float(high))


def ratio_interval(
    hits: ArrayLike, counted: ArrayLike, groups: ArrayLike, *, seed: int, n_bootstrap: int = 1000
) -> Interval:
    """95 % interval of sum(hits) / sum(counted), both [pair]; `hits` must be 0 where `counted` is.

    Raises `InputError` as `bootstrap_interval` does, also where nothing is counted.
    """
    numerator, denominator = finite_array("hits", hits, ("pair",)), finite_array("counted", counted, ("pair",))
    same_shape("counted", denominator, "hits", numerator)

    def ratio(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """The ratio in each resample, NaN where it is 0 / 0."""
        total = weights @ denominator
        return np.where(total > 0, (weights @ numerator) / np.where(total > 0, total, 1.0), np.nan)

    return bootstrap_interval(ratio, groups, seed=seed, n_bootstrap=n_bootstrap)


def cluster_bootstrap(
    statistic: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    groups: ArrayLike,
    *,
    seed: int,
    n_bootstrap: int,
) -> NDArray[np.float64]:
    """Statistic [resample, ..] for groups drawn with replacement; arguments as in `bootstrap_interval`."""
    names, group_of_pair = np.unique(np.asarray(groups), return_inverse=True)
    total = len(names)
    if total < 2:
        raise_input_error("groups", "at least two groups", Verbatim(f"{total}"), "One prompt alone has no spread.")
    if n_bootstrap < 1:
        raise_input_error("n_bootstrap", "at least one", n_bootstrap, "1000 is customary.")
    generator = np.random.default_rng(seed)
    block = max(1, BLOCK // len(group_of_pair))
    values = []
    for start in range(0, n_bootstrap, block):
        draws = generator.multinomial(total, np.ones(total) / total, size=min(block, n_bootstrap - start))
        values.append(np.asarray(statistic(draws[:, group_of_pair].astype(np.float64))))
    return np.concatenate(values)


def mcnemar(first: ArrayLike, second: ArrayLike) -> dict[str, Any]:
    """McNemar's exact test of two models from their correctness [item], 1 for a right item and 0 for a wrong one.

    `better`, `worse`: items on which the first is more correct than the second, and less; `p`: two-sided exact p-value
    under a binomial with probability 1/2, and 1 where they never differ. With values between 0 and 1 (ties, several
    comparisons per item) it is the sign test.

    Raises `InputError` for wrong or different shapes, and NaN.

    Source: McNemar, Psychometrika 12 (1947); exact by the binomial distribution.
    """
    left, right = finite_array("first", first, ("item",)), finite_array("second", second, ("item",))
    same_shape("second", right, "first", left)
    better, worse = int((left > right).sum()), int((left < right).sum())
    p = float(binomtest(better, better + worse, 0.5).pvalue) if better + worse else 1.0
    return {"better": better, "worse": worse, "p": p}
