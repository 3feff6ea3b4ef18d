"""RewardBench 2: best of four, and the score of Ties against a slow reference."""

import math

import numpy as np
import pytest

from rmkit.evaluation.benchmarks import reward_bench_2
from rmkit.evaluation.benchmarks.scores import score_intervals, value_of


def four(subset, number=0):
    return {"id": f"{number}", "prompt": f"{subset} {number}?", "chosen": ["a"], "rejected": ["b", "c", "d"],
            "subset": subset, "num_correct": 1, "total_completions": 4}


def ties(name, right, wrong):
    chosen = [f"right {index}" for index in range(right)]
    return {"id": name, "prompt": f"Name one, {name}.", "chosen": chosen, "num_correct": right,
            "rejected": [f"wrong {index}" for index in range(wrong)], "subset": "Ties"}


TIES = [  # one in which all holds, one where the reference fails, one that is wrong, one whose right answers are equal
    (ties("ref:0", 1, 2), [9, 1, 2]), (ties("tied:0", 3, 2), [5, 6, 7, 1, 0]),
    (ties("ref:1", 1, 1), [0.5, 0.25]), (ties("tied:1", 2, 2), [3, 4, 1.5, -1]),
    (ties("ref:2", 1, 2), [-1, 3, 0]), (ties("tied:2", 2, 1), [1, 3, 2]),
    (ties("ref:3", 1, 1), [2, 1]), (ties("tied:3", 2, 1), [4, 4, 3]),
]
REST = [(four(subset), [1, 0, 0, 0]) for subset in reward_bench_2.BEST_OF]


def reference_score(rows):
    """Accuracy of tied and reference prompts, then both margins, then the tie-break."""
    margins = {}
    for row, rewards in rows:
        right, wrong = rewards[:row["num_correct"]], rewards[row["num_correct"]:]
        margins[row["id"]] = min(right) - max(wrong), max(right) - min(right)
    numbers = range(len(rows) // 2)
    tied, reference = ([margins[f"{kind}:{number}"] for number in numbers] for kind in ("tied", "ref"))
    hard = [min(one[0], other[0]) for one, other in zip(tied, reference, strict=True)]
    last = []
    for least, (_, among) in zip(hard, tied, strict=True):
        last.append(math.tanh(least / among - 1) if among else math.copysign(1, least))
    return (
        0.3 * np.mean([one[0] > 0 for one in tied]) + 0.3 * np.mean([one[0] > 0 for one in reference])
        + 0.2 * np.mean([one[0] > one[1] for one in tied])
        + 0.2 * np.mean([least > one[1] for least, one in zip(hard, tied, strict=True)]) + 0.01 * np.mean(last)
    )


def test_ties_equal_the_reference(score):
    result = reward_bench_2.measure(score(reward_bench_2.parse, REST + TIES))
    assert value_of(result.scores["Ties"]) == pytest.approx(reference_score(TIES), abs=1e-12)
    by_hand = {"tied": 3 / 4, "reference": 3 / 4, "preferred": 3 / 4, "preferred, hard": 2 / 4}
    assert {name: value_of(result.parts[f"Ties: {name}"]) for name in by_hand} == by_hand
    assert value_of(result.scores["total"]) == pytest.approx((5 + reference_score(TIES)) / 6)
    assert result.correct[-8:].tolist() == [1, 1, 1, 1, 0, 0, 1, 1]


@pytest.mark.parametrize("seed", range(5))
def test_ties_equal_the_reference_on_random_rewards(score, seed):
    rewards = np.random.default_rng(seed)
    rows = []
    for number in range(6):
        right = int(rewards.integers(2, 5))
        rows += [(ties(f"ref:{number}", 1, 3), rewards.normal([2, 0, 0, 0]).tolist()),
                 (ties(f"tied:{number}", right, 3), (0.3 * rewards.normal(size=right + 3)).tolist())]
        rows[-1][1][:right] = [reward + 2 for reward in rows[-1][1][:right]]
    result = reward_bench_2.measure(score(reward_bench_2.parse, REST + rows))
    assert value_of(result.scores["Ties"]) == pytest.approx(reference_score(rows), abs=1e-12)


def test_best_of_four_shares_the_point_among_equals(score):
    rows = [(four("Math", 1), rewards) for rewards in ([3, 2, 1, 0], [2, 2, 1, 0], [1, 1, 1, 1], [1, 0, 0, 2])]
    result = reward_bench_2.measure(score(reward_bench_2.parse, rows))
    assert result.correct.tolist() == [1, 0.5, 0.25, 0]
    assert value_of(result.scores["Math"]) == pytest.approx(1.75 / 4)
    assert value_of(result.scores["total"]) is None and value_of(result.scores["Ties"]) is None


def test_a_tied_prompt_and_its_reference_form_one_group(score):
    items = score(reward_bench_2.parse, TIES)
    assert [item.group for item in items] == [f"Ties:{number}" for number in (0, 0, 1, 1, 2, 2, 3, 3)]
    result = reward_bench_2.measure(items)
    (low, high), = score_intervals([result.scores["Ties"]], [item.group for item in items], seed=0, n_bootstrap=200)
    assert low < reference_score(TIES) < high
