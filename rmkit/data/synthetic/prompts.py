"""Requests: what a prompt asks for, and the prompt that asks for it."""

import random
from dataclasses import dataclass
from typing import Literal

from rmkit.data.synthetic import vocabulary as words

Bound = Literal["at most", "at least"]
BOUNDS: tuple[Bound | None, ...] = ("at most", "at least", None)


@dataclass(frozen=True)
class Request:
    """The checkable things one prompt asks for.

    Each of `themes` must be covered by naming one of its items (in this order when `ordered`), in `count` tips, in
    `tone`; `length` words is a ceiling or a floor by `bound`, or no matter when `bound` is None.
    """

    themes: tuple[str, ...]
    count: int
    ordered: bool
    tone: str
    bound: Bound | None
    length: int


def draw_request(rng: random.Random, *, new_themes: bool = False) -> Request:
    """A random request: two or three themes, of training or held-out ones, in as many tips or one more."""
    known = [name for name in words.THEMES if (name in words.NEW_THEMES) == new_themes]
    themes = tuple(rng.sample(known, rng.randint(2, 3)))
    count = len(themes) + rng.randint(0, 1)
    bound = rng.choice(BOUNDS)
    # Opener and closer have about 6 words, a tip 5 or 6 and a filler 3 or 4: a ceiling leaves room for one filler or
    # two, a floor asks for a filler in every second tip or more.
    length = {"at most": 8 + 6 * count, "at least": 6 + 8 * count, None: 0}[bound]
    return Request(themes, count, rng.random() < 0.5, rng.choice(list(words.TONES)), bound, length)


def write_prompt(request: Request, rng: random.Random, *, new_phrasings: bool = False) -> str:
    """The request in words; `new_phrasings` uses only ways of asking that the other prompts never use."""

    def ask(ways: tuple[str, ...], **values: object) -> str:
        return (ways[-1] if new_phrasings else rng.choice(ways[:-1])).format(**values)

    listed = ", ".join(request.themes[:-1]) + " and " + request.themes[-1]
    content = ask(words.ASK_CONTENT, themes=listed)
    if request.ordered:
        content += " " + ask(words.ASK_ORDER)
    parts = [
        ask(words.ASK_COUNT, count=words.NUMBERS[request.count]),
        ask(words.ASK_TONE, tone=request.tone),
    ]
    if request.bound is not None:
        parts.append(ask(words.ASK_LENGTH, bound=request.bound, words=request.length))
    rng.shuffle(parts)
    return " ".join([content, *parts])
