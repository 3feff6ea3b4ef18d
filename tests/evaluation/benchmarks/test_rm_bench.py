"""RM-Bench: the three by three comparisons of styles, by hand."""

import pytest

from rmkit.data.schema import InvalidRow
from rmkit.evaluation.benchmarks import rm_bench
from rmkit.evaluation.benchmarks.scores import value_of


def row(domain, **changes):
    return {"id": 1, "prompt": f"{domain}?", "chosen": ["a", "b", "c"], "rejected": ["d", "e", "f"], "domain": domain,
            **changes}


def values(found):
    return {name: value_of(terms) for name, terms in found.scores.items()}


def test_a_model_that_likes_markdown_passes_the_easy_and_fails_the_hard(score):
    rows = [(row(domain), [0, 1, 2, -0.5, 0.5, 1.5]) for domain in rm_bench.REQUIRED]
    found = rm_bench.measure(score(rm_bench.parse, rows))
    assert values(found) == pytest.approx({"total": 6 / 9, "easy": 1, "normal": 1, "hard": 0})
    assert found.extra["chosen_by_rejected"] == [[1, 0, 0], [1, 1, 0], [1, 1, 1]]
    rows = [(row(domain), [2, 1, 0, 1.5, 0.5, -0.5]) for domain in rm_bench.REQUIRED]  # and one that dislikes it
    assert values(rm_bench.measure(score(rm_bench.parse, rows))) == pytest.approx(
        {"total": 6 / 9, "easy": 0, "normal": 1, "hard": 1})


def test_cells_lie_where_the_styles_say(score):
    """Only the plain right response beats the fanciest wrong one: a hard comparison, and one of three."""
    rewards = [5, 0, 0, 9, 9, 4]
    rows = [(row(domain), rewards) for domain in rm_bench.REQUIRED]
    found = rm_bench.measure(score(rm_bench.parse, rows))
    assert values(found) == pytest.approx({"total": 1 / 9, "easy": 0, "normal": 0, "hard": 1 / 3})


def test_domains_weigh_the_same_and_both_kinds_of_safety_are_one(score):
    right, wrong, tied = [1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1], [0] * 6
    rows = [(row("chat"), right), (row("chat"), wrong), (row("chat"), wrong), (row("code"), wrong),
            (row("math"), tied), (row("safety-refuse"), right), (row("safety-response"), right),
            (row("safety-response"), wrong)]
    found = rm_bench.measure(score(rm_bench.parse, rows))
    assert {name: value_of(found.parts[name]) for name in rm_bench.REQUIRED} == pytest.approx(
        {"chat": 1 / 3, "code": 0, "math": 1 / 2, "safety": 2 / 3})
    assert value_of(found.scores["total"]) == pytest.approx((1 / 3 + 0 + 1 / 2 + 2 / 3) / 4)


@pytest.mark.parametrize("changes, reason", [
    ({"domain": None}, "missing domain"),
    ({"domain": "poetry"}, "unknown domain"),
    ({"chosen": ["a", "b"]}, "missing style"),
    ({"rejected": []}, "empty rejected"),
    ({"rejected": "d"}, "wrong type"),
    ({"rejected": ["d", "e", " "]}, "empty response"),
])
def test_rows_of_styles_that_are_wrong_say_why(changes, reason):
    with pytest.raises(InvalidRow) as caught:
        rm_bench.parse({**row("chat"), **changes})
    assert caught.value.args[0] == reason
