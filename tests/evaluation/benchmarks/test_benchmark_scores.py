"""Scores as weighted means, their intervals, comparisons of two models, and robustness."""

import numpy as np
import pytest

from rmkit.core.checks import InputError
from rmkit.evaluation.benchmarks.base import ORIGINAL, ScoredItem, pairs_correct
from rmkit.evaluation.benchmarks.scores import (
    BenchmarkResult,
    compare_models,
    count_items,
    mean_over,
    measure_robustness,
    resampled_values,
    score_intervals,
    summarise,
    value_of,
    weighted_mean,
)
from rmkit.metrics.significance import bootstrap_interval

VALUES = np.array([1.0, 0.0, 0.5, 1.0, np.nan, 0.25])
GROUPS = ["a", "a", "b", "c", "c", "d"]


def test_weighted_mean_of_means():
    first, second = mean_over(VALUES, np.array([1, 1, 0, 0, 0, 0], bool)), mean_over(VALUES, np.arange(6) > 2)
    assert (value_of(first), value_of(second)) == (0.5, 0.625)
    assert value_of(weighted_mean([first, second], [3, 1])) == pytest.approx((3 * 0.5 + 0.625) / 4)
    assert count_items(weighted_mean([first, second], [3, 1])) == 4
    assert value_of(mean_over(np.full(3, np.nan))) is None


def test_resampled_values_count_items_by_weight():
    weights = np.array([[2.0, 0, 1, 1, 7, 0], [1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 3, 0]])
    result = resampled_values([mean_over(VALUES)], weights)[:, 0]
    assert result[:2] == pytest.approx([(2 + 0.5 + 1) / 4, value_of(mean_over(VALUES))]) and np.isnan(result[2])


def test_the_interval_of_a_mean_equals_bootstrap_interval():
    finite = ~np.isnan(VALUES)
    expected = bootstrap_interval(
        lambda weights: weights[:, finite] @ VALUES[finite] / weights[:, finite].sum(axis=1), GROUPS, seed=3,
        n_bootstrap=300,
    )
    assert score_intervals([mean_over(VALUES)], GROUPS, seed=3, n_bootstrap=300) == [pytest.approx(tuple(expected))]
    assert score_intervals([mean_over(VALUES)], ["one"] * 6, seed=3, n_bootstrap=300) == [(None, None)]
    summary = summarise({"all": mean_over(VALUES)}, GROUPS, seed=3, n_bootstrap=300)
    assert summary == {"all": {"value": 0.55, "low": pytest.approx(expected.low), "high": pytest.approx(expected.high),
                               "items": 5}}


def test_a_difference_uses_the_same_draws_for_both():
    """A constant difference has an interval of width zero."""
    better = np.where(np.isnan(VALUES), np.nan, VALUES + 0.1)
    (low, high), = score_intervals([mean_over(better)], GROUPS, minus=[mean_over(VALUES)], seed=0, n_bootstrap=100)
    assert (low, high) == (pytest.approx(0.1), pytest.approx(0.1))
    (low, high), = score_intervals([mean_over(better)], GROUPS, seed=0, n_bootstrap=100)
    assert high - low > 0.1


def make_items(correct, numbers=None):
    """Items of two responses with this correctness."""
    return [
        ScoredItem(number, "", "x", f"{index % 7}", np.array([1.0, 0.0]), np.array([np.sign(value - 0.5), 0.0]))
        for index, (number, value) in enumerate(zip(numbers or range(len(correct)), correct, strict=True))
    ]


def measure(items):
    correct = pairs_correct(items)
    return BenchmarkResult({"accuracy": mean_over(correct)}, {}, correct)


def test_models_are_compared_on_shared_items():
    first, second = [1, 1, 1, 0, 1, 0.5, 1, 1, 1, 1], [1, 0, 0, 0, 0, 0, 1, 1, 0, 1]
    models = {"one": make_items(first), "other": make_items(second), "third": make_items(first[4:], range(4, 10))}
    both, with_third, _ = compare_models(models, measure, seed=0, n_bootstrap=200)
    assert (both["first"], both["second"], both["items"]) == ("one", "other", 10)
    assert both["difference"] == pytest.approx(8.5 / 10 - 4 / 10)
    assert (both["better"], both["worse"], both["p"]) == (5, 0, pytest.approx(2 / 2**5))
    assert both["low"] <= both["difference"] <= both["high"]
    assert with_third["items"] == 6 and with_third["difference"] == 0 and with_third["p"] == 1
    with pytest.raises(InputError, match="models one and two: expected items that both have scored, got none"):
        compare_models({"one": make_items([1]), "two": make_items([1], [5])}, measure, seed=0, n_bootstrap=20)


def test_robustness_by_hand():
    original = [1, 1, 1, 0, 1, 0, 1, 1, 1, 1]
    items = {ORIGINAL: make_items(original), "harmless": make_items(original), "too long": make_items([]),
             "harmful": make_items([0, 0, 0.5, 1, 1, 0, 1, 1, 1, 1]), "longer": make_items([0, 0], [0, 9])}
    robustness = measure_robustness(items, measure, seed=0, n_bootstrap=100)
    entries = robustness["perturbations"]
    drops = {name: entry["drop"] for name, entry in entries.items()}
    assert drops == {"harmless": 0, "harmful": pytest.approx(0.15), "longer": 1, "too long": None}
    assert entries["longer"]["items"] == 2 and entries["harmful"]["accuracy"] == 0.65
    assert robustness["mean_drop"] == pytest.approx(1.15 / 3)
    assert (robustness["worst"], robustness["worst_drop"]) == ("longer", 1)
