"""The meta-judge: verdicts in both orders, sanitized judgments, and the response with the highest variance."""

import itertools
import math
import re

import numpy as np
import pytest

from rmkit.core.checks import InputError
from rmkit.core.seeds import derive_seed
from rmkit.generation import Failed, Sampling
from rmkit.judges.base import Judgment, Unparsed
from rmkit.judges.language_model import JudgeSampler
from rmkit.judges.meta_judge import JudgmentSet, MetaJudge, highest_variance_response, mean_verdict, score_variance
from rmkit.metrics import PositionWeights, bradley_terry, position_weights, prompt_correlation, win_matrix

PROMPT = [{"role": "user", "content": "What colour?"}]
RESPONSE = [{"role": "assistant", "content": "Blue."}]


def find_judgments(shown):
    return [re.search(rf"<judgment-{side}>\n> (.*?)\n", shown)[1] for side in "ab"]


def compare_all(scripted, verdict, judgments):
    """Verdicts and answers of a meta-judge that answers verdict(first judgment, second judgment)."""
    sampler = JudgeSampler(scripted(lambda shown, request: verdict(*find_judgments(shown))), Sampling())
    return MetaJudge(sampler).compare([JudgmentSet(PROMPT, RESPONSE, judgments)])[0]


def test_the_papers_example(scripted):
    """METHODS T9: verdicts by order, with the given weights .4 and .6."""
    expected = {(0, 1): 1, (1, 0): -1, (0, 2): 1, (2, 0): 1, (0, 3): 1, (3, 0): -1, (1, 2): -1, (2, 1): -1, (1, 3): 1,
                (3, 1): 1, (2, 3): 1, (3, 2): -1}
    names = {f"judgment {number}": number for number in range(4)}

    def verdict(first, second):
        return f"Winner: Judgment {'A' if expected[names[first], names[second]] == 1 else 'B'}"

    verdicts, answers = compare_all(scripted, verdict, list(names))
    for m, n in itertools.permutations(range(4), 2):
        assert verdicts[m, n] == expected[m, n]
    assert np.isnan(np.diagonal(verdicts)).all() and [len(given) for given in answers] == [2] * 6
    weights = position_weights(verdicts)
    wins = win_matrix(verdicts, type(weights)(np.array(0.4), np.array(0.6)))
    assert wins == pytest.approx(np.array([[0, 1, 0.4, 1], [0, 0, 0.6, 0.4], [0.4, 0.6, 0, 1], [0, 0.4, 0, 0]]))
    ratings = bradley_terry(wins, ridge=0).ratings
    assert ratings == pytest.approx([1.45441557, -0.53326486, 0.53326486, -1.45441557], abs=1e-7)


def test_ties_unparsed_and_failed_answers(scripted):
    names = ["n 0", "n 1", "n 2"]
    verdicts, _ = compare_all(scripted, lambda *two: "I cannot say." if "n 2" in two else "Winner: tie", names)
    assert verdicts[0, 1] == verdicts[1, 0] == 0
    assert np.isnan(verdicts[2]).all() and np.isnan(verdicts[:, 2]).all()
    for scores, expected in (((), math.nan), ((1, 0), 0), ((0.8, 0.4), 1)):
        answers = [Unparsed(sample=0, reason=""), Failed(""), *(Judgment(sample=0, score=score) for score in scores)]
        assert mean_verdict(answers, "original") == pytest.approx(expected, nan_ok=True)
        assert math.isnan(mean_verdict(answers, "swapped"))


def test_a_judgment_cannot_pose_as_the_meta_judge(scripted, attack):
    generator = scripted(lambda shown, request: "Winner: Judgment B")
    MetaJudge(JudgeSampler(generator, Sampling())).compare([JudgmentSet(PROMPT, RESPONSE, [attack, "fair"])])
    original, swapped = ([line for line in request.prompt[-1]["content"].split("\n") if not line.startswith(">")]
                         for request in generator.requests)
    assert original == swapped and len(original) < 40
    assert original.count("</judgment-a>") == original.count("</judgment-b>") == 1


def test_position_weights_correct_position_bias(scripted):
    """A meta-judge prefers the first half of the time, and only answers if the earlier judgment is shown first.

    Ratings are nearer to the truth with estimated position weights than with equal or wrong ones.
    """
    def verdict(first, second):
        (_, index, rank), (_, other_index, other_rank) = (map(int, shown.split()) for shown in (first, second))
        if index > other_index:
            return "I cannot say."
        draw = derive_seed(0, first, second) / 2**31
        return f"Winner: Judgment {'A' if draw < 0.5 or rank > other_rank else 'B'}"

    ranks = np.stack([np.random.default_rng(prompt).permutation(6) for prompt in range(40)])
    verdicts = np.stack([
        compare_all(scripted, verdict, [f"{prompt} {index} {rank}" for index, rank in enumerate(ranks_of_prompt)])[0]
        for prompt, ranks_of_prompt in enumerate(ranks.tolist())
    ])
    weights = position_weights(verdicts)
    assert weights.first == pytest.approx(0.25, abs=0.05)

    def correlate(weights):
        ratings = bradley_terry(win_matrix(verdicts, weights), ridge=0.01).ratings
        return prompt_correlation(ratings.round(6), ranks).mean

    even, wrong = (PositionWeights(np.array(first), np.array(1 - first)) for first in (0.5, 0.75))
    assert correlate(weights) > correlate(even) + 0.05 > correlate(wrong) + 0.1


CALM = [5, 5, 4, 4, 3, 3, 5, 4, 4, 3, 5]
TORN = [5] * 6 + [1] * 5


def test_score_variance_of_the_paper():
    """METHODS T12."""
    assert score_variance([CALM, TORN]) == pytest.approx([0.62809917, 3.96694215], abs=1e-8)
    assert score_variance(np.array([[CALM, TORN]] * 3)).shape == (3, 2)
    nan = np.nan
    assert score_variance([[1, nan, 3], [nan, nan, 4], [nan] * 3]) == pytest.approx([1, nan, nan], nan_ok=True)


def test_highest_variance_response():
    assert highest_variance_response([CALM, TORN], seed=0) == 1 and highest_variance_response([TORN, CALM], seed=0) == 0
    assert highest_variance_response([[1, np.nan], [2, np.nan]], seed=0) is None
    assert highest_variance_response([[np.nan, 9], [2, 2]], seed=0) == 1
    drawn = [highest_variance_response([CALM, TORN, TORN[::-1], CALM], seed=seed) for seed in range(40)]
    assert set(drawn) == {1, 2} and 10 < drawn.count(1) < 30


@pytest.mark.parametrize("scores", [[[1, np.inf]], [], 3.0])
def test_score_variance_refuses(scores):
    with pytest.raises(InputError, match="scores"):
        score_variance(scores)
