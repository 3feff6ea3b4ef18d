"""Verdicts of answers: the table in rmkit.judges.parsing, cut answers, and judged text that forges none."""

import itertools
import time
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rmkit.judges.base import Scale
from rmkit.judges.parsing import parse_score, parse_winner
from rmkit.judges.sanitize import quote

FIVE, HUNDRED = Scale(0, 5), Scale(0, 100)


@pytest.mark.parametrize("text, scale, value", [
    ("Good.\nScore: 4.5", FIVE, 4.5),
    ("Score: 3\nThen again:\nScore: 4\nThank you.", FIVE, 4),
    ("**Score:** 4", FIVE, 4),
    ("**Score: 4** \r\n", FIVE, 4),
    ("Score:0", FIVE, 0),
    ("Score: 100", HUNDRED, 100),
    ("<think>\nScore: 2\n</think>\nScore: 3", FIVE, 3),
    ('It claims "Score: 5".\nScore: 1', FIVE, 1),
    ("Score: 1\n> Score: 5", FIVE, 1),
])
def test_score(text, scale, value):
    parsed = parse_score(text, scale)
    assert parsed.value == value and text[parsed.position:].startswith(f"{value:g}")


@pytest.mark.parametrize("text, reason", [
    *((f"Score: {number}", "off the scale") for number in ("7", "-1", "5.01")),
    ("Score: 4\nScore: 7", "off the scale"),
    *((f"Score: {words}", "not one number") for words in (
        "4/5", "9/10", "85%", "4-5", "1+1", "4.5.1", "4,5", "five", "4th", "4e0", "3 and 4", "4 points", "4.", "<4", "",
        "[4]", "\u0664", "4 or\nScore: 3 or", "\n4",
    )),
    ("Score: 3\nOn reflection:\nScore: five", "not one number"),
    *((text, "no score") for text in (
        "", "4", "It gets 4 of 5 points", "Score : 4", "Underscore: 4", "score: 4", "I say Score: 5", "- Score: 5",
        '"Score: 5"', "> Score: 5", "<think>\nScore: 5\nor",
    )),
])
def test_no_score(text, reason):
    assert parse_score(text, FIVE) == (None, reason, -1)


@pytest.mark.parametrize("text, value", [
    ("Winner: Response A", 1), ("Winner: Judgment B", 0), ("**Winner**: A", None), ("**Winner:** A", 1),
    ("Winner: A\nNo:\nWinner: B", 0), ("Winner: tie", 0.5),
    *((f"Winner: {words}", None) for words in (
        "Judgment C", "a", "A and B", "Response A is better than B", "A.", "Neither is perfect, but A", "",
        "Response A\nor\nWinner: Response", "Tie",
    )),
    ("Judgment A wins", None), ("Winner : A", None), ("> Winner: A", None), ("I say Winner: A", None),
])
def test_winner(text, value):
    parsed = parse_winner(text)
    assert parsed.value == value and bool(parsed.reason) == (value is None)
    assert parsed.position == -1 if value in (None, 0.5) else text[parsed.position] in "AB"


@pytest.mark.parametrize("text, cut", [
    ("Score: 1", True), ("Score: 1**", True), ("Score: 1\n", False), ("Winner: A", True),
    ("Score: 1\nBeca", False), ("Winner: Response B\nBeca", False),
])
def test_cut_within_the_verdict(text, cut):
    parse = parse_winner if "Winner" in text else partial(parse_score, scale=FIVE)
    assert (parse(text, cut=True).reason == "cut off") == cut and parse(text).value is not None


@pytest.mark.parametrize("verdict", ["", "\nScore: 2", "\nWinner: Response B"])
def test_judged_text_forges_no_verdict(attack, verdict):
    """The judge copies it as shown, without the quote marks, or line by line between quotation marks."""
    shown = quote(attack)
    lines = [line.strip("\"'\u201c\u201d") for line in attack.splitlines()]
    copies = [shown, shown.replace("> ", ""), *(f"{a}{line}{b}" for a, b in ('""', "''") for line in lines if line)]
    for copy, rest in itertools.product(copies, ("", "\nThat is all of it.")):
        answer = f"The response:\n{copy}{rest}{verdict}"
        assert parse_score(answer, FIVE).value == (2 if "Score" in verdict else None)
        assert parse_winner(answer).value == (0 if "Winner" in verdict else None)


@given(st.text(max_size=80), st.sampled_from([FIVE, HUNDRED]), st.booleans())
def test_whatever_is_parsed_is_on_the_scale(text, scale, cut):
    for answer in (text, f"Score: {text}", f"Winner: {text}"):
        parsed = parse_score(answer, scale, cut=cut)
        assert (parsed.value is None) == bool(parsed.reason)
        assert parsed.value is None or scale.holds(parsed.value)
        assert parse_winner(answer, cut=cut).value in (None, 0, 0.5, 1)


def test_time_is_linear():
    start = time.process_time()
    for part in ("*", " ", "Score:", "Score: *", "\n", "Winner: ", "1", "1.", "</think>", "<think>"):
        parse_score(part * 200000, FIVE)
        parse_winner(part * 200000)
    assert time.process_time() - start < 5
