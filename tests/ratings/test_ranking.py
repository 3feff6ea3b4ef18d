import numpy as np
import pytest

from rmkit.core.checks import InputError
from rmkit.ratings.ranking import auroc, rank_correlation


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
