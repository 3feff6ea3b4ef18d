import numpy as np
import pytest
from scipy.stats import binom

import rmkit.metrics.significance as module
from rmkit.core.checks import InputError
from rmkit.metrics.significance import bootstrap_interval, cluster_bootstrap, mcnemar, ratio_interval


def mean_of(values):
    return lambda weights: weights @ values / weights.sum(axis=1)


def test_coverage_needs_whole_groups():
    covered = {"grouped": 0, "ungrouped": 0}
    for seed in range(200):
        generator = np.random.default_rng(seed)
        groups = np.repeat(np.arange(60), 5)
        values = generator.normal(0, 1, 60)[groups] + 0.3 * generator.normal(0, 1, 300)
        for name, units in (("grouped", groups), ("ungrouped", np.arange(300))):
            low, high = bootstrap_interval(mean_of(values), units, seed=seed, n_bootstrap=200)
            covered[name] += low <= 0 <= high
    assert 0.90 <= covered["grouped"] / 200 <= 0.99
    assert covered["ungrouped"] / 200 < 0.75


def test_any_statistic_of_weights():
    values = np.random.default_rng(0).normal(0, 2, 400)

    def spread(weights):
        mean = weights @ values / weights.sum(axis=1)
        return np.sqrt(weights @ values**2 / weights.sum(axis=1) - mean**2)

    low, high = bootstrap_interval(spread, np.arange(400), seed=0)
    assert low < values.std() < high
    assert high - low == pytest.approx(2 * 1.96 * 2 / np.sqrt(800), rel=0.2)


def test_group_names_may_be_text():
    values = np.arange(6.0)
    first = bootstrap_interval(mean_of(values), ["a", "a", "b", "b", "c", "c"], seed=1, n_bootstrap=50)
    assert first == bootstrap_interval(mean_of(values), [0, 0, 1, 1, 2, 2], seed=1, n_bootstrap=50)
    assert first != bootstrap_interval(mean_of(values), np.arange(6), seed=1, n_bootstrap=50)


def test_blocks_do_not_change_the_draws(monkeypatch):
    values = np.random.default_rng(0).normal(size=30)
    whole = bootstrap_interval(mean_of(values), np.arange(30), seed=0, n_bootstrap=101)
    monkeypatch.setattr(module, "BLOCK", 200)
    assert bootstrap_interval(mean_of(values), np.arange(30), seed=0, n_bootstrap=101) == pytest.approx(whole)


def test_undefined_resamples_are_left_out():
    assert bootstrap_interval(
        lambda weights: np.where(weights[:, 0] == 0, np.nan, 1.0), np.arange(5), seed=0, n_bootstrap=50
    ) == (1.0, 1.0)
    with pytest.raises(InputError, match="statistic.*NaN for all"):
        bootstrap_interval(lambda weights: np.full(len(weights), np.nan), [0, 1], seed=0)


@pytest.mark.parametrize("groups, changes, message", [
    (["a", "a"], {}, "groups.*two"), ([0, 1], {"n_bootstrap": 0}, "n_bootstrap"),
])
def test_invalid_arguments(groups, changes, message):
    with pytest.raises(InputError, match=message):
        bootstrap_interval(mean_of(np.ones(2)), groups, seed=0, **changes)


def test_ratio_interval():
    generator = np.random.default_rng(0)
    counted = generator.integers(0, 2, 200).astype(float)
    hits = counted * (generator.random(200) < 0.7)
    interval = ratio_interval(hits, counted, np.arange(200), seed=0)
    same = bootstrap_interval(lambda weights: (weights @ hits) / (weights @ counted), np.arange(200), seed=0)
    assert interval == pytest.approx(same)
    of_all = bootstrap_interval(lambda weights: (weights @ hits) / weights.sum(axis=1), np.arange(200), seed=0)
    assert interval.low > of_all.high
    assert ratio_interval([1, 0, 0], [1, 0, 0], [0, 1, 2], seed=0, n_bootstrap=50) == (1.0, 1.0)
    with pytest.raises(InputError, match="NaN for all"):
        ratio_interval([0, 0], [0, 0], [0, 1], seed=0)


def test_a_statistic_may_be_an_array():
    values = np.random.default_rng(0).normal(size=(2, 20))
    means = cluster_bootstrap(lambda weights: weights @ values.T / 20, np.arange(20), seed=0, n_bootstrap=7)
    assert means.shape == (7, 2)


@pytest.mark.parametrize("better, worse", [(8, 1), (3, 2), (10, 3), (0, 6), (1, 1), (0, 0)])
def test_mcnemar_is_twice_the_tail_of_a_binomial(better, worse):
    first = np.array([1] * better + [0] * worse + [1, 0.5, 0])
    second = np.array([0] * better + [1] * worse + [1, 0.5, 0])
    result = mcnemar(first, second)
    assert (result["better"], result["worse"]) == (better, worse)
    assert result["p"] == pytest.approx(min(1, 2 * binom.cdf(min(better, worse), better + worse, 0.5)))
    assert mcnemar(second, first) == {"better": worse, "worse": better, "p": result["p"]}


def test_mcnemar_needs_the_same_items():
    with pytest.raises(InputError, match="second: expected the shape of first"):
        mcnemar([1, 0], [1])
