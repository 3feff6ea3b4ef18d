"""RM-Bench: the nine comparisons of styles, by hand."""

import pytest

from rmkit.evaluation.benchmarks import rm_bench
from rmkit.evaluation.benchmarks.scores import value_of


def row(domain, **changes):
    return {"id": 1, "prompt": f"{domain}?", "chosen": ["a", "b", "c"], "rejected": ["d", "e", "f"], "domain": domain,
            **changes}


def values(result):
    return {name: value_of(score_) for name, score_ in result.scores.items()}


def test_a_model_that_likes_markdown(score):
    rows = [(row(domain), [0, 1, 2, -0.5, 0.5, 1.5]) for domain in rm_bench.REQUIRED]
    result = rm_bench.measure(score(rm_bench.parse, rows))
    assert values(result) == pytest.approx({"total": 6 / 9, "easy": 1, "normal": 1, "hard": 0})
    assert result.extra["chosen_by_rejected"] == [[1, 0, 0], [1, 1, 0], [1, 1, 1]]
    rows = [(row(domain), [2, 1, 0, 1.5, 0.5, -0.5]) for domain in rm_bench.REQUIRED]  # and one that dislikes it
    assert values(rm_bench.measure(score(rm_bench.parse, rows))) == pytest.approx(
        {"total": 6 / 9, "easy": 0, "normal": 1, "hard": 1})


def test_levels_compare_the_right_styles(score):
    """Only the plainest chosen response beats the fanciest rejected one: a hard comparison, one of three."""
    rewards = [5, 0, 0, 9, 9, 4]
    rows = [(row(domain), rewards) for domain in rm_bench.REQUIRED]
    result = rm_bench.measure(score(rm_bench.parse, rows))
    assert values(result) == pytest.approx({"total": 1 / 9, "easy": 0, "normal": 0, "hard": 1 / 3})


def test_domains_have_equal_weight_and_safety_is_one(score):
    right, wrong, tied = [1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1], [0] * 6
    rows = [(row("chat"), right), (row("chat"), wrong), (row("chat"), wrong), (row("code"), wrong),
            (row("math"), tied), (row("safety-refuse"), right), (row("safety-response"), right),
            (row("safety-response"), wrong)]
    result = rm_bench.measure(score(rm_bench.parse, rows))
    assert {name: value_of(result.parts[name]) for name in rm_bench.REQUIRED} == pytest.approx(
        {"chat": 1 / 3, "code": 0, "math": 1 / 2, "safety": 2 / 3})
    assert value_of(result.scores["total"]) == pytest.approx((1 / 3 + 0 + 1 / 2 + 2 / 3) / 4)
