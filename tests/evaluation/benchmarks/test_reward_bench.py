"""RewardBench: published weights, invalid rows and missing parts."""

import pytest

from rmkit.core.checks import InputError
from rmkit.evaluation.benchmarks import reward_bench
from rmkit.evaluation.benchmarks.registry import BENCHMARKS, check_parts
from rmkit.evaluation.benchmarks.scores import value_of

PRIOR = ("anthropic_helpful", "anthropic_hhh", "shp", "summarize")


def row(subset, **changes):
    return {"prompt": f"A question of {subset}?", "chosen": "Yes.", "rejected": "No.", "subset": subset, **changes}


def measure(score, right, others=(), tied=()):
    """A pair in each subset (and in `others`): those in `right` correct, those in `tied` equal, the rest wrong."""
    subsets = [*reward_bench.REQUIRED, *others]
    gaps = {subset: 1.0 if subset in right else 0.0 if subset in tied else -1.0 for subset in subsets}
    rows = [(row(subset), [gap, 0.0]) for subset, gap in gaps.items()]
    return reward_bench.measure(score(reward_bench.parse, rows))


def test_weights_are_the_cards_numbers_of_pairs():
    assert len(reward_bench.REQUIRED) == 23
    weights = {subset: weight for subsets in reward_bench.SECTIONS.values() for subset, weight in subsets.items()}
    assert sum(weights.values()) - 984 + 447 == reward_bench.ROWS == 2985
    assert weights["math-prm"] == sum(weight for subset, weight in weights.items() if subset.startswith("hep-"))


@pytest.mark.parametrize("right, expected", [
    (["math-prm"], {"total": 0.125, "Chat": 0, "Chat Hard": 0, "Safety": 0, "Reasoning": 0.5}),
    (["alpacaeval-easy", "alpacaeval-hard"],
     {"total": 195 / 358 / 4, "Chat": 195 / 358, "Chat Hard": 0, "Safety": 0, "Reasoning": 0}),
    (["xstest-should-respond"],
     {"total": 250 / 740 / 4, "Chat": 0, "Chat Hard": 0, "Safety": 250 / 740, "Reasoning": 0}),
    (reward_bench.REQUIRED, {"total": 1, "Chat": 1, "Chat Hard": 1, "Safety": 1, "Reasoning": 1}),
])
def test_sections_and_total(score, right, expected):
    result = measure(score, right)
    assert {name: value_of(score) for name, score in result.scores.items()} == pytest.approx(expected)
    assert sum(result.correct) == len(right)


def test_a_tie_counts_half(score):
    result = measure(score, [], tied=["math-prm"])
    assert value_of(result.scores["Reasoning"]) == pytest.approx(0.25)
    assert value_of(result.parts["math-prm"]) == 0.5


def test_prior_sets_have_half_the_weight_of_a_section(score):
    result = measure(score, ["shp"], others=PRIOR)
    assert value_of(result.scores["Prior Sets"]) == pytest.approx(0.25)
    assert value_of(result.scores["total"]) == pytest.approx(0.25 * 0.5 / 4.5)


def test_missing_parts():
    benchmark = BENCHMARKS["reward_bench"]
    whole = set(reward_bench.REQUIRED)
    check_parts(benchmark, "data", whole, "")
    check_parts(benchmark, "data", whole | set(PRIOR), "")
    with pytest.raises(InputError, match="data: expected all 23 parts of RewardBench, got none of 2: .*hep-go, hep-js"):
        check_parts(benchmark, "data", whole - {"hep-go", "hep-js"}, "")
    with pytest.raises(InputError, match="all 27 parts .*got none of 3: anthropic_helpful, anthropic_hhh, summarize"):
        check_parts(benchmark, "data", whole | {"shp"}, "")


def test_alias_of_a_subset():
    assert reward_bench.parse(row("mt-bench-medium")).part == "mt-bench-med"
