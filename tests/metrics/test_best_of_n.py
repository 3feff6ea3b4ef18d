"""Best-of-n against the mean over all subsets."""

from itertools import combinations

import numpy as np
import pytest

from rmkit.core.checks import InputError
from rmkit.metrics.best_of_n import best_of_n

GENERATOR = np.random.default_rng(0)


def mean_over_subsets(proxy, gold, size):
    values = []
    for subset in map(list, combinations(range(len(proxy)), size)):
        best = proxy[subset] == proxy[subset].max()
        values.append(gold[subset][best].mean())
    return np.mean(values)


@pytest.mark.parametrize("proxy", [GENERATOR.normal(size=9), GENERATOR.integers(0, 3, 9).astype(float), np.zeros(9)])
def test_it_is_the_mean_over_all_subsets(proxy):
    gold = GENERATOR.normal(size=9)
    result = best_of_n(proxy[None], gold[None], range(1, 10))[0]
    assert result == pytest.approx([mean_over_subsets(proxy, gold, size) for size in range(1, 10)], abs=1e-12)


def test_smallest_and_largest_n():
    proxy, gold = GENERATOR.normal(size=(3, 1500)), GENERATOR.normal(size=(3, 1500))
    result = best_of_n(proxy, gold, [1, 1024, 1500])
    assert result[:, 0] == pytest.approx(gold.mean(axis=1))
    assert result[:, 2] == pytest.approx(gold[np.arange(3), proxy.argmax(axis=1)], abs=1e-9)
    assert best_of_n(proxy, np.ones_like(gold), [1, 2, 37, 1024, 1500]) == pytest.approx(np.ones((3, 5)))


def test_uniform_ranks_have_the_known_expectation():
    """The expected highest of n of the numbers 1 to N is n (N + 1) / (n + 1)."""
    gold = np.arange(1.0, 1025)[None]
    sizes = [1, 2, 10, 500, 1024]
    assert best_of_n(gold, gold, sizes)[0] == pytest.approx([size * 1025 / (size + 1) for size in sizes])


@pytest.mark.parametrize(("gold", "sizes", "message"), [
    *((np.ones((2, 3)), sizes, "sizes: expected numbers from 1 to the 3 responses") for sizes in ([0], [4], [1, 5])),
    (np.ones((3, 2)), [1], "gold: expected the shape of proxy"),
])
def test_invalid_arguments(gold, sizes, message):
    with pytest.raises(InputError, match=message):
        best_of_n(np.ones((2, 3)), gold, sizes)
