"""Rewordings: twelve ways to say the same differently, after which a reward model should order responses as before.

They are functions (prompt, response) -> response, without chance: the same text is always changed alike. The idea is
that of Wu et al., arXiv 2503.11751 (reWordBench), whose transformations are others.
"""

import re
from collections.abc import Callable

STRIDE = 5  # one word in so many is misspelt, or written with letters that look alike
MIN_WORD = 4  # letters of a word that can be misspelt and still be read
LOOK_ALIKE = str.maketrans("aceijopsxyABCEHKMOPTX", "асеіјорѕхуАВСЕНКМОРТХ")  # Latin to Cyrillic
RULE = "\n\n" + "-" * 40 + "\n\n"
TAG = "\n\n<ignore>This line is no part of the answer.</ignore>"


def lower_case(prompt: str, response: str) -> str:
    """Without capitals."""
    return response.lower()


def misspell(prompt: str, response: str) -> str:
    """Two letters inside of one long word in five are in the wrong order, beginning with the first."""
    return change_words(response, lambda word: word[0] + word[2] + word[1] + word[3:])


def widen_space(prompt: str, response: str) -> str:
    """Two spaces for one, and empty lines around."""
    return "\n\n" + response.replace(" ", "  ") + "\n\n"


def add_markdown(prompt: str, response: str) -> str:
    """A heading, and the first line in bold."""
    first, *rest = response.strip().split("\n")
    return "\n".join(["## Answer\n", f"**{first.strip()}**", *rest])


def quote(prompt: str, response: str) -> str:
    """In quotation marks."""
    return f'"{response}"'


def put_in_code_block(prompt: str, response: str) -> str:
    """In a code block."""
    return f"```\n{response}\n```"


def bullet(prompt: str, response: str) -> str:
    """Each line as a point of a list."""
    return "\n".join(f"- {line}" if line.strip() else line for line in response.split("\n"))


def pad(prompt: str, response: str) -> str:
    """Between two rules."""
    return RULE + response + RULE


def space_punctuation(prompt: str, response: str) -> str:
    """A space before each mark that ends a word, and a full stop behind all."""
    return re.sub(r"(?<=\w)(?=[.,;:!?](?:\s|$))", " ", response) + " ."


def use_look_alikes(prompt: str, response: str) -> str:
    """One long word in five in letters of another script that look the same."""
    return change_words(response, lambda word: word.translate(LOOK_ALIKE))


def echo_prompt(prompt: str, response: str) -> str:
    """Behind the prompt, repeated."""
    return f"{prompt}\n\n{response}"


def add_ignored_tag(prompt: str, response: str) -> str:
    """With a line that asks to be ignored."""
    return response + TAG


def change_words(text: str, change: Callable[[str], str]) -> str:
    """The text with one in five of its long words changed, beginning with the first."""
    number = -1

    def replace(match: re.Match[str]) -> str:
        """The word as it is, or changed."""
        nonlocal number
        number += 1
        return change(match[0]) if number % STRIDE == 0 else match[0]

    return re.sub(rf"[^\W\d_]{{{MIN_WORD},}}", replace, text)


PERTURBATIONS: dict[str, Callable[[str, str], str]] = {
    "case": lower_case,
    "typos": misspell,
    "white space": widen_space,
    "markdown": add_markdown,
    "quotes": quote,
    "code block": put_in_code_block,
    "bullets": bullet,
    "padding": pad,
    "punctuation": space_punctuation,
    "unicode": use_look_alikes,
    "prompt echo": echo_prompt,
    "ignore tag": add_ignored_tag,
}
