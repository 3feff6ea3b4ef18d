"""Win rates and arena scores of policies (METHODS 2.6)."""

import json

import numpy as np
import pytest
from scipy.special import expit

from rmkit.core.checks import InputError
from rmkit.evaluation.policies import PolicyComparisons, arena_scores, evaluate_policies
from rmkit.metrics.length_control import alpaca_rate, length_controlled_rate

NAN = np.nan


def play(ratings, prompts=400, seed=0, orders=2, likes_first=0.0, everyone=True):
    """Each two policies on each prompt, won by ratings, and by who is shown first."""
    generator = np.random.default_rng(seed)
    players = len(ratings)
    pairs = [(one, other) for one in range(players) for other in range(one + 1, players) if everyone or one == 0]
    sides = np.tile(pairs, (prompts, 1))
    lean = np.array([likes_first, -likes_first])[:orders]
    gaps = np.subtract(*np.array(ratings)[sides].T)[:, None] + lean
    preferences = (generator.random(gaps.shape) < expit(gaps)).astype(float)
    lengths = generator.integers(50, 900, sides.shape).astype(float)
    return PolicyComparisons(sides, preferences, lengths, np.repeat(np.arange(prompts), len(pairs)))


def test_win_rates_by_hand():
    preferences = np.array([[1, 1], [1, 0], [0.5, 0.5], [0, 0], [1, NAN], [NAN, NAN]])
    lengths = np.array([[10, 20], [30, 20], [10, 10], [5, 5], [8, 2], [99, 99]])
    matches = PolicyComparisons(np.tile([1, 0], (6, 1)), preferences, lengths, np.arange(6))
    found = evaluate_policies(matches, ["sft", "mine"], baseline="sft", n_bootstrap=50)
    mine = found["mine"]
    assert {name: mine[name] for name in ("pairs", "wins", "ties", "losses", "missing")} == {
        "pairs": 6, "wins": 2, "ties": 2, "losses": 1, "missing": 1}
    assert mine["win_rate"] == pytest.approx((1 + 0.5 + 0.5 + 0 + 1) / 5) and mine["low"] < 0.6 < mine["high"]
    assert (mine["length"], mine["baseline_length"]) == (pytest.approx(63 / 5), pytest.approx(57 / 5))
    wins, apart = [1, 0.5, 0.5, 0, 1], [-10, 10, 0, 0, 6]
    assert mine["length_controlled"]["rate"] == pytest.approx(length_controlled_rate(wins, apart).rate)
    assert mine["length_controlled"]["alpaca"] == pytest.approx(alpaca_rate(wins, apart))
    # Ten battles: three for mine, four against, two ties; one missing. The ridge alone moves it from (4 + 1) / 9.
    assert mine["arena"]["score"] == pytest.approx(5 / 9, abs=1e-3)
    assert found["sft"] == {"arena": {"score": 0.5, "low": 0.5, "high": 0.5}}
    json.dumps(found, allow_nan=False)


def test_who_stands_first_in_the_table_says_nothing():
    there = play([0.0, 0.8], orders=2)
    difficulty = np.random.default_rng(3).normal(size=len(there.sides))
    back = PolicyComparisons(
        there.sides[:, ::-1], 1 - there.preferences, there.lengths[:, ::-1], there.prompts, difficulty
    )
    one, other = (evaluate_policies(matches, ["sft", "mine"], baseline="sft", n_bootstrap=100)
                  for matches in (there._replace(difficulty=difficulty), back))
    assert one["mine"]["arena"] == pytest.approx(other["mine"]["arena"])
    for name in ("win_rate", "low", "high", "length"):
        assert one["mine"][name] == pytest.approx(other["mine"][name])
    mirrored = evaluate_policies(back, ["sft", "mine"], baseline="mine", n_bootstrap=100)["sft"]
    assert mirrored["win_rate"] + one["mine"]["win_rate"] == pytest.approx(1)
    assert mirrored["length_controlled"]["rate"] + one["mine"]["length_controlled"]["rate"] == pytest.approx(1)
    assert mirrored["arena"]["score"] + one["mine"]["arena"]["score"] == pytest.approx(1)
    assert one["mine"]["length_controlled"]["difficulty"] is not None


def test_arena_scores_are_the_true_chances():
    ratings, inside = [0.0, 0.7, -0.4, 1.5], 0
    truth = expit(np.array(ratings))
    for seed in range(10):
        score, low, high = arena_scores(play(ratings, 150, seed, likes_first=1.0), policies=4, baseline=0, seed=seed,
                                        n_bootstrap=200)
        assert (score[0], low[0], high[0]) == (0.5, 0.5, 0.5)
        inside += int(((low < truth) & (truth < high))[1:3].sum())
    assert inside >= 15  # of 20; two orders put a shared lean into the ties, which flattens the far ones a little
    calm = arena_scores(play(ratings, 3000), policies=4, baseline=0, n_bootstrap=2)[0]
    np.testing.assert_allclose(calm, truth, atol=0.02)


def test_against_the_baseline_alone_the_arena_is_the_win_rate():
    matches = play([0.0, 0.5, -0.7], everyone=False, orders=1)
    found = evaluate_policies(matches, ["sft", "good", "bad"], baseline="sft", n_bootstrap=50)
    for name, above in (("good", True), ("bad", False)):
        plain = found[name]["win_rate"]
        assert found[name]["arena"]["score"] == pytest.approx(plain, abs=1e-3) and (plain > 0.5) is above


def test_prompts_are_drawn_whole():
    few = play([0.0, 0.5], prompts=60, orders=1)
    many = PolicyComparisons(*(np.repeat(part, 5, axis=0) for part in few[:4]))
    (_, low, high), (_, again_low, again_high) = (
        arena_scores(matches, policies=2, baseline=0, n_bootstrap=300)[:, 1] for matches in (few, many))
    assert again_high - again_low == pytest.approx(high - low, rel=0.1)


def test_nothing_judged_and_nobody_joined():
    matches = play([0.0, 0.5, 0.2], prompts=5)
    blank = matches._replace(preferences=np.full_like(matches.preferences, NAN))
    found = evaluate_policies(blank, ["a", "b", "c"], baseline="a", n_bootstrap=10)
    assert found["b"]["win_rate"] is None and found["b"]["missing"] == 5
    assert found["b"]["arena"] == {"score": None, "low": None, "high": None}
    one = PolicyComparisons(*(part[:1] for part in play([0.0, 0.5])[:4]))
    found = evaluate_policies(one, ["a", "b"], baseline="a")
    assert (found["b"]["low"], found["b"]["arena"]["low"], found["b"]["length_controlled"]["alpaca"]) == (None,) * 3
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"preferences": np.full((2, 1), 2.0)}, "preferences"), ({"preferences": np.zeros((2, 3))}, "preferences"),
        ({"preferences": np.zeros(2)}, "preferences"), ({"lengths": np.zeros((1, 2))}, "lengths"),
        ({"sides": np.array([[0, 0], [0, 1]])}, "sides"), ({"sides": np.array([[0, 2], [0, 1]])}, "sides"),
        ({"prompts": np.zeros(3)}, "prompts"), ({"difficulty": np.zeros(3)}, "difficulty"),
    ],
)
def test_arena_refuses(changes, names):
    sound = PolicyComparisons(np.array([[0, 1], [1, 0]]), np.ones((2, 1)), np.ones((2, 2)), np.arange(2))
    with pytest.raises(InputError, match=names):
        evaluate_policies(sound._replace(**changes), ["a", "b"], baseline="a")
    with pytest.raises(InputError, match="baseline"):
        evaluate_policies(sound, ["a", "b"], baseline="c")
