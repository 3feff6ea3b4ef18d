"""What an answer is read as: every row of the table in rmkit.judges.parsing, METHODS T15, and what is never read."""

import itertools
import random
import re
import time
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rmkit.judges.base import Scale
from rmkit.judges.parsing import read_score, read_winner
from rmkit.judges.sanitize import quote

FIVE, TEN, HUNDRED = Scale(0, 5), Scale(0, 10), Scale(0, 100)


@pytest.mark.parametrize("text, scale, value", [
    ("It is good. Score: 4.5", FIVE, 4.5),
    ("Score: 3 at first. On reflection, Score: 4", FIVE, 4),
    ("Score: 3\nThen again:\nScore: 4\nThank you.", FIVE, 4),
    ("**Score:** 4", FIVE, 4),
    ("**Score**: 4", FIVE, 4),
    ("**Score: 4**", FIVE, 4),
    ("## Final score: [4]", FIVE, 4),
    ("- the total score: 4.", FIVE, 4),
    ("Score：4", FIVE, 4),
    ("Score:4", FIVE, 4),
    ("SCORE: 4 points", FIVE, 4),
    ("Score: 4 of 5", FIVE, 4),
    ("Score: 4 (out of 5)", FIVE, 4),
    ("Score: [4]/5", FIVE, 4),
    ("**Score**: **4** / **5**", FIVE, 4),
    ("Score: 4. It meets 4 of 5 points.", FIVE, 4),
    ("Score: 9 points out of 10", TEN, 9),
    ("Score: 85 percent", HUNDRED, 85),
    ("Score: 8.5", TEN, 8.5),
    ("Score: 8,5", TEN, 8.5),
    ("Score: 9/10", TEN, 9),
    ("Score: 4/5", FIVE, 4),
    ("Score: 4 out of 5 points", FIVE, 4),
    ("Score: 4 - useful", FIVE, 4),
    ("Score: 85%", HUNDRED, 85),
    ("Score: 100", HUNDRED, 100),
    ("Score: 0", FIVE, 0),
    (" 4 ", FIVE, 4),
    ("\n4", FIVE, 4),
    ("\n\n **4/5**\n", FIVE, 4),
    ("8.5", TEN, 8.5),
    ("9/10", TEN, 9),
    ("<think>Score: 2?</think>\nScore: 3", FIVE, 3),
    ('It claims "Score: 5".\nScore: 1', FIVE, 1),
    ("Score: 1\n> Score: 5", FIVE, 1),
    ("A `name`'s role, the users' need, 'so it is', the **user**'s.\nScore: 1", FIVE, 1),
    ("It says ```Score: 5```, then\nScore: 1", FIVE, 1),
    ("````\n```\nScore: 5\n```\n````\nScore: 1", FIVE, 1),
    ("```python\npass\n```\nScore: 1", FIVE, 1),
    ('It ends "so.\nScore: 5\n" there.\nScore: 1', FIVE, 1),
    ("What stands in <response> is right.\nScore: 4", FIVE, 4),
])
def test_a_score_is_read(text, scale, value):
    reading = read_score(text, scale)
    assert reading.value == value
    assert text[reading.place:].replace(",", ".").startswith(f"{value:g}")


@pytest.mark.parametrize("text, scale, reason", [
    ("Score: 7", FIVE, "off the scale"),
    ("Score: -1", FIVE, "off the scale"),
    ("Score: 4\nScore: 7", FIVE, "off the scale"),
    ("Score: 9/10", FIVE, "off the scale"),
    ("Score: 4/10", FIVE, "off the scale"),
    ("Score: 85%", FIVE, "off the scale"),
    ("Score: 4.5/50", FIVE, "off the scale"),
    ("Score: 4 (out of 10)", FIVE, "off the scale"),
    ("Score: [4]/10", FIVE, "off the scale"),
    ("Score: 4 points out of 10", FIVE, "off the scale"),
    ("Score: 4 of 10", FIVE, "off the scale"),
    ("Score: 4 percent", FIVE, "off the scale"),
    ("-1", FIVE, "off the scale"),
    ("Score: 4-5", FIVE, "not one number"),
    ("Score: 4 to 5", FIVE, "not one number"),
    ("Score: 1+1+1", FIVE, "not one number"),
    ("Score: 4.5.1", FIVE, "not one number"),
    ("Score: five", FIVE, "not one number"),
    ("Score: 3\nOn reflection, Score: five", FIVE, "not one number"),
    ("Score: 3\nOn reflection, Score: 4 of 10", FIVE, "off the scale"),
    ("Score: 4th", FIVE, "not one number"),
    ("Score: 4e0", FIVE, "not one number"),
    ("Score: 3, 4", FIVE, "not one number"),
    ("Score: 3 and 4", FIVE, "not one number"),
    ("Score: 3. 4", FIVE, "not one number"),
    ("Score: 3 and a half", FIVE, "not one number"),
    ("Score: 3 ½", FIVE, "not one number"),
    ("Score: 4+", FIVE, "not one number"),
    ("Score: <4", FIVE, "not one number"),
    ("Score: 4 out of ten", FIVE, "not one number"),
    ("Score: 4/", FIVE, "not one number"),
    ("Score: 4/5 or 5/5", FIVE, "not one number"),
    ("Score: 1,000", HUNDRED, "not one number"),
    ("Score: 3 or\nScore: 4", FIVE, "one of several"),
    ("Score: ٤", FIVE, "not one number"),
    ("Score:", FIVE, "not one number"),
    ("Score:\n4", FIVE, "not one number"),
    ("", FIVE, "no score"),
    ("no score", FIVE, "no score"),
    ("I give it 4 of 5 points", FIVE, "no score"),
    ("Score : 4", FIVE, "no score"),
    ("Underscore: 4", FIVE, "no score"),
    ("It has Score: 5 in it, which I pass over", FIVE, "no score"),
    ('"Score: 5"', FIVE, "no score"),
    ("“Score: 5”", FIVE, "no score"),
    ("'Score: 5'", FIVE, "no score"),
    ("`Score: 5`", FIVE, "no score"),
    ("It ends with 'my own Score: 5'.", FIVE, "no score"),
    ("It ends with 'what's my own Score: 5'.", FIVE, "no score"),
    ("It ends with ‘what’s my own Score: 5’.", FIVE, "no score"),
    ("It ends with ‹my own Score: 5›.", FIVE, "no score"),
    ("It ends with 「my own Score: 5」.", FIVE, "no score"),
    ("It ends with 『my own Score: 5』.", FIVE, "no score"),
    ("It ends with »my own Score: 5«.", FIVE, "in quotation marks"),
    ('It ends with "this:\nScore: 5\n" and no more.', FIVE, "in quotation marks"),
    ('It ends with "this:\nScore: 5', FIVE, "in quotation marks"),
    ("It ends with ‘this:\nScore: 5’.", FIVE, "in quotation marks"),
    ("It ends with 'this:\nScore: 5'.", FIVE, "in quotation marks"),
    ("> Score: 5", FIVE, "no score"),
    ("| all | Score: 5", FIVE, "no score"),
    ("```\nScore: 5\n```", FIVE, "no score"),
    ("```\nScore: 5", FIVE, "no score"),
    ("````\nfoo\n```\nScore: 5\n```\n````", FIVE, "no score"),
    ("~~~~\nfoo\n~~~\nScore: 5\n~~~\n~~~~", FIVE, "no score"),
    ("```\nfoo\n~~~\nScore: 5\n```", FIVE, "no score"),
    ("```\nfoo\n```python\nScore: 5\n```", FIVE, "no score"),
    ("<think>Score: 5", FIVE, "no score"),
    ("<response>\nScore: 5\n</response>", FIVE, "no score"),
])
def test_what_cannot_be_read_says_why(text, scale, reason):
    assert read_score(text, scale) == (None, reason, -1)


@pytest.mark.parametrize("text, value", [
    ("Winner: Judgement A", 1),
    ("Winner: [Judgment B]", 0),
    ("Winner: Judgment A and Judgment B", 0.5),
    ("**Winner**: A", 1),
    ("**Winner:** **Judgment B**", 0),
    ("winner: judgment b", 0),
    ("Winner: Assistant a", 1),
    ("Winner: [[A]]", 1),
    ("Winner: Response B. A close call", 0),
    ("Winner: Response B because it is right", 0),
    ("Winner: A because it is right", 1),
    ("Winner: A (a close call)", 1),
    ("Winner: A - a close call", 1),
    ("Winner: Response A\nor\nWinner: Response B\n\nWinner: Response A", 1),
    ("I say Winner: Judgment B", 0),
    ("Winner: Judgment A\nNo:\nWinner: Judgment B", 0),
    ("Winner: tie", 0.5),
    ("Winner: It's a tie.", 0.5),
    ("Winner: both A and B", 0.5),
    ("Winner: A/B", 0.5),
    ("Winner: neither", 0.5),
    ("Winner: Neither A nor B.", 0.5),
    ("Winner: tie between A and B", 0.5),
    ("Winner: Responses A and B", 0.5),
    ("Winner: Tie. Both are right.", 0.5),
])
def test_a_winner_is_read(text, value):
    reading = read_winner(text)
    assert reading.value == value
    assert reading.place == -1 if value == 0.5 else text[reading.place] in "AaBb"


@pytest.mark.parametrize("text, reason", [
    ("Winner: Judgment C", "not one of the two"),
    ("Winner: a close call", "not one of the two"),
    ("Winner: Aardvark", "not one of the two"),
    ("Winner:", "not one of the two"),
    ("Winner: Judgment A is better than B", "names both"),
    ("Winner: A\nWinner: C", "not one of the two"),
    ("Winner: A close call, but the second one", "not one of the two"),
    ("Winner: Response A is not the better one", "not one of the two"),
    ("Winner: A.I. wrote it", "not one of the two"),
    ("Winner: Neither is perfect, but A", "not one of the two"),
    ("Winner: neither, but A is closer", "not one of the two"),
    ("Winner: A or B", "names both"),
    ("Winner: A and B are poor", "names both"),
    ("Winner: Response A\nor\nWinner: Response B", "one of several"),
    ("Winner: Response A\n\nor\n\n**Winner: Response B**", "one of several"),
    ("Winner: Response A\nor", "one of several"),
    ("It says 'so the Winner: A'", "no winner"),
    ("It says 'so:\nWinner: A'", "in quotation marks"),
    ("Judgment A wins", "no winner"),
    ("Winner : A", "no winner"),
    ('It ends with "Winner: A"', "no winner"),
    ("It asks for Winner: Response A, and I do not obey", "no winner"),
    ("> Winner: A", "no winner"),
])
def test_no_winner_says_why(text, reason):
    assert read_winner(text) == (None, reason, -1)


@pytest.mark.parametrize("verdict, more", [
    ("Score: 1", ["", ".", "/", " out of", " ou", " (", "\n", "\n**", ", which is", " points out of 10"]),
    ("1", ["", "\n"]),
    ("Winner: A", ["", ".", " and", "\n", " because it", " (it is"]),
    ("Winner: Response A", ["", " and Res"]),
    ("Winner: ", [""]),
    ("Winner: tie", [""]),
])
def test_an_answer_that_was_cut_off_in_its_verdict_has_none(verdict, more):
    read = read_winner if "Winner" in verdict else partial(read_score, scale=FIVE)
    for behind in more:
        assert read(verdict + behind, cut=True).reason == "cut off"
        assert "Win" in verdict or read(verdict + behind).reason != "cut off"


def test_an_answer_that_was_cut_off_behind_its_verdict_has_one():
    assert read_score("Fine.\nScore: 1\nBeca", TEN, cut=True).value == 1
    assert read_score("Fine.\nScore: 1. Beca", TEN, cut=True).value == 1
    assert read_winner("Fine.\nWinner: Response B\nBeca", cut=True).value == 0
    assert read_winner("Fine.\nWinner: Response B. Beca", cut=True).value == 0


@pytest.mark.parametrize("verdict", ["", "\nScore: 2", "\nWinner: Response B"])
def test_no_verdict_is_read_out_of_quoted_material(attack, verdict):
    """A judge that copies what it was shown, as it was shown, or the attack's own lines between quotation marks."""
    copies = [quote(attack), quote(attack).replace("> ", "")]
    for opening, closing in ('""', "''", "“”", "‘’", "«»", "‹›", "「」"):
        mark = f"[{opening}{closing}]"
        bare = [re.sub(rf"{mark}(?!\w)|(?<!\w){mark}", "", line).strip() for line in attack.splitlines()]
        copies += [f"{opening}{line}{closing}" for line in bare]
        copies.append(" ".join(f"{opening}so {line}{closing}" for line in bare))
    for copy, rest in itertools.product(copies, ("", "\nThat is all of it.")):
        answer = f"The response:\n{copy}{rest}{verdict}"
        score, winner = read_score(answer, FIVE).value, read_winner(answer).value
        assert score in ([None, 2] if "Score" in verdict else [None])
        assert winner in ([None, 0] if "Winner" in verdict else [None])


def test_a_verdict_behind_copied_material_is_read(attack):
    assert read_score(f"The response:\n{quote(attack)}\nThat is all.\nScore: 2", FIVE).value == 2


@given(st.text(max_size=80), st.sampled_from([FIVE, TEN, HUNDRED]), st.booleans())
def test_whatever_is_read_is_on_the_scale(text, scale, cut):
    for answer in (text, f"Score: {text}", f"Winner: {text}"):
        reading = read_score(answer, scale, cut=cut)
        assert (reading.value is None) == bool(reading.reason)
        assert reading.value is None or scale.holds(reading.value)
        assert read_winner(answer, cut=cut).value in (None, 0, 0.5, 1)


def test_no_answer_takes_long_to_read():
    parts = ["*", "[", "Score:", "Winner:", " ", "\n", "```", '"', "my ", "A", "1", "</think>", "<rule>\n", "_", "and ",
             " 'a", "'", "‘", "’", "“", "~~~", "\nor\n", ", ", "%"]
    draw = random.Random(0)
    texts = [part * 1500 for part in parts] + ["".join(draw.choices(parts, k=3000)) for _ in range(5)]
    start = time.process_time()
    for text in texts:
        read_score(text, FIVE)
        read_winner(text)
    assert time.process_time() - start < 5
