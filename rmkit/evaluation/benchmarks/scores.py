"""Benchmark scores as weighted sums of means over items, with bootstrap intervals, comparisons and robustness."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.evaluation.benchmarks.base import ORIGINAL, ScoredItem
from rmkit.metrics.significance import QUANTILES, cluster_bootstrap, mcnemar


class WeightedMean(NamedTuple):
    """`weight` times the mean of `values` [item], which are NaN for items that do not belong to it."""

    weight: float
    values: NDArray[np.float64]


Score = Sequence[WeightedMean]  # their sum


@dataclass(frozen=True)
class BenchmarkResult:
    """What a benchmark measures from a model's rewards.

    `scores`: the published ones, the headline first; `parts`: finer ones; `correct`: [item] in [0, 1], correctness of
    each item for comparing two models, NaN for an item without a right answer; `extra`: what is no mean.
    """

    scores: Mapping[str, Score]
    parts: Mapping[str, Score]
    correct: NDArray[np.float64]
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def headline(self) -> Score:
        """The first score."""
        return next(iter(self.scores.values()))


Items = Sequence[ScoredItem]
Measure = Callable[[Items], BenchmarkResult]


def mean_over(values: NDArray[np.float64], members: NDArray[np.bool_] | None = None) -> Score:
    """The mean of `values` [item] over these items, or over all that are not NaN."""
    return [WeightedMean(1.0, values if members is None else np.where(members, values, np.nan))]


def mean_by_part(values: NDArray[np.float64], items: Items, names: Iterable[str] | None = None) -> dict[str, Score]:
    """The mean of `values` [item] over the items of each part in `names`; by default of all parts, if several."""
    parts = np.array([item.part for item in items])
    if names is None:
        names = sorted(set(parts.tolist())) if len(set(parts.tolist())) > 1 else []
    return {name: mean_over(values, parts == name) for name in names}


def weighted_sum(scores: Sequence[Score], weights: Sequence[float]) -> Score:
    """The sum of weights times scores."""
    return [WeightedMean(weight * term.weight, term.values)
            for score, weight in zip(scores, weights, strict=True) for term in score]


def weighted_mean(scores: Sequence[Score], weights: Sequence[float] | None = None) -> Score:
    """The weighted mean of scores; weights are equal by default and need not sum to 1."""
    given = [1.0] * len(scores) if weights is None else weights
    total = float(sum(given))
    return weighted_sum(scores, [weight / total for weight in given])


def value_of(score: Score) -> float | None:
    """The score, or None where one of its terms has no item."""
    terms = [term.values[~np.isnan(term.values)] for term in score]
    if not all(map(len, terms)):
        return None
    return float(sum(term.weight * values.mean() for term, values in zip(score, terms, strict=True)))


def resampled_values(scores: Sequence[Score], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scores [resample, score] for weights [resample, item], NaN where a term's items all have weight 0."""
    columns = []
    for score in scores:
        column = np.zeros(len(weights))
        for term in score:
            finite = ~np.isnan(term.values)
            used = weights[:, finite]
            total = used.sum(axis=1)
            mean = (used @ term.values[finite]) / np.where(total > 0, total, 1.0)
            column += term.weight * np.where(total > 0, mean, np.nan)
        columns.append(column)
    return np.stack(columns, axis=1)


def score_intervals(
    scores: Sequence[Score], groups: Sequence[str], *, minus: Sequence[Score] | None = None, seed: int, n_bootstrap: int
) -> list[tuple[float | None, float | None]]:
    """95 % percentile bootstrap interval of each score, drawing whole groups of items; None for fewer than two groups.

    With `minus`, of the differences to these scores, on the same draws.
    """
    if len(set(groups)) < 2 or not scores:
        return [(None, None)] * len(scores)

    def statistic(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Every score, or difference, in each resample."""
        values = resampled_values(scores, weights)
        return values if minus is None else values - resampled_values(minus, weights)

    intervals: list[tuple[float | None, float | None]] = []
    for column in cluster_bootstrap(statistic, np.asarray(groups), seed=seed, n_bootstrap=n_bootstrap).T:
        finite = column[~np.isnan(column)]
        ends = [float(end) for end in np.quantile(finite, QUANTILES)] if len(finite) else [None, None]
        intervals.append((ends[0], ends[1]))
    return intervals


def summarise(
    scores: Mapping[str, Score], groups: Sequence[str], *, seed: int, n_bootstrap: int
) -> dict[str, dict[str, Any]]:
    """Each score by name: its value, the ends of its interval, and its number of items."""
    intervals = score_intervals(list(scores.values()), groups, seed=seed, n_bootstrap=n_bootstrap)
    return {
        name: {"value": value_of(score), "low": low, "high": high, "items": count_items(score)}
        for (name, score), (low, high) in zip(scores.items(), intervals, strict=True)
    }


def count_items(score: Score) -> int:
    """Number of items that enter a score."""
    return int(np.any([~np.isnan(term.values) for term in score], axis=0).sum())


def compare_models(
    models: Mapping[str, Items], measure: Measure, *, seed: int, n_bootstrap: int
) -> list[dict[str, Any]]:
    """Each two models on the items that both have scored: difference of headlines, its interval, McNemar's exact test.

    The bootstrap draws the items' groups (mostly prompts), the same for both models. `p` is not adjusted for many
    models.
    """
    comparisons = []
    for first, second in combinations(models, 2):
        items = shared_items(models[first], models[second])
        if not items[0]:
            raise_input_error(
                f"models {first} and {second}", "items that both have scored", Verbatim("none"), "Raise max_length."
            )
        left, right = map(measure, items)
        both = ~(np.isnan(left.correct) | np.isnan(right.correct))
        difference = score_difference(
            left.headline, right.headline, groups_of(items[0]), seed=seed, n_bootstrap=n_bootstrap
        )
        test = mcnemar(left.correct[both], right.correct[both])
        comparisons.append({"first": first, "second": second, "items": int(both.sum()), **difference, **test})
    return comparisons


def shared_items(first: Items, second: Items) -> tuple[Items, Items]:
    """The items that both models, or both perturbations, have."""
    numbers = {item.number for item in first} & {item.number for item in second}
    return [item for item in first if item.number in numbers], [item for item in second if item.number in numbers]


def groups_of(items: Items) -> list[str]:
    """The group of each item."""
    return [item.group for item in items]


def score_difference(
    first: Score, second: Score, groups: Sequence[str], *, seed: int, n_bootstrap: int
) -> dict[str, float | None]:
    """`difference` of two scores over the same items (None where one is undefined), and its interval `low`, `high`."""
    (low, high), = score_intervals([first], groups, minus=[second], seed=seed, n_bootstrap=n_bootstrap)
    left, right = value_of(first), value_of(second)
    return {"difference": None if left is None or right is None else left - right, "low": low, "high": high}


def measure_robustness(
    by_perturbation: Mapping[str, Items], measure: Measure, *, seed: int, n_bootstrap: int
) -> dict[str, Any]:
    """Drop of accuracy (mean of `BenchmarkResult.correct`) under each perturbation, and the mean and worst drop.

    Each drop is over the items that were scored in both forms, with its bootstrap interval over prompts.
    """
    drops: dict[str, dict[str, Any]] = {}
    for name, scored in by_perturbation.items():
        if name == ORIGINAL:
            continue
        items = shared_items(by_perturbation[ORIGINAL], scored)
        if not items[0]:
            drops[name] = {"items": 0, "accuracy": None, "drop": None, "low": None, "high": None}
            continue
        before, after = (mean_over(measure(part).correct) for part in items)
        result = score_difference(before, after, groups_of(items[0]), seed=seed, n_bootstrap=n_bootstrap)
        drops[name] = {"items": len(items[0]), "accuracy": value_of(after), "drop": result.pop("difference"), **result}
    measured = {name: entry["drop"] for name, entry in drops.items() if entry["drop"] is not None}
    worst = max(measured, key=lambda name: measured[name], default=None)
    return {
        "perturbations": drops,
        "mean_drop": float(np.mean(list(measured.values()))) if measured else None,
        "worst_drop": None if worst is None else measured[worst],
        "worst": worst,
    }
