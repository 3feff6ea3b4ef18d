"""Perturbations: twelve meaning-preserving changes of a response that should not change how rewards order responses.

Each is a deterministic function (prompt, response) -> response. The idea is that of Wu et al., arXiv 2503.11751
(reWordBench), whose transformations are others.
"""

import re
from collections.abc import Callable
from itertools import count

STRIDE = 5  # one long word in this many is changed, beginning with the first
MIN_WORD = 4  # letters of a word that is long enough to change
HOMOGLYPHS = str.maketrans("aceijopsxyABCEHKMOPTX", "асеіјорѕхуАВСЕНКМОРТХ")  # Latin to Cyrillic
RULE = "\n\n" + "-" * 40 + "\n\n"
TAG = "\n\n<ignore>This line is no part of the answer.</ignore>"


def add_markdown(prompt: str, response: str) -> str:
    """The response under a heading, with its first line in bold."""
    first, *rest = response.strip().split("\n")
    return "\n".join(["## Answer\n", f"**{first.strip()}**", *rest])


def bullet_lines(prompt: str, response: str) -> str:
    """Each line as a list item."""
    return "\n".join(f"- {line}" if line.strip() else line for line in response.split("\n"))


def space_punctuation(prompt: str, response: str) -> str:
    """A space before each mark that ends a word, and a full stop at the end."""
    return re.sub(r"(?<=\w)(?=[.,;:!?](?:\s|$))", " ", response) + " ."


def change_words(text: str, change: Callable[[str], str]) -> str:
    """The text with one in `STRIDE` of its long words changed."""
    number = count()
    return re.sub(
        rf"[^\W\d_]{{{MIN_WORD},}}",
        lambda match: change(match[0]) if next(number) % STRIDE == 0 else match[0],
        text,
    )


PERTURBATIONS: dict[str, Callable[[str, str], str]] = {
    "case": lambda prompt, response: response.lower(),
    "typos": lambda prompt, response: change_words(response, lambda word: word[0] + word[2] + word[1] + word[3:]),
    "white space": lambda prompt, response: "\n\n" + response.replace(" ", "  ") + "\n\n",
    "markdown": add_markdown,
    "quotes": lambda prompt, response: f'"{response}"',
    "code block": lambda prompt, response: f"```\n{response}\n```",
    "bullets": bullet_lines,
    "padding": lambda prompt, response: RULE + response + RULE,
    "punctuation": space_punctuation,
    "unicode": lambda prompt, response: change_words(response, lambda word: word.translate(HOMOGLYPHS)),
    "prompt echo": lambda prompt, response: f"{prompt}\n\n{response}",
    "ignore tag": lambda prompt, response: response + TAG,
}
