"""The twelve rewordings: without chance, always a change, and the words still there."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rmkit.evaluation.rewordings import LOOK_ALIKE, PERTURBATIONS

PROMPT = "Where does it flow?"
TEXT = "The River flows east.\nIt meets the sea, slowly; nobody watches the water there."
BACK = {alike: letter for letter, alike in LOOK_ALIKE.items()}


def words(text):
    return re.findall(r"\w+", text.lower())


def test_there_are_twelve_that_differ():
    assert len(PERTURBATIONS) == 12
    changed = [reword(PROMPT, TEXT) for reword in PERTURBATIONS.values()]
    assert len({TEXT, *changed}) == 13


@pytest.mark.parametrize("name, expected", [
    ("case", TEXT.lower()),
    ("typos", TEXT.replace("River", "Rvier").replace("nobody", "nboody")),
    ("white space", "\n\n" + TEXT.replace(" ", "  ") + "\n\n"),
    ("markdown", "## Answer\n\n**The River flows east.**\nIt meets the sea, slowly; nobody watches the water there."),
    ("quotes", f'"{TEXT}"'),
    ("code block", f"```\n{TEXT}\n```"),
    ("bullets", "- The River flows east.\n- It meets the sea, slowly; nobody watches the water there."),
    ("punctuation", "The River flows east .\nIt meets the sea , slowly ; nobody watches the water there . ."),
    ("prompt echo", f"{PROMPT}\n\n{TEXT}"),
])
def test_what_they_do_by_hand(name, expected):
    assert PERTURBATIONS[name](PROMPT, TEXT) == expected


def test_look_alikes_are_the_same_to_the_eye_and_others_to_the_model():
    changed = PERTURBATIONS["unicode"](PROMPT, TEXT)
    assert len(changed) == len(TEXT) and changed != TEXT
    assert changed.translate(BACK) == TEXT
    assert all(one.translate(LOOK_ALIKE) == two or one == two for one, two in zip(TEXT, changed, strict=True))


@pytest.mark.parametrize("name", ["padding", "ignore tag"])
def test_the_text_is_in_what_is_put_around_it(name):
    changed = PERTURBATIONS[name](PROMPT, TEXT)
    assert TEXT in changed and changed != TEXT


@given(st.text(max_size=60), st.text(min_size=1, max_size=200))
def test_they_are_without_chance_and_take_any_text(prompt, text):
    for reword in PERTURBATIONS.values():
        assert reword(prompt, text) == reword(prompt, text)


@given(st.lists(st.from_regex(r"[a-z]{1,9}", fullmatch=True), min_size=1, max_size=30).map(" ".join))
def test_every_word_is_still_there(text):
    for name, reword in PERTURBATIONS.items():
        found = words(reword(PROMPT, text).translate(BACK))
        if name == "typos":
            assert sorted(map(sorted, words(text))) == sorted(map(sorted, found))
        else:
            kept = iter(found)
            assert all(word in kept for word in words(text)), name
