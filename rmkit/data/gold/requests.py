"""Requests: what a prompt asks for, and the prompt that asks for it."""

import random
from dataclasses import dataclass
from typing import Literal

from rmkit.data.gold import vocabulary as words


Bound = Literal["at most", "at least"]
BOUNDS: tuple[Bound | None, ...] = ("at most", "at least", None)


@dataclass(frozen=True)
class Request:
    """The checkable things one prompt asks for.

    `items` must be mentioned (in this order when `ordered`), in `count` tips, in `tone`; `length` words is a ceiling
    or a floor by `bound`, or no matter when `bound` is None.
    """

    topic: str
    items: tuple[str, ...]
    count: int
    ordered: bool
    tone: str
    bound: Bound | None
    length: int


def draw_request(rng: random.Random, *, new_topics: bool = False) -> Request:
    """A random request on a training topic, or on a held-out one: two or three items in two to four tips."""
    topic = rng.choice([name for name in words.TOPICS if (name in words.NEW_TOPICS) == new_topics])
    items = tuple(rng.sample(words.TOPICS[topic], rng.randint(2, 3)))
    count = len(items) + rng.randint(0, 1)
    bound = rng.choice(BOUNDS)
    # Opener and closer have about 6 words, a tip 5 or 6 and a filler 3 or 4: a ceiling leaves room for one filler or
    # two, a floor asks for a filler in every second tip or more.
    length = {"at most": 8 + 6 * count, "at least": 6 + 8 * count, None: 0}[bound]
    return Request(topic, items, count, rng.random() < 0.5, rng.choice(list(words.TONES)), bound, length)


def write_prompt(request: Request, rng: random.Random, *, new_phrasings: bool = False) -> str:
    """The request in words; `new_phrasings` uses only ways of asking that the other prompts never use."""

    def ask(ways: tuple[str, ...], **values: object) -> str:
        return (ways[-1] if new_phrasings else rng.choice(ways[:-1])).format(**values)

    items = [f"the {item}" for item in request.items]
    listed = ", ".join(items[:-1]) + " and " + items[-1]
    content = ask(words.ASK_CONTENT, topic=request.topic, items=listed)
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
