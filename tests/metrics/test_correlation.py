import numpy as np
import pytest

from rmkit.core.checks import InputError
from rmkit.metrics.correlation import auroc, kendall_tau, prompt_correlation, rank_correlation


def test_spearman_shares_ranks_between_equals():
    assert rank_correlation([4.5, 4.5, 3, 2], [4, 3, 2, 1]) == pytest.approx(0.94868330, abs=1e-8)


def test_auroc_counts_equals_half():
    scores, positive = np.array([3.0, 1.0, 1.0, 0.0]), np.array([True, True, False, False])
    wins = [(p > n) + (p == n) / 2 for p in scores[positive] for n in scores[~positive]]
    assert auroc(scores, positive) == pytest.approx(np.mean(wins)) == 0.875


@pytest.mark.parametrize(
    ("positive", "names"),
    [
        ([True, True], "positive.*both"),
        ([False, False], "positive.*both"),
        ([1, 2], "positive.*both"),
        ([True], "positive.*shape"),
    ],
)
def test_auroc_refuses_one_class(positive, names):
    with pytest.raises(InputError, match=names):
        auroc([0.1, 0.2], positive)


def test_rank_correlation_refuses_a_constant_and_another_length():
    with pytest.raises(InputError, match="second.*1 throughout"):
        rank_correlation([1, 2], [1, 1])
    with pytest.raises(InputError, match="second.*shape"):
        rank_correlation([1, 2], [1, 2, 3])


def test_kendalls_tau_b_corrects_for_equals():
    assert kendall_tau([4.5, 4.5, 3, 2], [4, 3, 2, 1]) == pytest.approx(0.91287093, abs=1e-8)
    assert kendall_tau([4.5, 4.5, 3, 2], [4, 3, 2, 1]) != pytest.approx(5 / 6)  # tau-a


def test_correlations_are_averaged_over_prompts():
    first = [[1, 2, 3], [1, 2, np.nan], [5, 5, 5], [np.nan, np.nan, 1]]
    second = [[1, 2, 3], [2, 1, 0], [1, 2, 3], [1, 2, 3]]
    assert prompt_correlation(first, second) == (pytest.approx(0, abs=1e-12), 2, 2)
    assert prompt_correlation([[4.5, 4.5, 3, 2]], [[4, 3, 2, 1]], measure="kendall").mean == pytest.approx(0.91287093)
    assert prompt_correlation([[1, 1]], [[1, 2]]) == (None, 0, 1)


@pytest.mark.parametrize(
    "changes", [{"second": [[1, 2, 3]]}, {"measure": "pearson"}, {"first": [1, 2], "second": [1, 2]}]
)
def test_prompt_correlation_refuses(changes):
    with pytest.raises(InputError):
        prompt_correlation(**({"first": [[1, 2]], "second": [[1, 2]]} | changes))
