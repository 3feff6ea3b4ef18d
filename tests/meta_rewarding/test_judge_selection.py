"""From the meta-judge's verdicts to judge pairs (METHODS 2.5, T9, T10)."""

import numpy as np
import pytest

from rmkit.core.checks import InputError
from rmkit.judges.meta_judge import compare_ensemble_members
from rmkit.meta_rewarding.judge_selection import select_judgments
from rmkit.metrics import bradley_terry, win_matrix

T9 = {(0, 1): (1, -1), (0, 2): (1, 1), (0, 3): (1, -1), (1, 2): (-1, -1), (1, 3): (1, 1), (2, 3): (1, -1)}
NAN = np.nan


def from_pairs(pairs, players):
    """Verdicts [player, player] from (r_mn, r_nm) of each pair."""
    verdicts = np.full((players, players), NAN)
    for (one, other), (there, back) in pairs.items():
        verdicts[one, other], verdicts[other, one] = there, back
    return verdicts


def test_the_papers_example():
    """T9 has 6 wins of the first and 6 of the second beside a prompt that makes the weights 0.4 and 0.6."""
    wins = {1: sum(pair.count(1) for pair in T9.values()), -1: sum(pair.count(-1) for pair in T9.values())}
    balance = np.full((4, 4), NAN)
    assert wins == {1: 7, -1: 5}
    balance[0, 1:], balance[1, 2:] = 1, 1  # five more first wins: 12 to 5; then three second wins: 12 to 8
    balance[2, :2], balance[3, 0] = -1, -1
    found = select_judgments(np.stack([from_pairs(T9, 4), balance]), ridge=1e-9)
    assert (found.weights.first, found.weights.second) == pytest.approx((0.4, 0.6))
    np.testing.assert_allclose(found.ratings[0], [1.45441557, -0.53326486, 0.53326486, -1.45441557], atol=1e-6)
    assert (found.chosen[0], found.rejected[0], found.why[0]) == (0, 3, "")


def test_weights_are_of_the_whole_data_unless_asked_otherwise():
    """A meta-judge that leans to the first one: its wins in second place weigh more, over all prompts together."""
    verdicts = np.full((10, 2, 2), NAN)
    verdicts[:, 0, 1] = np.where(np.arange(10) < 7, 1, -1)
    whole, own = (select_judgments(verdicts, scope=scope) for scope in ("all", "prompt"))
    assert whole.weights.first == pytest.approx(0.3) and whole.count() == {"pairs": 10}
    assert whole.chosen.tolist() == [0] * 7 + [1] * 3
    assert own.count() == {"no battle": 10}  # each prompt's only win is of a position that always wins there


def test_judgments_are_found_by_their_quality_whatever_the_position():
    generator = np.random.default_rng(0)
    quality, bias = generator.normal(size=(300, 5)), 1.5
    gaps = quality[:, :, None] - quality[:, None, :] + bias
    verdicts = np.where(generator.random(gaps.shape) < 1 / (1 + np.exp(-2 * gaps)), 1.0, -1.0)
    found = select_judgments(verdicts)
    assert found.weights.first < 0.4
    rows = np.arange(300)
    assert (quality[rows, found.chosen] > quality[rows, found.rejected]).mean() > 0.95
    again = bradley_terry(win_matrix(verdicts, found.weights), ridge=0.01).ratings
    np.testing.assert_allclose(found.ratings, again)


def test_each_reason_is_named():
    decided, other = from_pairs({(0, 1): (1, -1)}, 6), from_pairs({(0, 1): (-1, 1)}, 6)
    wins = [(0, 1), (0, 2), (3, 5), (4, 5)]  # 0 is the highest of its league, 5 the lowest of another
    split = from_pairs({pair: (1, -1) for pair in wins}, 6)
    verdicts = np.stack([
        decided, other, np.full((6, 6), NAN), np.zeros((6, 6)), split,
        from_pairs({(0, 1): (1, 1)}, 6), from_pairs({(0, 1): (1, -1), (1, 2): (1, -1), (2, 0): (1, -1)}, 6),
    ])
    lengths = np.tile([100.0, 50, 10, 10, 10, 10], (7, 1))
    scores = np.tile([5.0, 4, 3, 3, 2, 1], (7, 1))
    scores[1, :2] = 4
    plain = select_judgments(verdicts, lengths)
    assert plain.why.tolist() == ["", "", "no battle", "no battle", "not joined", "equal ratings", "equal ratings"]
    assert plain.chosen.tolist() == [0, 1, -1, -1, -1, -1, -1]
    assert plain.rejected.tolist() == [1, 0, -1, -1, -1, -1, -1]
    short = select_judgments(verdicts, lengths, max_length=99)
    assert short.why[:2].tolist() == ["too long", ""] and short.chosen[:2].tolist() == [-1, 1]
    assert select_judgments(verdicts, lengths, max_length=100).why[0] == ""
    apart = select_judgments(verdicts, lengths, scores=scores)
    assert apart.why[:2].tolist() == ["", "equal scores"]
    assert apart.count() == {"pairs": 1, "equal scores": 1, "no battle": 2, "not joined": 1, "equal ratings": 2}
    assert np.isnan(plain.ratings[0]).tolist() == [False, False, True, True, True, True]


def test_equal_ratings_go_by_length():
    verdicts = from_pairs({(0, 2): (1, -1), (1, 2): (1, -1), (0, 3): (1, -1), (1, 3): (1, -1)}, 4)[None]
    found = select_judgments(verdicts, [[9, 5, 4, 8]])
    assert (found.chosen[0], found.rejected[0]) == (1, 3)
    blind = select_judgments(verdicts)
    assert (blind.chosen[0], blind.rejected[0]) == (0, 2)


def test_reward_models_verdicts_are_served_too():
    """Three members; the third contradicts the others on every pair, and is never chosen."""
    gaps = np.array([[2.0, 1.5, 3.0], [1.0, 2.5, 2.0], [-1.0, -2.0, -1.5]])
    found = select_judgments(compare_ensemble_members(gaps, np.zeros_like(gaps), rule="strength"))
    assert (found.weights.first, found.weights.second) == (0.5, 0.5)
    assert (found.rejected == 2).all() and set(found.chosen) <= {0, 1}
    by_labels = select_judgments(
        compare_ensemble_members(gaps, np.zeros_like(gaps), rule="agreement", target=[0.0, 1.0, 1.0])
    )
    assert by_labels.chosen[0] == 2  # where the label says so


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ({"verdicts": np.ones((2, 2))}, "verdicts"),
        ({"verdicts": np.full((1, 2, 2), 2.0)}, "verdicts"),
        ({"max_length": 5}, "max_length"),
        ({"lengths": [[1, 2, 3]]}, "lengths"),
        ({"scores": [[1, 2, 3]]}, "scores"),
        ({"ridge": -1}, "ridge"),
    ],
)
def test_judge_pairs_refuse(arguments, names):
    with pytest.raises(InputError, match=names):
        select_judgments(**({"verdicts": [[[0, 1.0], [-1.0, 0]]]} | arguments))
