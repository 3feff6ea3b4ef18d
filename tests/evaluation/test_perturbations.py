"""The twelve perturbations are deterministic, change the text and keep its words."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rmkit.evaluation.perturbations import HOMOGLYPHS, PERTURBATIONS

PROMPT = "Where does it flow?"
TEXT = "The River flows east.\nIt meets the sea, slowly; nobody watches the water there."
BACK = {alike: letter for letter, alike in HOMOGLYPHS.items()}


def words(text):
    return re.findall(r"\w+", text.lower())


def test_there_are_twelve_different_ones():
    assert len(PERTURBATIONS) == 12
    assert len({TEXT, *(perturb(PROMPT, TEXT) for perturb in PERTURBATIONS.values())}) == 13


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
def test_by_hand(name, expected):
    assert PERTURBATIONS[name](PROMPT, TEXT) == expected


@pytest.mark.parametrize("name", ["padding", "ignore tag", "unicode"])
def test_the_text_can_be_recovered(name):
    changed = PERTURBATIONS[name](PROMPT, TEXT)
    assert TEXT in changed.translate(BACK) and changed != TEXT


@given(st.text(max_size=60), st.text(min_size=1, max_size=200))
def test_they_are_deterministic_for_any_text(prompt, text):
    for perturb in PERTURBATIONS.values():
        assert perturb(prompt, text) == perturb(prompt, text)


@given(st.lists(st.from_regex(r"[a-z]{1,9}", fullmatch=True), min_size=1, max_size=30).map(" ".join))
def test_every_word_is_kept(text):
    for name, perturb in PERTURBATIONS.items():
        result = words(perturb(PROMPT, text).translate(BACK))
        if name == "typos":
            assert sorted(map(sorted, words(text))) == sorted(map(sorted, result))
        else:
            kept = iter(result)
            assert all(word in kept for word in words(text)), name
