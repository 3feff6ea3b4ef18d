import numpy as np
import pytest

from rmkit.core.checks import InputError
from rmkit.metrics.accuracy import pair_accuracy


def test_ties_count_half():
    assert pair_accuracy([2.0, 0.0, -1.0, 0.0]) == (0.5, 0.5)
    assert pair_accuracy(np.zeros(7)) == (0.5, 1.0)


def test_negated_gaps_give_one_minus_accuracy():
    gaps = np.random.default_rng(0).integers(-2, 3, 101)
    assert pair_accuracy(-gaps).accuracy == pytest.approx(1 - pair_accuracy(gaps).accuracy)


@pytest.mark.parametrize("gaps", [[], [np.nan], [[1.0]], 1.0])
def test_invalid_gaps(gaps):
    with pytest.raises(InputError, match="gaps"):
        pair_accuracy(gaps)
