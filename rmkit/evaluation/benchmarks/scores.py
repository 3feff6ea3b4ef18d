"""Scores: a benchmark's figures as weighted sums of means over items, so that all have their intervals alike."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.evaluation.benchmarks.base import AS_GIVEN, ScoredItems
from rmkit.metrics.significance import cluster_bootstrap, mcnemar, quantiles

LEVEL = 0.95


class WeightedMean(NamedTuple):
    """`weight` times the mean of `values` [item], which are NaN for items that do not belong to it."""

    weight: float
    values: NDArray[np.float64]


Score = Sequence[WeightedMean]


@dataclass(frozen=True)
class BenchmarkResult:
    """What a benchmark makes of a model's rewards.

    `scores`: those that are published, the headline first; `parts`: the finer ones; `credits` [item] in [0, 1]: what
    each item adds where two models are compared, NaN for one without a right answer; `extra`: what is no mean.
    """

    scores: Mapping[str, Score]
    parts: Mapping[str, Score]
    credits: NDArray[np.float64]
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def headline(self) -> Score:
        """The first score."""
        return next(iter(self.scores.values()))


def mean_over(values: NDArray[np.float64], members: NDArray[np.bool_] | None = None) -> Score:
    """The score that is the mean of `values` [item] over these items, or over all that have one."""
    return [WeightedMean(1.0, values if members is None else np.where(members, values, np.nan))]


def weighted_mean(scores: Sequence[Score], weights: Sequence[float]) -> Score:
    """The weighted mean of scores; weights need not sum to 1."""
    total = float(sum(weights))
    return [
        WeightedMean(weight / total * term.weight, term.values)
        for score, weight in zip(scores, weights, strict=True) for term in score
    ]


def value_of(score: Score) -> float | None:
    """The score, or None where one of its terms has no item."""
    known = [term.values[~np.isnan(term.values)] for term in score]
    if not all(map(len, known)):
        return None
    return float(sum(term.weight * values.mean() for term, values in zip(score, known, strict=True)))


def values_of(scores: Sequence[Score], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scores [resample, score] for weights [resample, item], NaN where a term's items all weigh nothing."""
    columns = []
    for score in scores:
        column = np.zeros(len(weights))
        for term in score:
            known = ~np.isnan(term.values)
            part = weights[:, known]
            total = part.sum(axis=1)
            mean = (part @ term.values[known]) / np.where(total > 0, total, 1.0)
            column += term.weight * np.where(total > 0, mean, np.nan)
        columns.append(column)
    return np.stack(columns, axis=1)


def find_intervals(
    scores: Sequence[Score], groups: Sequence[str], *, minus: Sequence[Score] | None = None, seed: int, n_bootstrap: int
) -> list[tuple[float | None, float | None]]:
    """95 % percentile bootstrap interval of each score, drawing whole groups of items; None for fewer than two groups.

    With `minus`, of the differences to these, item by item in the same draws.
    """
    if len(set(groups)) < 2 or not scores:
        return [(None, None)] * len(scores)

    def statistic(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Every score, or difference, in each resample."""
        found = values_of(scores, weights)
        return found if minus is None else found - values_of(minus, weights)

    found = cluster_bootstrap(statistic, np.asarray(groups), seed=seed, n_bootstrap=n_bootstrap)
    intervals: list[tuple[float | None, float | None]] = []
    for column in found.T:
        known = column[~np.isnan(column)]
        ends = [float(end) for end in np.quantile(known, quantiles(LEVEL))] if len(known) else [None, None]
        intervals.append((ends[0], ends[1]))
    return intervals


def summarise(
    scores: Mapping[str, Score], groups: Sequence[str], *, seed: int, n_bootstrap: int
) -> dict[str, dict[str, Any]]:
    """Each score by name: its value, the ends of its interval, and over how many items it is."""
    intervals = find_intervals(list(scores.values()), groups, seed=seed, n_bootstrap=n_bootstrap)
    return {
        name: {"value": value_of(score), "low": low, "high": high, "items": count_items(score)}
        for (name, score), (low, high) in zip(scores.items(), intervals, strict=True)
    }


def count_items(score: Score) -> int:
    """How many items have a say in a score."""
    return int(np.any([~np.isnan(term.values) for term in score], axis=0).sum())


Measure = Callable[[ScoredItems], BenchmarkResult]


def compare_models(
    models: Mapping[str, ScoredItems], measure: Measure, *, seed: int, n_bootstrap: int
) -> list[dict[str, Any]]:
    """`compare` for each two models, on the items that both have scored.

    With more than two models `p` is not adjusted for their number.
    """
    found = []
    for first, second in combinations(models, 2):
        shared = set(models[first].numbers) & set(models[second].numbers)
        if not shared:
            raise_input_error(
                f"models {first} and {second}", "items that both have scored", Verbatim("none"), "Raise max_length."
            )
        both = [models[name].select(shared) for name in (first, second)]
        one, other = (measure(scored) for scored in both)
        result = compare(one, other, both[0].groups, seed=seed, n_bootstrap=n_bootstrap)
        found.append({"first": first, "second": second, **result})
    return found


def compare(
    first: BenchmarkResult, second: BenchmarkResult, groups: Sequence[str], *, seed: int, n_bootstrap: int
) -> dict[str, Any]:
    """How far the first's headline is above the second's, with its 95 % interval, and McNemar's exact test.

    The items are the same for both; the bootstrap draws their groups, mostly prompts, the same for both.
    """
    known = ~(np.isnan(first.credits) | np.isnan(second.credits))
    (low, high), = find_intervals(
        [first.headline], groups, minus=[second.headline], seed=seed, n_bootstrap=n_bootstrap
    )
    test = mcnemar(first.credits[known], second.credits[known])
    difference = subtract(first.headline, second.headline)
    return {"items": int(known.sum()), "difference": difference, "low": low, "high": high, **test}


def subtract(first: Score, second: Score) -> float | None:
    """How far one score is above another; None where one of them is not defined."""
    above, below = value_of(first), value_of(second)
    return None if above is None or below is None else above - below


def measure_robustness(
    by_rewording: Mapping[str, ScoredItems], measure: Measure, *, seed: int, n_bootstrap: int
) -> dict[str, Any]:
    """How much accuracy, the mean of the items' credits, a model loses by each rewording; the mean and the worst drop.

    Each is over the items that were scored both ways, its interval by drawing prompts.
    """
    drops: dict[str, dict[str, Any]] = {}
    for name, scored in by_rewording.items():
        if name == AS_GIVEN:
            continue
        shared = set(scored.numbers) & set(by_rewording[AS_GIVEN].numbers)
        if not shared:
            drops[name] = {"items": 0, "accuracy": None, "drop": None, "low": None, "high": None}
            continue
        both = [by_rewording[kind].select(shared) for kind in (AS_GIVEN, name)]
        before, after = (mean_over(measure(part).credits) for part in both)
        (low, high), = find_intervals([before], both[0].groups, minus=[after], seed=seed, n_bootstrap=n_bootstrap)
        drops[name] = {"items": len(shared), "accuracy": value_of(after), "drop": subtract(before, after),
                       "low": low, "high": high}
    known = {name: found["drop"] for name, found in drops.items() if found["drop"] is not None}
    worst = max(known, key=lambda name: known[name], default=None)
    return {
        "rewordings": drops,
        "mean_drop": float(np.mean(list(known.values()))) if known else None,
        "worst_drop": None if worst is None else known[worst],
        "worst": worst,
    }
