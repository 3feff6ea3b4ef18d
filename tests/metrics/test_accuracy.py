import numpy as np
import pytest

from rmkit.core.checks import InputError
from rmkit.metrics.accuracy import pair_accuracy


def test_ties_count_half_and_are_told():
    found = pair_accuracy([2.0, 0.0, -1.0, 0.0])
    assert found.accuracy == 0.5
    assert found.tie_rate == 0.5


def test_a_model_that_scores_everything_alike_is_at_chance():
    assert pair_accuracy(np.zeros(7)) == (0.5, 1.0)


def test_turning_all_pairs_turns_accuracy():
    gaps = np.random.default_rng(0).integers(-2, 3, 101)
    assert pair_accuracy(-gaps).accuracy == pytest.approx(1 - pair_accuracy(gaps).accuracy)


def test_every_pair_weighs_the_same_whatever_its_batch():
    batches = [np.array([1.0, 1.0, 1.0, 1.0]), np.array([-1.0])]
    whole = pair_accuracy(np.concatenate(batches)).accuracy
    assert whole == 0.8
    assert whole != np.mean([pair_accuracy(batch).accuracy for batch in batches])


@pytest.mark.parametrize("gaps", [[], [np.nan], [[1.0]], 1.0])
def test_refuses(gaps):
    with pytest.raises(InputError, match="gaps"):
        pair_accuracy(gaps)
