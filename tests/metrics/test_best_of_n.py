"""The best of n by a proxy, against every subset there is."""

from itertools import combinations

import numpy as np
import pytest

from rmkit.core.checks import InputError
from rmkit.metrics.best_of_n import best_of_n

GENERATOR = np.random.default_rng(0)


def by_all_subsets(proxy, gold, size):
    values = []
    for subset in map(list, combinations(range(len(proxy)), size)):
        best = proxy[subset] == proxy[subset].max()
        values.append(gold[subset][best].mean())
    return np.mean(values)


@pytest.mark.parametrize("proxy", [GENERATOR.normal(size=9), GENERATOR.integers(0, 3, 9).astype(float), np.zeros(9)])
def test_it_is_the_mean_over_all_subsets(proxy):
    gold = GENERATOR.normal(size=9)
    found = best_of_n(proxy[None], gold[None], range(1, 10))[0]
    assert found == pytest.approx([by_all_subsets(proxy, gold, size) for size in range(1, 10)], abs=1e-12)


def test_one_is_the_mean_and_all_is_the_first():
    proxy, gold = GENERATOR.normal(size=(3, 1500)), GENERATOR.normal(size=(3, 1500))
    found = best_of_n(proxy, gold, [1, 1024, 1500])
    assert found[:, 0] == pytest.approx(gold.mean(axis=1))
    assert found[:, 2] == pytest.approx(gold[np.arange(3), proxy.argmax(axis=1)], abs=1e-9)
    assert best_of_n(proxy, np.ones_like(gold), [1, 2, 37, 1024, 1500]) == pytest.approx(np.ones((3, 5)))


def test_a_proxy_that_is_gold_rises_and_its_opposite_falls():
    gold = GENERATOR.normal(size=(4, 200))
    sizes = [1, 2, 4, 8, 64, 200]
    assert (np.diff(best_of_n(gold, gold, sizes)) > 0).all()
    assert (np.diff(best_of_n(-gold, gold, sizes)) < 0).all()


def test_uniform_ranks_have_the_known_expectation():
    """The expected highest of n of the numbers 1 to N is n (N + 1) / (n + 1)."""
    gold = np.arange(1.0, 1025)[None]
    for size in (1, 2, 10, 500, 1024):
        assert best_of_n(gold, gold, [size])[0, 0] == pytest.approx(size * 1025 / (size + 1))


@pytest.mark.parametrize("sizes", [[0], [4], [1, 5]])
def test_sizes_beyond_the_responses_are_refused(sizes):
    with pytest.raises(InputError, match="sizes: expected numbers from 1 to the 3 responses"):
        best_of_n(np.ones((2, 3)), np.ones((2, 3)), sizes)


def test_shapes_that_differ_are_refused():
    with pytest.raises(InputError, match="gold: expected the shape of proxy"):
        best_of_n(np.ones((2, 3)), np.ones((3, 2)), [1])
