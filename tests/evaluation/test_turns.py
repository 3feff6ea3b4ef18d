"""Two-turn grading."""

import numpy as np
import pytest

from rmkit.core.checks import InputError
from rmkit.evaluation.policies import follow_up_prompt, grade_turns, name_question


def test_grades_by_hand():
    found = grade_turns([5, 3, 4, np.nan, 2], [1, 2, 1, 2, 2], ["a", "a", "b", "b", "c"], n_bootstrap=200)
    first, second, every = found["turns"]["1"], found["turns"]["2"], found["all"]
    assert (first["mean"], first["answers"], first["missing"]) == (4.5, 2, 0)
    assert (second["mean"], second["answers"], second["missing"]) == (2.5, 2, 1)
    assert every["mean"] == 3.5 and every["low"] < 3.5 < every["high"]
    assert list(found["turns"]) == ["1", "2"]


def test_turns_of_a_question_are_drawn_together():
    generator = np.random.default_rng(0)
    level = np.repeat(generator.normal(size=50), 2)
    together = grade_turns(level, [1, 2] * 50, np.repeat(np.arange(50), 2))["all"]
    apart = grade_turns(level, [1, 2] * 50, np.arange(100))["all"]
    assert together["high"] - together["low"] > 1.25 * (apart["high"] - apart["low"])


def test_what_is_undefined():
    found = grade_turns([np.nan, 2.0], [1, 2], ["a", "a"])
    assert found["turns"]["1"] == {"mean": None, "low": None, "high": None, "answers": 0, "missing": 1}
    assert found["turns"]["2"]["low"] is None
    for turns, questions in (([1], ["a", "a"]), ([1, 2], ["a"])):
        with pytest.raises(InputError):
            grade_turns([1.0, 2.0], turns, questions)


def test_the_second_question_follows_the_first_answer():
    user, said = {"role": "user", "content": "One?"}, {"role": "assistant", "content": "Yes."}
    rows = [
        {"prompt": [user], "responses": [[said], [{"role": "assistant", "content": "No."}]], "follow_up": "Why?",
         "kind": "sums"},
        {"prompt": [user], "responses": [[said]]},
        {"prompt": [user], "responses": [[said]], "follow_up": "Why?", "question": "q81", "id": "p1"},
    ]
    asked = {"prompt": [user, said, {"role": "user", "content": "Why?"}], "turn": 2}
    assert list(follow_up_prompt(rows)) == [
        {**asked, "kind": "sums", "question": name_question([user])}, {**asked, "question": "q81", "id": "p1/2"}]
