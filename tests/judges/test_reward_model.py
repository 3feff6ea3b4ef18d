"""Reward models as judges: the score scale, the conservative score, and members compared with each other."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rmkit.core.checks import InputError
from rmkit.judges.base import JudgeTask, Scale
from rmkit.judges.meta_judge import compare_ensemble_members
from rmkit.judges.reward_model import RewardModelJudge, ScoreScale, ensemble_score, fit_scale
from rmkit.metrics import bradley_terry, wins_from_verdicts

FIVE = Scale(0, 5)


class Lengths:
    """Two members: one counts characters, the other asks for the opposite, far away and on another scale."""

    def score(self, tasks):
        sizes = np.array([len(task.responses[0][-1]["content"]) for task in tasks], dtype=float)
        return np.stack([sizes, 1000 - 50 * sizes]), np.full(len(tasks), 7)


def make_tasks(*texts):
    prompt = [{"role": "user", "content": "?"}]
    return [JudgeTask(text, prompt, ([{"role": "assistant", "content": text}],)) for text in texts]


def test_each_member_scores_on_the_scale():
    scale = ScoreScale(FIVE, (2.0, 900.0), (1.0, 50.0))
    judge = RewardModelJudge(Lengths(), scale)
    answers = judge.judge(make_tasks("ab", "abc"))
    assert [[answer.reward for answer in given] for given in answers] == [[2, 900], [3, 850]]
    high = 5 / (1 + np.exp(-1))
    assert [answer.score for answer in answers[0]] == [2.5, 2.5]
    assert [answer.score for answer in answers[1]] == pytest.approx([high, 5 - high])
    assert [(answer.sample, answer.prompt_tokens, answer.text) for answer in answers[1]] == [(0, 7, None), (1, 7, None)]
    assert judge.responses == 1


@given(st.integers(0, 10**6))
def test_fitted_scale_removes_offset_and_scale_of_each_member(seed):
    draw = np.random.default_rng(seed)
    rewards = draw.normal(size=(3, 20))
    moved = rewards * draw.uniform(0.1, 50, (3, 1)) + draw.normal(0, 100, (3, 1))
    first, second = (fit_scale(each, FIVE).transform(each) for each in (rewards, moved))
    assert first == pytest.approx(second, abs=1e-9)
    assert (np.argsort(first) == np.argsort(rewards)).all() and FIVE.holds(first.min()) and FIVE.holds(first.max())


def test_the_conservative_score():
    found = ensemble_score([[1, 2], [3, 2], [5, 2]], std_penalty=0.5)
    assert found.mean.tolist() == [3, 2] and found.spread == pytest.approx([np.sqrt(8 / 3), 0])
    assert found.conservative == pytest.approx([3 - 0.5 * np.sqrt(8 / 3), 2])
    assert ensemble_score([[1, 2]], std_penalty=3).conservative.tolist() == [1, 2]


@pytest.mark.parametrize("call, match", [
    (lambda: fit_scale([[1, 2], [3, 3]], FIVE), "equal ones from member 1"),
    (lambda: fit_scale([[1, 2, 3], [0.1, 0.1, 0.1]], FIVE), "equal ones from member 1"),
    (lambda: ScoreScale(FIVE, (0.0,), (1.0,)).transform([[1.0], [2.0]]), "1 members"),
    (lambda: ensemble_score([[1.0]], std_penalty=-1), "std_penalty: expected"),
    (lambda: ensemble_score([[np.nan]], std_penalty=1), "finite"),
    (lambda: compare_ensemble_members([[1]], [[0]], rule="label"), "at least 2"),
    (lambda: compare_ensemble_members([[1]] * 2, [[0]] * 2, rule="leave_two_out"), "at least 3"),
    (lambda: compare_ensemble_members([[1]] * 3, [[0, 1]] * 3, rule="label"), "rewards_rejected"),
])
def test_invalid_arguments(call, match):
    with pytest.raises(InputError, match=match):
        call()


def test_members_by_labels():
    gaps = np.array([[2, -1.0], [1, 3], [-1, 0]])
    found = compare_ensemble_members(gaps, np.zeros_like(gaps), rule="label")
    assert found[0, 0, 1] == 0 and found[0, 0, 2] == found[0, 1, 2] == 1  # right, right, wrong
    assert found[1, 1, 0] == found[1, 1, 2] == found[1, 2, 0] == 1  # wrong, right, undecided
    off = ~np.eye(3, dtype=bool)
    assert np.isnan(found[:, ~off]).all()
    assert (found == -found.transpose(0, 2, 1))[:, off].all()


def test_members_by_leave_two_out():
    """A slow obvious reference: the log-likelihood of the mean preference of everyone but the two."""
    gaps = np.random.default_rng(3).normal(size=(5, 7)) * 2
    found = compare_ensemble_members(gaps + 1, np.ones_like(gaps), rule="leave_two_out")
    for pair, (m, n) in itertools.product(range(7), itertools.permutations(range(5), 2)):
        target = 1 / (1 + np.exp(-np.mean([gaps[o, pair] for o in range(5) if o not in (m, n)])))
        first, second = (target * -np.log1p(np.exp(-gap)) + (1 - target) * -np.log1p(np.exp(gap))
                         for gap in (gaps[m, pair], gaps[n, pair]))
        assert found[pair, m, n] == np.sign(first - second)


@pytest.mark.parametrize("rule", ["label", "leave_two_out"])
def test_the_better_members_are_rated_higher(rule):
    """Members that see the true gap through noise of 0.3, 0.6, 1, 2 and 4, on 800 pairs."""
    draw = np.random.default_rng(0)
    truth = draw.normal(0, 1.5, 800)
    noise = np.array([0.3, 0.6, 1, 2, 4])
    gaps = (truth + draw.normal(size=(5, 800)) * noise[:, None]) * np.sign(truth)
    verdicts = compare_ensemble_members(gaps, np.zeros_like(gaps), rule=rule)
    ratings = bradley_terry(wins_from_verdicts(verdicts).sum(axis=0), ridge=0.01).ratings
    assert (np.argsort(-ratings) == np.arange(5)).all()
