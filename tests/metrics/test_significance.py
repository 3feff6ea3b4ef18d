import numpy as np
import pytest
from scipy.stats import binom

from rmkit.core.checks import InputError
from rmkit.metrics.significance import mcnemar


def test_the_exact_p_by_hand():
    first = np.array([1] * 8 + [0] + [1] * 5 + [0] * 3)
    second = np.array([0] * 8 + [1] + [1] * 5 + [0] * 3)
    found = mcnemar(first, second)
    assert (found["better"], found["worse"]) == (8, 1)
    assert found["p"] == pytest.approx(2 * (1 + 9) / 2**9)
    assert mcnemar(second, first) == {"better": 1, "worse": 8, "p": found["p"]}


@pytest.mark.parametrize("better, worse", [(3, 2), (10, 3), (0, 6), (1, 1)])
def test_twice_the_tail_of_a_coin(better, worse):
    first = [1] * better + [0] * worse
    found = mcnemar(first, [1 - credit for credit in first])
    assert found["p"] == pytest.approx(min(1, 2 * binom.cdf(min(better, worse), better + worse, 0.5)))


def test_models_that_agree_do_not_differ():
    assert mcnemar([1, 0, 0.5], [1, 0, 0.5]) == {"better": 0, "worse": 0, "p": 1.0}


def test_credits_of_other_items_are_refused():
    with pytest.raises(InputError, match="second: expected the shape of first"):
        mcnemar([1, 0], [1])
