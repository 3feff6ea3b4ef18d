import numpy as np
import pytest

from rmkit.core.checks import InputError
from rmkit.metrics import length_bias, position_bias

NAN = np.nan


def test_position_bias_by_hand():
    result = position_bias([1, 1, -1, 0, NAN, 1], [-1, 1, -1, 0, 1, NAN])
    assert result.first == pytest.approx(5 / 8)
    assert (result.consistent, result.first_twice, result.second_twice) == (0.5, 0.25, 0.25)
    assert (result.both, result.missing) == (4, 2)
    assert position_bias([NAN], [NAN]) == (None, None, None, None, 0, 2)
    assert position_bias([0], [NAN]).first is None
    assert position_bias([0, 1], [0, -1]).consistent == 1
    assert position_bias([NAN, 1], [0, -1]).both == 1


def test_position_bias_of_extreme_judges():
    assert position_bias(np.ones(50), -np.ones(50))[:2] == (0.5, 1.0)  # the better response is always first
    assert position_bias(np.ones(50), np.ones(50))[:3] == (1.0, 0.0, 1.0)  # the first position always wins


def test_length_bias_is_what_labels_do_not_explain():
    verdicts, differences = np.array([1, 1, -1, 1, 0, NAN, 1]), np.array([5, -5, -3, 2, 9, 9, 0])
    assert length_bias(verdicts, differences) == (0.75, None, None, 4)
    labelled = length_bias(verdicts, differences, [1, 1, 1, NAN, 1, 1, 1])
    assert labelled.labels_longer == pytest.approx(1 / 3)
    assert labelled.excess == pytest.approx(2 / 3 - 1 / 3)
    assert length_bias([0], [3]) == (None, None, None, 0)
    same = np.random.default_rng(0).choice([1.0, -1.0], 99)
    assert length_bias(same, np.arange(1, 100), same).excess == 0


@pytest.mark.parametrize("call, message", [
    (lambda: position_bias([1], [1, 1]), "swapped.*shape"),
    (lambda: position_bias([3], [1]), "verdicts.*3"),
    (lambda: length_bias([1], [1, 2]), "differences.*shape"),
    (lambda: length_bias([1], [1], [1, 1]), "labels.*shape"),
])
def test_invalid_arguments(call, message):
    with pytest.raises(InputError, match=message):
        call()
