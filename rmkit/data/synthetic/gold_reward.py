"""The gold reward: a stated function of what can be checked in the text."""

import re

from rmkit.data.synthetic import vocabulary as words
from rmkit.data.synthetic.prompts import Request

# Reward units of each attribute when wholly met; a gap of 1 unit is preferred with probability sigmoid(1) = 0.73.
WEIGHTS = {"content": 4.0, "tone": 3.0, "count": 2.0, "length": 2.0, "order": 1.0, "distinct": 1.0}

THEME_OF = {item: theme for theme, items in words.THEMES.items() for item in items}
TIP = re.compile(rf"\b(?:{'|'.join(words.ORDINALS)}), ([^,.!?]*)")
WORD = re.compile(r"[a-z']+")


def gold_reward(request: Request, response: str) -> float:
    """The true quality of a response: sum over attributes of weight times score, in reward units.

    Length counts only where the request names one: within the bound a longer or shorter text earns the same.
    """
    scores = check_attributes(request, response)
    return sum(WEIGHTS[name] * score for name, score in scores.items())


def check_attributes(request: Request, response: str) -> dict[str, float]:
    """Each attribute's score in [0, 1], from the text alone.

    content: share of the requested themes with an item in the text. tone: share of the tone marks that are of the
    asked tone. count: 1 for the number of tips asked for, 0.5 for one off, 0 beyond. length: 1 within the bound,
    falling to 0 at half the bound beyond it, 1 where none was asked. order: share of neighbouring requested themes
    that are first met in the asked order, 0 where fewer than two are there, 1 where no order was asked. distinct:
    share of tips not given before.
    """
    text_words = WORD.findall(response.lower())
    themes = [THEME_OF[word] for word in text_words if word in THEME_OF]
    positions = [themes.index(theme) for theme in request.themes if theme in themes]
    tips = [tip.strip() for tip in TIP.findall(response)]
    order = 1.0
    if request.ordered:
        steps = list(zip(positions, positions[1:], strict=False))
        order = sum(a < b for a, b in steps) / len(steps) if steps else 0.0
    marks = {tone: sum(mark in text_words for mark in parts[2]) for tone, parts in words.TONES.items()}
    excess = 0.0
    if request.bound is not None:
        beyond = len(text_words) - request.length
        excess = max(0, beyond if request.bound == "at most" else -beyond) / request.length
    return {
        "content": len(positions) / len(request.themes),
        "tone": marks[request.tone] / max(1, sum(marks.values())),
        "count": max(0.0, 1.0 - abs(len(tips) - request.count) / 2),
        "length": max(0.0, 1.0 - 2.0 * excess),
        "order": order,
        "distinct": len(set(tips)) / len(tips) if tips else 0.0,
    }
