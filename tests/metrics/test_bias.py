import numpy as np
import pytest

from rmkit.core.checks import InputError
from rmkit.metrics import length_bias, position_bias, score_saturation, self_consistency

NAN = np.nan


def test_position_bias_of_a_few_pairs():
    found = position_bias([1, 1, -1, 0, NAN, 1], [-1, 1, -1, 0, 1, NAN])
    assert found.first == pytest.approx(5 / 8)
    assert (found.consistent, found.first_twice, found.second_twice) == (0.5, 0.25, 0.25)
    assert (found.both, found.missing) == (4, 2)
    assert position_bias([NAN], [NAN]) == (None, None, None, None, 0, 2)
    assert position_bias([0], [NAN]).first is None


def test_a_good_judge_has_no_bias_though_the_better_stands_first():
    always = position_bias(np.ones(50), -np.ones(50))
    assert (always.first, always.consistent) == (0.5, 1.0)
    stubborn = position_bias(np.ones(50), np.ones(50))
    assert (stubborn.first, stubborn.consistent, stubborn.first_twice) == (1.0, 0.0, 1.0)


def test_an_unread_answer_is_no_tie():
    assert position_bias([0, 1], [0, -1]).consistent == 1
    assert position_bias([NAN, 1], [0, -1]).both == 1


def test_length_bias_is_what_labels_do_not_explain():
    verdicts, differences = np.array([1, 1, -1, 1, 0, NAN, 1]), np.array([5, -5, -3, 2, 9, 9, 0])
    found = length_bias(verdicts, differences)
    assert (found.longer, found.labels_longer, found.excess, found.pairs) == (0.75, None, None, 4)
    labelled = length_bias(verdicts, differences, [1, 1, 1, NAN, 1, 1, 1])
    assert labelled.labels_longer == pytest.approx(1 / 3)
    assert labelled.excess == pytest.approx(2 / 3 - 1 / 3)
    assert length_bias([0], [3]) == (None, None, None, 0)
    same = np.random.default_rng(0).choice([1.0, -1.0], 99)
    assert length_bias(same, np.arange(1, 100), same).excess == 0


def test_self_consistency_by_hand():
    found = self_consistency([[4, 4, 5], [1, 1, NAN], [2, NAN, NAN]])
    assert found.equal == pytest.approx((1 / 3 + 1) / 2)
    assert found.spread == pytest.approx((np.std([4, 4, 5]) + 0) / 2)
    assert (found.responses, found.missing) == (2, 3)
    assert self_consistency([[3, 3], [5, 5]])[:3] == (1.0, 0.0, 1.0)
    assert self_consistency([[3, NAN]]) == (None, None, None, 0, 1)
    assert self_consistency([[3, 4]]).reliability is None


def test_reliability_is_the_share_of_variance_between():
    generator = np.random.default_rng(0)
    truth = generator.normal(0, 2, (4000, 1))
    scores = truth + generator.normal(0, 1, (4000, 6))
    assert self_consistency(scores).reliability == pytest.approx(0.8, abs=0.02)
    holes = np.where(generator.random(scores.shape) < 0.3, NAN, scores)
    assert self_consistency(holes).reliability == pytest.approx(0.8, abs=0.02)
    assert self_consistency(generator.normal(size=(4000, 6))).reliability == pytest.approx(0, abs=0.02)
    shrout = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
    assert self_consistency(shrout).reliability == pytest.approx(0.17, abs=0.005)  # Shrout and Fleiss, Table 4


def test_saturation_by_hand():
    found = score_saturation([[5, 5, 4], [5, NAN, NAN], [3, 4, NAN]], top=5)
    assert found.top == pytest.approx(3 / 6)
    assert found.entropy == pytest.approx(-(1 / 2 * np.log(1 / 2) + 1 / 3 * np.log(1 / 3) + 1 / 6 * np.log(1 / 6)))
    assert (found.ties, found.missing) == (pytest.approx((1 / 3 + 0) / 2), 3)
    assert score_saturation([[5, 5]], top=5)[:3] == (1.0, 0.0, 1.0)
    assert np.exp(score_saturation([[1, 2, 3, 4, 5]], top=5).entropy) == pytest.approx(5)
    assert score_saturation([[5], [4]], top=5).ties is None


@pytest.mark.parametrize(
    ("call", "names"),
    [
        (lambda: position_bias([1], [1, 1]), "swapped.*shape"),
        (lambda: position_bias([3], [1]), "verdicts.*3"),
        (lambda: length_bias([1], [1, 2]), "differences.*shape"),
        (lambda: length_bias([1], [1], [1, 1]), "labels.*shape"),
        (lambda: self_consistency([1, 2]), "scores.*shape"),
        (lambda: self_consistency([[np.inf, 2]]), "scores.*finite"),
        (lambda: score_saturation([[NAN]], top=5), "at least one score"),
        (lambda: score_saturation([[6.0]], top=5), "above the top"),
    ],
)
def test_biases_refuse(call, names):
    with pytest.raises(InputError, match=names):
        call()
