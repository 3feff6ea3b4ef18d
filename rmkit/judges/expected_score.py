"""Expectation: the score that an answer gives on average over what the model might have written in its place."""

import math
import re
from collections.abc import Sequence

from rmkit.generation import Token
from rmkit.judges.parsing import Reading
from rmkit.judges.prompts import JudgePrompt

SAME = 1e-4  # nats; a token is among its own alternatives, spelt with a space before it or without


def expected_score(text: str, tokens: Sequence[Token], written: Reading, question: JudgePrompt) -> Reading:
    """The expected score, from the token probabilities where the written score stands.

        sum_t p(t) score(t) / sum_t p(t)

    over the token that was taken there and its likely alternatives, as far as they are scores by themselves. The
    taken one stands for the score as it was written, with its decimals; the others for whole numbers (or A and B).
    A tie that the judge declares stays 1/2. Unread where the score's whole number takes several tokens, as it does
    for 0 to 100 in tokenizers that split numbers into digits: its first digit says too little. And unread where the
    tokens do not spell the answer, as from a server that puts a replacement character for each part of an emoji: where
    the score stands among them is not known.

    Source: Liu et al. 2023, G-Eval (arXiv 2303.16634), Section 2, which sums over fixed score tokens.
    """
    if written.place < 0:  # unread, or a declared tie
        return written
    if not tokens:
        return Reading(None, "no probabilities")
    if not "".join(token.text for token in tokens).startswith(text):  # the last one may go on behind a stop string
        return Reading(None, "tokens that do not spell the answer")
    sign = re.compile("[+-]?[0-9]+|[ABab]").match(text, written.place)
    assert sign is not None
    start = 0
    for token in tokens:
        if start + len(token.text) > written.place:
            break
        start += len(token.text)
    if start + len(token.text) < sign.end():
        return Reading(None, "a score of several tokens")
    assert written.value is not None
    chances = [(token.logprob, written.value)]
    for other, logprob in token.top:
        value = question.worth(other)
        own = other.strip() == token.text.strip() and math.isclose(logprob, token.logprob, abs_tol=SAME)
        if value is not None and not own:
            chances.append((logprob, value))
    highest = max(logprob for logprob, _ in chances)
    weights = [math.exp(logprob - highest) for logprob, _ in chances]
    expected = sum(weight * value for weight, (_, value) in zip(weights, chances, strict=True)) / sum(weights)
    return Reading(expected, place=written.place)
