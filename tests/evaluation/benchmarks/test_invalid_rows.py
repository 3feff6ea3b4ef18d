"""Rows that are not of a benchmark's format are refused with a reason."""

import pytest

from rmkit.data.sources import RowError
from rmkit.evaluation.benchmarks import best_of_n, helpsteer, reward_bench, reward_bench_2, rm_bench
from tests.evaluation.benchmarks.test_other_formats import ASK, steer
from tests.evaluation.benchmarks.test_reward_bench import row as subset_row
from tests.evaluation.benchmarks.test_reward_bench_2 import four, ties
from tests.evaluation.benchmarks.test_rm_bench import row as domain_row

FORMATS = [  # the format, a valid row, and changes with the reason and a part of the detail
    (reward_bench, subset_row("math-prm"), [
        ({"subset": None}, "missing subset", ""),
        ({"subset": "math-prn"}, "unknown subset", "math-prn; the nearest is math-prm"),
        ({"subset": ["math-prm"]}, "wrong type", "subset"),
        ({"chosen": None}, "missing chosen", ""),
        ({"rejected": ""}, "empty response", ""),
        ({"chosen": ["Yes."]}, "wrong type", "responses"),
        ({"prompt": None}, "missing prompt", ""),
    ]),
    (reward_bench_2, four("Math"), [
        ({"subset": None}, "missing subset", ""),
        ({"subset": "Maths"}, "unknown subset", "the nearest is Math"),
        ({"chosen": []}, "empty chosen", ""),
        ({"rejected": None}, "missing rejected", ""),
        ({"rejected": ["b", "c"]}, "wrong number of responses", "1 chosen and 2 rejected"),
        ({"num_correct": 2}, "wrong number of responses", "num_correct 2"),
        ({"chosen": "a"}, "wrong type", "chosen"),
        ({"rejected": ["b", "", "d"]}, "empty response", ""),
        (ties("tied:1", 1, 2), "wrong number of responses", "tied:1"),
        (ties("ref:1", 2, 2), "wrong number of responses", "ref:1"),
        (ties("7", 1, 2), "wrong id", ""),
        (ties("both:7", 2, 2), "wrong id", ""),
    ]),
    (rm_bench, domain_row("chat"), [
        ({"domain": None}, "missing domain", ""),
        ({"domain": "poetry"}, "unknown domain", "poetry"),
        ({"chosen": ["a", "b"]}, "missing style", "chosen"),
        ({"rejected": []}, "empty rejected", ""),
        ({"rejected": "d"}, "wrong type", "rejected"),
        ({"rejected": ["d", "e", " "]}, "empty response", ""),
    ]),
    (best_of_n, ASK, [
        ({}, "missing chosen", ""),
        ({"chosen": "a"}, "missing rejected", ""),
        ({"chosen": [], "rejected": ["b"]}, "empty chosen", ""),
        ({"chosen": "a", "rejected": [""]}, "empty response", ""),
        ({"responses": ["a"], "scores": [1]}, "fewer than two responses", ""),
        ({"responses": ["a", "b"]}, "missing grades", ""),
        ({"responses": ["a", "b"], "scores": [1]}, "wrong number of grades", "scores"),
        ({"responses": ["a", "b"], "scores": [1, "x"]}, "wrong type", "scores"),
        ({"responses": ["a", "b"], "scores": [1, float("nan")]}, "wrong type", "scores"),
        ({"responses": ["a", "b"], "scores": [1, 1]}, "equal grades", "scores"),
        ({"responses": ["a", "b"], "best": 2}, "wrong best", "got 2"),
    ]),
    (helpsteer, steer(1), [
        ({"overall_preference": None}, "missing overall_preference", ""),
        ({"overall_preference": 4}, "wrong preference", "got 4"),
        ({"overall_preference": 0.5}, "wrong preference", "got 0.5"),
        ({"overall_preference": "2"}, "wrong type", "preference"),
        ({"response2": None}, "missing response2", ""),
        ({"context": None}, "missing context", ""),
        ({"response1": ""}, "empty response", ""),
    ]),
]


@pytest.mark.parametrize("module, row, reason, detail", [
    (module, {**valid, **changes}, reason, detail)
    for module, valid, cases in FORMATS for changes, reason, detail in cases
])
def test_invalid_rows(module, row, reason, detail):
    with pytest.raises(RowError) as error:
        module.parse(row)
    assert error.value.args[0] == reason and detail in "".join(error.value.args[1:])
