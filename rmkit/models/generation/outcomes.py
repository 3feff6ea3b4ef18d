"""Outcomes: what a request comes to, a completion or a failure that says why."""

from dataclasses import dataclass
from typing import Literal

Finish = Literal["stop", "length"]


@dataclass(frozen=True)
class Token:
    """A generated token and the likeliest ones in its place, as (text, log-probability), the likeliest first.

    Log-probabilities are natural and the model's own, before temperature and top_p. The texts of a completion's
    tokens, joined, are its text: a character that several tokens share stands with the last of them.
    """

    text: str
    logprob: float
    top: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Completion:
    """A generated text, without end token and stop string.

    finish: "stop" where the model ended it or a stop string came, "length" where it was cut at `max_new_tokens`.
    prompt_tokens, tokens: read and generated, the end token with them; None where a server does not say. logprobs:
    the tokens of the text, where they were asked for.
    """

    text: str
    finish: Finish
    prompt_tokens: int | None
    tokens: int | None
    logprobs: tuple[Token, ...] | None = None


@dataclass(frozen=True)
class Failure:
    """No completion, and why, in one line."""

    reason: str


Outcome = Completion | Failure


def cut_at_stop(text: str, stop: tuple[str, ...]) -> str:
    """`text` up to the first of the stop strings that it contains."""
    return text[:min([place for string in stop if (place := text.find(string)) >= 0], default=len(text))]


def cut_tokens(tokens: list[Token], text: str) -> tuple[Token, ...]:
    """The tokens that begin within `text`."""
    start, kept = 0, []
    for token in tokens:
        if start >= len(text):
            break
        kept.append(token)
        start += len(token.text)
    return tuple(kept)
