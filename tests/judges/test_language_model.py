"""Language-model judges: orders, parsed, unparsed and failed answers, and expected scores."""

import math
import re

import pytest

from rmkit.core.checks import InputError
from rmkit.core.seeds import derive_seed
from rmkit.generation import Completion, Failed, Sampling, Token, TransformersGenerator, load_generator
from rmkit.judges.base import JudgeTask, Judgment, Unparsed
from rmkit.judges.language_model import JudgeSampler, LanguageModelJudge
from rmkit.judges.prompts import JUDGE_PROMPTS


def make_task(number, *texts):
    responses = tuple([{"role": "assistant", "content": text}] for text in texts)
    return JudgeTask(f"t{number}", [{"role": "user", "content": f"Question {number}?"}], responses)


@pytest.fixture
def make_judge(scripted):
    """make_judge(script, prompt, settings of the sampler) -> a judge that answers by the script."""

    def make(script, prompt="additive_5", **settings):
        return LanguageModelJudge(JudgeSampler(scripted(script), Sampling(), **settings), JUDGE_PROMPTS[prompt])

    return make


def find_quoted(shown, tag):
    return re.search(rf"<{tag}>\n(.*?)\n</{tag}>", shown, re.DOTALL)[1].replace("> ", "")


def test_scores_of_every_sample_in_order(make_judge):
    def script(shown, request):
        return f"About {find_quoted(shown, 'response')}.\nScore: {request.seed % 50 / 10:g}"

    answers = make_judge(script, samples=3, seed=5).judge([make_task(0, "red"), make_task(1, "blue")])
    seeds = [derive_seed(5, "sample", sample) for sample in range(3)]
    assert [[answer.score for answer in given] for given in answers] == [[seed % 50 / 10 for seed in seeds]] * 2
    assert answers[1][2] == Judgment(
        sample=2, seed=seeds[2], text=f"About blue.\nScore: {seeds[2] % 50 / 10:g}", prompt_tokens=100, answer_tokens=7,
        score=seeds[2] % 50 / 10,
    )


def test_comparison_in_both_orders(make_judge):
    def script(shown, request):
        return f"Winner: Response {'A' if find_quoted(shown, 'response-a') == 'good' else 'B'}"

    judge = make_judge(script, "pairwise", samples=2)
    better, worse = judge.judge([make_task(0, "good", "bad"), make_task(1, "bad", "good")])
    assert [answer.order for answer in better] == ["original", "original", "swapped", "swapped"]
    assert [answer.score for answer in better] == [1, 1, 1, 1] and [answer.score for answer in worse] == [0, 0, 0, 0]
    assert [answer.sample for answer in better] == [0, 1, 0, 1]
    assert len(judge.sampler.generator.requests) == 8
    always = make_judge(lambda *_: "Winner: A", "pairwise")
    assert [answer.score for answer in always.judge([make_task(0, "good", "bad")])[0]] == [1, 0]


def test_unparsed_and_failed_answers(make_judge):
    outcomes = iter(["I do not know.", Completion("Score: 1", "length", None, 8), Failed("status 500"), "Score: 9",
                     "Score: 5"])
    judge = make_judge(lambda *_: next(outcomes))
    answers = [given[0] for given in judge.judge([make_task(number, "x") for number in range(5)])]
    facts = {"sample": 0, "seed": derive_seed(0, "sample", 0), "prompt_tokens": 100, "answer_tokens": 7}
    assert answers == [
        Unparsed(**facts, text="I do not know.", reason="no score"),
        Unparsed(**facts | {"prompt_tokens": None, "answer_tokens": 8}, text="Score: 1", reason="cut off"),
        Failed("status 500"),
        Unparsed(**facts, text="Score: 9", reason="off the scale"),
        Judgment(**facts, text="Score: 5", score=5),
    ]


def test_lone_surrogates_are_escaped(make_judge):
    answer = make_judge(lambda *_: "\ud800\nScore: 3").judge([make_task(0, "x")])[0][0]
    assert answer.score == 3 and answer.text == "\\ud800\nScore: 3"


def make_tokens(parts, index, chances):
    """Tokens of these texts; the one at `index` has these alternatives."""
    tokens = [Token(text, -0.1, ()) for text in parts]
    top = tuple((text, math.log(chance)) for text, chance in chances.items())
    tokens[index] = Token(parts[index], math.log(chances.get(parts[index], 0.01)), top)
    return tuple(tokens)


@pytest.mark.parametrize("prompt, parts, index, chances, expected", [
    ("additive_5", ["Good", ".\n", "Score", ":", " 4"], 4, {" 4": 0.5, " 3": 0.25, " 5": 0.125, " the": 0.1}, 27 / 7),
    ("additive_5", ["Score", ":", " ", "4", ".", "5", "\n"], 3, {"4": 0.6, "5": 0.3, "9": 0.1}, (4.5 * 6 + 5 * 3) / 9),
    ("additive_5", ["Score", ": ", "2"], 2, {"4": 0.6, "3": 0.39}, (0.6 * 4 + 0.39 * 3 + 0.01 * 2) / 1.0),
    ("additive_5", ["Score", ":", " 4"], 2, {"4": 0.5, " 3": 0.25, "3": 0.25}, (0.01 * 4 + 0.5 * 4 + 0.5 * 3) / 1.01),
    ("scale_100", ["Score", ":", " 85"], 2, {" 85": 0.5, " 90": 0.5}, 87.5),
    ("pairwise", ["Winner", ":", " Response", " A"], 3, {" A": 0.7, " B": 0.2, " C": 0.1}, 7 / 9),
    ("pairwise", ["Winner", ":", " Response", " B"], 3, {" A": 0.2, " B": 0.7}, 2 / 9),
    ("pairwise", ["Winner", ":", " tie"], 2, {" A": 0.4, " B": 0.4, " tie": 0.2}, 0.5),
])
def test_expected_scores(make_judge, prompt, parts, index, chances, expected):
    completion = Completion("".join(parts), "stop", 10, len(parts), make_tokens(parts, index, chances))
    judge = make_judge(lambda *_: completion, prompt, score_from="logprobs")
    answers = judge.judge([make_task(0, *["a", "b"][:judge.responses])])[0]
    assert judge.sampler.generator.requests[0].sampling.top_logprobs > 0
    assert answers[0].score == pytest.approx(expected)
    assert prompt != "pairwise" or answers[1].score == pytest.approx(1 - expected)


def test_sampled_token_without_its_space_is_counted_once(make_judge):
    """Some tokenizers decode a single token without the space before it."""
    likely = (("4", math.log(0.6)), ("3", math.log(0.4)))
    tokens = (Token("Score:", -0.1, ()), Token(" 4", math.log(0.6), likely))
    judge = make_judge(lambda *_: Completion("Score: 4", "stop", 10, 2, tokens), score_from="logprobs")
    assert judge.judge([make_task(0, "a")])[0][0].score == pytest.approx(0.6 * 4 + 0.4 * 3)


@pytest.mark.parametrize("parts, index, reason", [
    (["Score", ":", " 8", "5"], 2, "a score of several tokens"),
    (["Score", ":"], 0, "not one number"),
    (["Fine ", "\ufffd", "\ufffd", "\nScore", ":", " 85"], 5, "tokens that do not spell the answer"),
    ([], 0, "no probabilities"),
])
def test_no_expected_score(make_judge, parts, index, reason):
    tokens = make_tokens(parts, index, {parts[index]: 0.5}) if parts else None
    text = "".join(parts).replace("\ufffd\ufffd", "\U0001f642") or "Score: 85"
    judge = make_judge(lambda *_: Completion(text, "stop", 10, 3, tokens), "scale_100", score_from="logprobs")
    assert judge.judge([make_task(0, "a")])[0][0].reason == reason


def test_a_tiny_model_in_process(tiny_base):
    generator = load_generator(tiny_base)
    assert isinstance(generator, TransformersGenerator)
    sampler = JudgeSampler(generator, Sampling(max_new_tokens=6), samples=2, score_from="logprobs")
    judge = LanguageModelJudge(sampler, JUDGE_PROMPTS["pairwise"])
    tasks = [make_task(0, "red", "blue"), make_task(1, "red", "<|assistant|>blue")]
    answers = judge.judge(tasks)
    assert [len(given) for given in answers] == [4, 4] and judge.judge(tasks) == answers
    for answer in [answer for given in answers for answer in given]:
        assert isinstance(answer, Unparsed) and answer.reason == "no winner"  # it has never seen one
        assert answer.answer_tokens <= 6 and answer.prompt_tokens > 100


@pytest.mark.parametrize("samples, temperature", [(0, 1), (2, 0)])
def test_invalid_number_of_samples(scripted, samples, temperature):
    with pytest.raises(InputError, match="samples"):
        sampler = JudgeSampler(scripted(lambda *_: ""), Sampling(temperature=temperature), samples=samples)
        LanguageModelJudge(sampler, JUDGE_PROMPTS["additive_5"]).judge([make_task(0, "x")])


def test_pointwise_judge_refuses_two_responses(make_judge):
    with pytest.raises(InputError, match="task t0: expected responses: 1, got 2"):
        make_judge(lambda *_: "").judge([make_task(0, "x", "y")])
