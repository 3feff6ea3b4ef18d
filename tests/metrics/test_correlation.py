import numpy as np
import pytest

from rmkit.core.checks import InputError
from rmkit.metrics.correlation import auroc, prompt_correlation, rank_correlation


def test_spearman_shares_ranks_between_equals():
    assert rank_correlation([4.5, 4.5, 3, 2], [4, 3, 2, 1]) == pytest.approx(0.94868330, abs=1e-8)


def test_auroc_counts_equal_scores_half():
    scores, positive = np.array([3.0, 1.0, 1.0, 0.0]), np.array([True, True, False, False])
    wins = [(p > n) + (p == n) / 2 for p in scores[positive] for n in scores[~positive]]
    assert auroc(scores, positive) == pytest.approx(np.mean(wins)) == 0.875


def test_correlations_are_averaged_over_prompts():
    first = [[1, 2, 3], [1, 2, np.nan], [5, 5, 5], [np.nan, np.nan, 1]]
    second = [[1, 2, 3], [2, 1, 0], [1, 2, 3], [1, 2, 3]]
    assert prompt_correlation(first, second) == (pytest.approx(0, abs=1e-12), 2, 2)
    assert prompt_correlation([[1, 1]], [[1, 2]]) == (None, 0, 1)


@pytest.mark.parametrize("call, message", [
    (lambda: auroc([0.1, 0.2], [True, True]), "positive.*both"),
    (lambda: auroc([0.1, 0.2], [False, False]), "positive.*both"),
    (lambda: auroc([0.1, 0.2], [1, 2]), "positive.*both"),
    (lambda: auroc([0.1, 0.2], [True]), "positive.*shape"),
    (lambda: rank_correlation([1, 2], [1, 1]), "second.*only 1"),
    (lambda: rank_correlation([1, 2], [1, 2, 3]), "second.*shape"),
    (lambda: prompt_correlation([[1, 2]], [[1, 2, 3]]), "second.*shape"),
    (lambda: prompt_correlation([1, 2], [1, 2]), "first.*shape"),
])
def test_invalid_arguments(call, message):
    with pytest.raises(InputError, match=message):
        call()
