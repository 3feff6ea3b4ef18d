"""Responses of graded quality, written by a grammar: an opener, tips in a row, a closer."""

import random
from collections.abc import Callable

from rmkit.data.synthetic import vocabulary as words
from rmkit.data.synthetic.prompts import Request


def write_response(request: Request, quality: float, rng: random.Random, *, policy: int = 0) -> str:
    """A response that keeps each part of the request the more likely, the higher `quality` in [0, 1].

    Every flaw is drawn on its own, so two responses of one quality differ in what they get wrong. `policy` 1 writes
    with other words and leaves out the opener.
    """

    def keeps(floor: float) -> bool:
        return rng.random() < floor + (1.0 - floor) * quality

    tone = request.tone if keeps(0.2) else rng.choice([name for name in words.TONES if name != request.tone])
    openers, closers, _ = words.TONES[tone]
    opener, closer = rng.choice(openers), rng.choice(closers)
    tips = [write_tip(subject, policy, rng) for subject in choose_subjects(request, keeps, rng)]
    if len(tips) > 1 and not keeps(0.7):
        tips[-1] = tips[0]
    plain = len(assemble("" if policy else opener, tips, closer).split())
    for index in choose_padded(request, len(tips), plain, keeps(0.3), rng):
        tips[index] += f", {rng.choice(words.FILLERS[policy])}"
    return assemble("" if policy else opener, tips, closer)


def choose_subjects(request: Request, keeps: Callable[[float], bool], rng: random.Random) -> list[str]:
    """What each tip is about: items of the requested themes that are kept, among items of other themes."""
    asked = [theme for theme in request.themes if keeps(0.3)]
    if request.ordered and not keeps(0.1):
        rng.shuffle(asked)
    count = request.count if keeps(0.3) else max(1, request.count + rng.choice((-1, 1)))
    asked = asked[:count]
    new = request.themes[0] in words.NEW_THEMES
    others = [name for name in words.THEMES if name not in request.themes and (name in words.NEW_THEMES) == new]
    covered = [rng.choice(others or request.themes) for _ in range(count)]
    if not request.ordered:
        rng.shuffle(asked)
    for index, theme in zip(sorted(rng.sample(range(count), len(asked))), asked, strict=True):
        covered[index] = theme
    return [rng.choice(words.THEMES[theme]) for theme in covered]


def write_tip(subject: str, policy: int, rng: random.Random) -> str:
    """One tip about one item."""
    return f"{rng.choice(words.VERBS[policy])} the {subject} {rng.choice(words.TIMES[policy])}"


def choose_padded(request: Request, tips: int, plain: int, obey: bool, rng: random.Random) -> list[int]:
    """Which tips get a filler: a number that the asked length allows when `obey`, and one that breaks it if not."""
    filler = 4  # words, at most
    fewest, most = 0, tips
    if request.bound == "at most":
        room = min(tips, max(0, request.length - plain) // filler)
        fewest, most = (0, room) if obey else (min(room + 1, tips), tips)
    elif request.bound == "at least":
        need = min(tips, -(-max(0, request.length - plain) // (filler - 1)))
        fewest, most = (need, tips) if obey else (0, max(0, need - 1))
    return rng.sample(range(tips), rng.randint(fewest, most))


def assemble(opener: str, tips: list[str], closer: str) -> str:
    """The whole text, each tip led by its ordinal."""
    led = [f"{ordinal}, {tip}." for ordinal, tip in zip(words.ORDINALS, tips, strict=False)]
    return " ".join(part for part in (opener, *led, closer) if part)
