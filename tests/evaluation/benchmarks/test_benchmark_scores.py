"""Scores as sums of means, their intervals, and two models' differences."""

import numpy as np
import pytest

from rmkit.core.checks import InputError
from rmkit.evaluation.benchmarks.base import AS_GIVEN, ScoredItems
from rmkit.evaluation.benchmarks.scores import (
    BenchmarkResult,
    compare_models,
    count_items,
    find_intervals,
    mean_over,
    measure_robustness,
    summarise,
    value_of,
    values_of,
    weighted_mean,
)
from rmkit.metrics.significance import bootstrap_interval

VALUES = np.array([1.0, 0.0, 0.5, 1.0, np.nan, 0.25])
GROUPS = ["a", "a", "b", "c", "c", "d"]


def test_a_mixture_is_the_weighted_mean_of_means():
    first, second = mean_over(VALUES, np.array([1, 1, 0, 0, 0, 0], bool)), mean_over(VALUES, np.arange(6) > 2)
    assert (value_of(first), value_of(second)) == (0.5, 0.625)
    assert value_of(weighted_mean([first, second], [3, 1])) == pytest.approx((3 * 0.5 + 0.625) / 4)
    assert count_items(weighted_mean([first, second], [3, 1])) == 4
    assert value_of(mean_over(np.full(3, np.nan))) is None


def test_weights_count_items_as_often_as_they_say():
    weights = np.array([[2.0, 0, 1, 1, 7, 0], [1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 3, 0]])
    found = values_of([mean_over(VALUES)], weights)[:, 0]
    assert found[:2] == pytest.approx([(2 + 0.5 + 1) / 4, value_of(mean_over(VALUES))]) and np.isnan(found[2])


def test_the_interval_of_a_mean_is_that_of_the_bootstrap():
    known = ~np.isnan(VALUES)
    expected = bootstrap_interval(
        lambda weights: weights[:, known] @ VALUES[known] / weights[:, known].sum(axis=1), GROUPS, seed=3, n_bootstrap=300
    )
    assert find_intervals([mean_over(VALUES)], GROUPS, seed=3, n_bootstrap=300) == [pytest.approx(tuple(expected))]
    assert find_intervals([mean_over(VALUES)], ["one"] * 6, seed=3, n_bootstrap=300) == [(None, None)]
    summary = summarise({"all": mean_over(VALUES)}, GROUPS, seed=3, n_bootstrap=300)
    assert summary == {"all": {"value": 0.55, "low": pytest.approx(expected.low), "high": pytest.approx(expected.high),
                               "items": 5}}


def test_a_difference_is_drawn_for_both_at_once():
    """A model that is right on one item more everywhere differs by exactly that in every draw."""
    better = np.where(np.isnan(VALUES), np.nan, VALUES + 0.1)
    (low, high), = find_intervals([mean_over(better)], GROUPS, minus=[mean_over(VALUES)], seed=0, n_bootstrap=100)
    assert (low, high) == (pytest.approx(0.1), pytest.approx(0.1))
    (low, high), = find_intervals([mean_over(better)], GROUPS, seed=0, n_bootstrap=100)
    assert high - low > 0.1


def make_scored(credits, numbers=None):
    """Items of two responses with the credits wanted."""
    gaps = [np.sign(credit - 0.5) for credit in credits]
    return ScoredItems(
        numbers=list(range(len(credits))) if numbers is None else numbers,
        ids=[""] * len(credits), parts=["x"] * len(credits), groups=[f"{number % 7}" for number in range(len(credits))],
        grades=[np.array([1.0, 0.0])] * len(credits), rewards=[np.array([gap, 0.0]) for gap in gaps],
    )


def measure(scored):
    credits = np.array([(np.sign(rewards[0] - rewards[1]) + 1) / 2 for rewards in scored.rewards])
    return BenchmarkResult({"accuracy": mean_over(credits)}, {}, credits)


def test_models_are_compared_on_what_both_have_scored():
    first, second = [1, 1, 1, 0, 1, 0.5, 1, 1, 1, 1], [1, 0, 0, 0, 0, 0, 1, 1, 0, 1]
    models = {"one": make_scored(first), "other": make_scored(second), "third": make_scored(first[4:], range(4, 10))}
    both, with_third, _ = compare_models(models, measure, seed=0, n_bootstrap=200)
    assert (both["first"], both["second"], both["items"]) == ("one", "other", 10)
    assert both["difference"] == pytest.approx(8.5 / 10 - 4 / 10)
    assert (both["better"], both["worse"], both["p"]) == (5, 0, pytest.approx(2 / 2**5))
    assert both["low"] <= both["difference"] <= both["high"]
    assert with_third["items"] == 6 and with_third["difference"] == 0 and with_third["p"] == 1
    with pytest.raises(InputError, match="models one and two: expected items that both have scored, got none"):
        compare_models({"one": make_scored([1]), "two": make_scored([1], [5])}, measure, seed=0, n_bootstrap=20)


def test_drops_by_hand():
    as_given = [1, 1, 1, 0, 1, 0, 1, 1, 1, 1]
    found = {AS_GIVEN: make_scored(as_given), "harmless": make_scored(as_given),
             "harmful": make_scored([0, 0, 0.5, 1, 1, 0, 1, 1, 1, 1]), "longer": make_scored([0, 0], [0, 9]),
             "too long": make_scored([], [])}
    robustness = measure_robustness(found, measure, seed=0, n_bootstrap=100)
    drops = {name: entry["drop"] for name, entry in robustness["rewordings"].items()}
    assert drops == {"harmless": 0, "harmful": pytest.approx(0.15), "longer": 1, "too long": None}
    assert robustness["rewordings"]["longer"]["items"] == 2 and robustness["rewordings"]["harmful"]["accuracy"] == 0.65
    assert robustness["mean_drop"] == pytest.approx(1.15 / 3)
    assert (robustness["worst"], robustness["worst_drop"]) == ("longer", 1)
