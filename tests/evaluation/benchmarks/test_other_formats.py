"""Files with several responses, HelpSteer, and detection of the format."""

from typing import get_args

import pytest

from rmkit.commands.evaluate import BenchmarkName
from rmkit.evaluation.benchmarks import best_of_n, helpsteer
from rmkit.evaluation.benchmarks.registry import BENCHMARKS, detect_benchmark
from rmkit.evaluation.benchmarks.scores import count_items, value_of

ASK = {"prompt": "Which?"}
MESSAGES = [{"role": "assistant", "content": "This."}]


def grades_of(**columns):
    return best_of_n.parse({**ASK, **columns}).grades


def test_columns_that_say_which_is_better():
    assert grades_of(chosen="a", rejected="b") == [1, 0]
    assert grades_of(chosen=MESSAGES, rejected=["b", MESSAGES]) == [1, 0, 0]
    assert grades_of(chosen=["a", "b"], rejected=["c"]) == [1, 1, 0]
    assert grades_of(responses=["a", "b", "c"], scores=[2, 0.5, 3]) == [2, 0.5, 3]
    assert grades_of(completions=["a", "b"], ratings=[1, 2]) == [1, 2]
    assert grades_of(responses=["a", "b", "c"], best=1) == [0, 1, 0]


def test_best_and_pairs_by_hand(score):
    graded = {**ASK, "responses": ["a", "b", "c"], "scores": [1, 2, 3]}
    rows = [
        ({**graded, "source": "x"}, [1, 2, 3]),  # all right
        ({**graded, "source": "x"}, [3, 2, 1]),  # all wrong
        ({**graded, "source": "y"}, [0, 5, 4]),  # two of three pairs, not the best
        ({**graded, "source": "y"}, [4, 0, 4]),  # the best shares the highest reward; right, wrong and tied
    ]
    result = best_of_n.measure(score(best_of_n.parse, rows))
    assert result.correct.tolist() == [1, 0, 0, 0.5]
    assert value_of(result.scores["best"]) == pytest.approx(1.5 / 4)
    assert value_of(result.scores["pairs"]) == pytest.approx((1 + 0 + 2 / 3 + 1.5 / 3) / 4)
    assert {name: value_of(score) for name, score in result.parts.items()} == {"x": 0.5, "y": 0.25}


def steer(preference, **changes):
    return {"context": [{"role": "user", "content": "Which?"}], "response1": "a", "response2": "b",
            "overall_preference": preference, **changes}


def test_helpsteer_by_hand(score):
    rows = [(steer(-3), [2, 0]), (steer(3), [2, 0]), (steer(-1), [0, 1]), (steer(1), [0, 1]), (steer(2), [1, 1]),
            (steer(0), [5, 0])]
    result = helpsteer.measure(score(helpsteer.parse, rows))
    assert {name: value_of(score) for name, score in result.scores.items()} == {
        "accuracy": 0.5, "slightly better": 0.5, "better": 0.5, "much better": 0.5}
    assert count_items(result.scores["accuracy"]) == 5 and count_items(result.scores["better"]) == 1
    assert result.extra["about_the_same"] == 1
    ordered = [(steer(strength), [0, strength]) for strength in (-3, -1, 0, 2)]
    assert helpsteer.measure(score(helpsteer.parse, ordered)).extra["correlation"] == pytest.approx(1)


def test_columns_of_helpsteer_2():
    item = helpsteer.parse({"prompt": "Which?", "response_1": "a", "response_2": "b", "preference_strength": -2})
    assert item.grades == [2, 0] and item.part == "all"


@pytest.mark.parametrize("row, kind", [
    ({"chosen": "a", "rejected": "b"}, None),
    ({"chosen": MESSAGES, "rejected": MESSAGES, "source": "x", "id": "1"}, None),
    ({"chosen": "a", "rejected": "b", "subset": "math-prm"}, "reward_bench"),
    ({"chosen": ["a"], "rejected": ["b", "c", "d"], "subset": "Math"}, "reward_bench_2"),
    ({"chosen": ["a"] * 3, "rejected": ["b"] * 3, "domain": "chat"}, "rm_bench"),
    ({"chosen": ["a"], "rejected": ["b", "c"]}, "best_of_n"),
    ({"chosen": "a", "rejected": ["b", "c"], "subset": "of mine"}, "best_of_n"),
    ({"responses": ["a", "b"], "scores": [1, 2]}, "best_of_n"),
    (steer(2), "helpsteer"),
])
def test_columns_decide_the_format(row, kind):
    assert detect_benchmark({**ASK, **row}) == kind


def test_the_command_accepts_every_benchmark():
    assert get_args(BenchmarkName) == ("auto", "pairs", *BENCHMARKS)
