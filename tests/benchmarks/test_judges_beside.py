"""People beside people: what the benchmark of judges counts, on votes that can be counted by hand."""


import numpy as np
import pytest

from benchmarks.judges import agreement as beside

NAN = np.nan


def test_people_are_compared_with_each_other_and_never_with_themselves():
    votes = np.array([[1, 1, -1], [1, 0, NAN], [1, NAN, NAN], [1, 1, 1]])
    found = beside.compare_people(votes, np.array(["a", "b", "c", "d"]))
    one = found["with_one"]  # of a: 2 of 6 agree; of b: the tie with the decided one; of d: all 6
    assert (one["wins"], one["ties"], one["losses"], one["unlabelled"]) == (8, 1, 4, 1)
    rest = found["with_others_majority"]  # of a: only the third has a majority against it
    assert (rest["wins"], rest["losses"], rest["unlabelled"]) == (3, 1, 2)
    assert found["pairs"] == 3
    assert beside.majority(np.array([1.0, -1.0])) == 0 and beside.majority(np.array([1.0, 0.0, 1.0])) == 1


def test_judges_on_a_few_rows():
    rows = [
        {"prompt": f"p{number}", "gold": gold, "votes": votes, "judges": {"other": judge},
         "chosen_length": 5, "rejected_length": 3 + number}
        for number, (gold, votes, judge) in enumerate([
            ("chosen", ["chosen"] * 3, "chosen"), ("chosen", ["chosen", "chosen", "tie"], "rejected"),
            ("tie", ["tie"] * 3, "tie"), ("chosen", ["chosen", "chosen", "rejected"], "tie"),
        ])
    ]
    models = {"robust": [np.array([1.0, 2.0, 0.5, -1.0]), np.array([1.0, 1, 1, 1])], "plain": [np.array([-1.0] * 4)]}
    found = beside.compare_judges("pandalm_test", rows, models)
    assert found["clear"] == 3 and found["pairs"] == 4
    assert found["judges"]["other"]["with_majority"]["with_ties"] == 0.5
    robust, plain = found["reward_models"].values()
    assert [run["with_majority"]["wins"] for run in [*robust, *plain]] == [2, 3, 0]
    assert robust[0]["with_one"]["wins"] == 3 + 2 + 1
    assert found["first_less"]["other"]["mean"] == pytest.approx((1 + 1 + 0.5) / 3 - 0.5)
    assert found["first_less"]["plain"]["mean"] == pytest.approx((1 + 1 + 0.5) / 3)
    assert found["judges"]["the longer wins"]["with_majority"]["wins"] == 2
