"""From the meta-judge's verdicts to judge pairs (METHODS 2.5, T9, T10)."""

import numpy as np
import pytest

from rmkit.core.checks import InputError
from rmkit.judges.meta_judge import compare_ensemble_members
from rmkit.meta_rewarding.judge_selection import select_judgments
from rmkit.metrics import bradley_terry, win_matrix

T9 = {(0, 1): (1, -1), (0, 2): (1, 1), (0, 3): (1, -1), (1, 2): (-1, -1), (1, 3): (1, 1), (2, 3): (1, -1)}
NAN = np.nan


def verdict_matrix(pairs, judgments):
    """Verdicts [judgment, judgment] from (r_mn, r_nm) of each pair (m, n)."""
    verdicts = np.full((judgments, judgments), NAN)
    for (first, second), (original, swapped) in pairs.items():
        verdicts[first, second], verdicts[second, first] = original, swapped
    return verdicts


def test_the_papers_example():
    """T9 beside a prompt that makes the position weights 0.4 and 0.6."""
    balance = np.full((4, 4), NAN)
    balance[0, 1:], balance[1, 2:] = 1, 1  # T9 has 7 wins in first position, 5 in second; with these 12 and 5
    balance[2, :2], balance[3, 0] = -1, -1  # 12 and 8
    selected = select_judgments(np.stack([verdict_matrix(T9, 4), balance]), ridge=1e-9)
    assert (selected.weights.first, selected.weights.second) == pytest.approx((0.4, 0.6))
    np.testing.assert_allclose(selected.ratings[0], [1.45441557, -0.53326486, 0.53326486, -1.45441557], atol=1e-6)
    assert (selected.chosen[0], selected.rejected[0], selected.skip_reason[0]) == (0, 3, "")


def test_the_better_judgment_is_found_despite_position_bias():
    generator = np.random.default_rng(0)
    quality, bias = generator.normal(size=(300, 5)), 1.5
    gaps = quality[:, :, None] - quality[:, None, :] + bias
    verdicts = np.where(generator.random(gaps.shape) < 1 / (1 + np.exp(-2 * gaps)), 1.0, -1.0)
    selected = select_judgments(verdicts)
    assert selected.weights.first < 0.4
    rows = np.arange(300)
    assert (quality[rows, selected.chosen] > quality[rows, selected.rejected]).mean() > 0.95
    ratings = bradley_terry(win_matrix(verdicts, selected.weights), ridge=0.01).ratings
    np.testing.assert_allclose(selected.ratings, ratings)


def test_each_reason_to_skip_a_prompt():
    unconnected = dict.fromkeys([(0, 1), (0, 2), (3, 5), (4, 5)], (1, -1))  # the highest, 0, and the lowest, 5
    cycle = dict.fromkeys([(0, 1), (1, 2), (2, 0)], (1, -1))
    verdicts = np.stack([
        verdict_matrix({(0, 1): (1, -1)}, 6), verdict_matrix({(0, 1): (-1, 1)}, 6), np.full((6, 6), NAN),
        np.zeros((6, 6)), verdict_matrix(unconnected, 6), verdict_matrix({(0, 1): (1, 1)}, 6), verdict_matrix(cycle, 6),
    ])
    lengths = np.tile([100.0, 50, 10, 10, 10, 10], (7, 1))
    scores = np.tile([5.0, 4, 3, 3, 2, 1], (7, 1))
    scores[1, :2] = 4
    plain = select_judgments(verdicts, lengths)
    assert plain.skip_reason.tolist() == [
        "", "", "not compared", "not compared", "not connected", "equal ratings", "equal ratings"]
    assert plain.chosen.tolist() == [0, 1, -1, -1, -1, -1, -1]
    assert plain.rejected.tolist() == [1, 0, -1, -1, -1, -1, -1]
    short = select_judgments(verdicts, lengths, max_length=99)
    assert short.skip_reason[:2].tolist() == ["too long", ""] and short.chosen[:2].tolist() == [-1, 1]
    assert select_judgments(verdicts, lengths, max_length=100).skip_reason[0] == ""
    assert select_judgments(verdicts, lengths, scores=scores).count() == {
        "pairs": 1, "equal scores": 1, "not compared": 2, "not connected": 1, "equal ratings": 2}
    assert np.isnan(plain.ratings[0]).tolist() == [False, False, True, True, True, True]


def test_ties_in_rating_go_by_length():
    verdicts = verdict_matrix(dict.fromkeys([(0, 2), (1, 2), (0, 3), (1, 3)], (1, -1)), 4)[None]
    for lengths, pair in (([[9, 5, 4, 8]], (1, 3)), (None, (0, 2))):
        selected = select_judgments(verdicts, lengths)
        assert (selected.chosen[0], selected.rejected[0]) == pair


def test_verdicts_of_reward_models():
    """The third of three members contradicts the others on every pair, and is never chosen."""
    gaps = np.array([[2.0, 1.5, 3.0], [1.0, 2.5, 2.0], [-1.0, -2.0, -1.5]])
    selected = select_judgments(compare_ensemble_members(gaps, np.zeros_like(gaps), rule="leave_two_out"))
    assert (selected.weights.first, selected.weights.second) == (0.5, 0.5)
    assert (selected.rejected == 2).all() and set(selected.chosen) <= {0, 1}


@pytest.mark.parametrize("arguments, match", [
    ({"verdicts": np.ones((2, 2))}, "verdicts"), ({"verdicts": np.full((1, 2, 2), 2.0)}, "verdicts"),
    ({"max_length": 5}, "max_length"), ({"lengths": [[1, 2, 3]]}, "lengths"), ({"scores": [[1, 2, 3]]}, "scores"),
    ({"ridge": -1}, "ridge"),
])
def test_invalid_input(arguments, match):
    with pytest.raises(InputError, match=match):
        select_judgments(**{"verdicts": [[[0, 1.0], [-1.0, 0]]], **arguments})
