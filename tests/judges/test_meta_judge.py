"""The meta-judge: both orders, verdicts as the battle machinery takes them, and text that cannot pose as a judgment."""

import itertools
import math
import re

import numpy as np
import pytest

from rmkit.core.seeds import derive_seed
from rmkit.generation import Sampling
from rmkit.judges.base import Failed, Judgment, Unparsed
from rmkit.judges.language_model import JudgeSampler
from rmkit.judges.meta_judge import MetaJudge, find_verdict
from rmkit.metrics import PositionWeights, bradley_terry, position_weights, prompt_correlation, win_matrix

PROMPT = [{"role": "user", "content": "What colour?"}]
RESPONSE = [{"role": "assistant", "content": "Blue."}]


def find_judgments(shown):
    return [re.search(rf"<judgment-{side}>\n> (.*?)\n", shown)[1] for side in "ab"]


def judge_by(scripted, verdict, **settings):
    """A meta-judge whose answer to judgments shown first and second is verdict(first, second)."""
    return MetaJudge(
        JudgeSampler(scripted(lambda shown, request: verdict(*find_judgments(shown))), Sampling(), **settings)
    )


def test_the_papers_example(scripted):
    """METHODS T9: verdicts by who is shown first, weights .4 and .6 as if counted over other prompts."""
    told = {(0, 1): 1, (1, 0): -1, (0, 2): 1, (2, 0): 1, (0, 3): 1, (3, 0): -1, (1, 2): -1, (2, 1): -1, (1, 3): 1,
            (3, 1): 1, (2, 3): 1, (3, 2): -1}
    names = {f"judgment {number}": number for number in range(4)}

    def verdict(first, second):
        return f"Winner: Judgment {'A' if told[names[first], names[second]] == 1 else 'B'}"

    verdicts, answers = judge_by(scripted, verdict).battle(PROMPT, RESPONSE, list(names))
    for m, n in itertools.permutations(range(4), 2):
        assert verdicts[m, n] == told[m, n]
    assert np.isnan(np.diagonal(verdicts)).all() and [len(given) for given in answers] == [2] * 6
    weights = position_weights(verdicts)
    found = win_matrix(verdicts, type(weights)(np.array(0.4), np.array(0.6)))
    assert found == pytest.approx(np.array([[0, 1, 0.4, 1], [0, 0, 0.6, 0.4], [0.4, 0.6, 0, 1], [0, 0.4, 0, 0]]))
    ratings = bradley_terry(found, ridge=0).ratings
    assert ratings == pytest.approx([1.45441557, -0.53326486, 0.53326486, -1.45441557], abs=1e-7)


def test_ties_unread_and_failed_answers_are_three_things(scripted):
    def verdict(first, second):
        if "2" in first + second:
            return "I cannot say."
        return "Winner: Judgment A and Judgment B"

    verdicts, _ = judge_by(scripted, verdict).battle(PROMPT, RESPONSE, ["n 0", "n 1", "n 2"])
    assert verdicts[0, 1] == verdicts[1, 0] == 0
    assert np.isnan(verdicts[2]).all() and np.isnan(verdicts[:, 2]).all()
    common = {"sample": 0}
    assert math.isnan(find_verdict([Unparsed(**common, reason=""), Failed(**common, reason="")]))
    assert find_verdict([Judgment(**common, score=1), Judgment(**common, score=0)]) == 0
    assert find_verdict([Judgment(**common, score=0.8), Judgment(**common, score=0.4)]) == 1


def test_a_judgment_cannot_pose_as_the_meta_judge(scripted, attack):
    shown = []

    def script(text, request):
        shown.append(text)
        return "Winner: Judgment B"

    MetaJudge(JudgeSampler(scripted(script), Sampling())).battle(PROMPT, RESPONSE, [attack, "fair"])
    for text in shown:
        own = [line for line in text.split("\n") if not line.startswith(">")]
        plain = [line for line in shown[0].split("\n") if not line.startswith(">")]
        assert own == plain and len(own) < 40
        assert own.count("</judgment-a>") == own.count("</judgment-b>") == 1


def test_weighted_by_position_the_battles_are_truer(scripted):
    """A meta-judge takes the first half of the time and else the truth, and is read where the earlier one is first.

    So the earlier wins too often: weights leave less of that than none do, and the wrong ones leave more.
    """
    def verdict(first, second):
        (_, place, rank), (_, other_place, other_rank) = (map(int, shown.split()) for shown in (first, second))
        if place > other_place:
            return "I cannot say."
        luck = derive_seed(0, first, second) / 2**31
        return f"Winner: Judgment {'A' if luck < 0.5 or rank > other_rank else 'B'}"

    judge = judge_by(scripted, verdict)
    ranks = np.stack([np.random.default_rng(league).permutation(6) for league in range(40)])
    verdicts = np.stack([
        judge.battle(PROMPT, RESPONSE, [f"{league} {place} {rank}" for place, rank in enumerate(own)])[0]
        for league, own in enumerate(ranks.tolist())
    ])
    weights = position_weights(verdicts)
    assert weights.first == pytest.approx(0.25, abs=0.05)

    def find_truth(weights):
        ratings = bradley_terry(win_matrix(verdicts, weights), ridge=0.01).ratings
        return prompt_correlation(ratings.round(6), ranks).mean

    even, wrong = (PositionWeights(np.array(first), np.array(1 - first)) for first in (0.5, 0.75))
    assert find_truth(weights) > find_truth(even) + 0.05 > find_truth(wrong) + 0.1
