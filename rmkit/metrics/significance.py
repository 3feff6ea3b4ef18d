"""Bootstrap intervals that respect which pairs belong together."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binomtest

from rmkit.core.arrays import finite_array, same_shape
from rmkit.core.checks import Verbatim, raise_input_error

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
    level: float = 0.95,
) -> Interval:
    """Percentile bootstrap interval of a statistic, drawing whole groups with replacement.

    `groups` over [pair] names the group (the prompt) of each pair: pairs that share a prompt are no independent
    observations, so they are drawn together. `statistic` takes weights over [resample, pair] (how often each pair
    was drawn) and returns one value per resample; for a mean of `values` that is
    `lambda weights: weights @ values / weights.sum(axis=1)`. Resamples for which it returns NaN are left out.

    Raises `InputError` where there are fewer than two groups, for a level outside (0, 1), for less than one
    resample, and where no resample gives a finite value.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), Section 13.3.
    """
    found = cluster_bootstrap(statistic, groups, seed=seed, n_bootstrap=n_bootstrap)
    found = found[~np.isnan(found)]
    if not len(found):
        raise_input_error(
            "statistic", "a value for some resample", Verbatim("NaN for all"), "Look at what it divides by."
        )
    low, high = np.quantile(found, quantiles(level))
    return Interval(float(low), float(high))


def ratio_interval(
    hits: ArrayLike, counted: ArrayLike, groups: ArrayLike, *, seed: int, n_bootstrap: int = 1000
) -> Interval:
    """95 % interval of sum(hits) / sum(counted), both over [pair], as in `bootstrap_interval`; no hit where uncounted.

    Raises `InputError` as there, so too where nothing is counted.
    """
    above, below = finite_array("hits", hits, ("pair",)), finite_array("counted", counted, ("pair",))
    same_shape("counted", below, "hits", above)

    def divide(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """The share in each resample, NaN where it counts nothing."""
        total = weights @ below
        return np.where(total > 0, (weights @ above) / np.where(total > 0, total, 1.0), np.nan)

    return bootstrap_interval(divide, groups, seed=seed, n_bootstrap=n_bootstrap)


def cluster_bootstrap(
    statistic: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    groups: ArrayLike,
    *,
    seed: int,
    n_bootstrap: int,
    copies: NDArray[np.integer] | None = None,
) -> NDArray[np.float64]:
    """The statistic over [resample, ..], for groups drawn with replacement; arguments as in `bootstrap_interval`.

    `copies` over [group], in the order of their names: how many groups that are all alike each stands for; as many
    are drawn as there are in all.
    """
    names, group_of_pair = np.unique(np.asarray(groups), return_inverse=True)
    size = np.ones(len(names), dtype=np.int64) if copies is None else np.asarray(copies)
    total = int(size.sum())
    if total < 2:
        raise_input_error(
            "groups", "at least two groups", Verbatim(f"{total}"), "One prompt alone says nothing about spread."
        )
    if n_bootstrap < 1:
        raise_input_error("n_bootstrap", "at least one", n_bootstrap, "1000 is customary.")
    generator = np.random.default_rng(seed)
    block = max(1, BLOCK // len(group_of_pair))
    values = []
    for start in range(0, n_bootstrap, block):
        draws = generator.multinomial(total, size / total, size=min(block, n_bootstrap - start))
        values.append(np.asarray(statistic(draws[:, group_of_pair].astype(np.float64))))
    return np.concatenate(values)


def quantiles(level: float) -> tuple[float, float]:
    """The two quantiles between which an interval of this level lies."""
    if not 0 < level < 1:
        raise_input_error("level", "a probability between 0 and 1", level, "Write 0.95 for a 95 % interval.")
    return (1 - level) / 2, (1 + level) / 2


def mcnemar(first: ArrayLike, second: ArrayLike) -> dict[str, Any]:
    """McNemar's exact test of two models' credits [item], 1 for an item that is right and 0 for one that is wrong.

    `better`, `worse`: items on which the first has more credit than the second, and less; `p`: two-sided, the chance
    of a split at least as uneven if each of them fell to either side like a coin; 1 where there is none. With credits
    between 0 and 1 (ties, several comparisons in an item) it is the sign test.

    Raises `InputError` for wrong or different shapes, and NaN.

    Source: McNemar, Psychometrika 12 (1947); exact by the binomial distribution.
    """
    one, other = finite_array("first", first, ("item",)), finite_array("second", second, ("item",))
    same_shape("second", other, "first", one)
    better, worse = int((one > other).sum()), int((one < other).sum())
    p = float(binomtest(better, better + worse, 0.5).pvalue) if better + worse else 1.0
    return {"better": better, "worse": worse, "p": p}
