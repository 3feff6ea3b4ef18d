"""What generators return: completions with their tokens, or failures with their reason."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Token:
    """A generated token and the most likely tokens at its position, as (text, log-probability), most likely first.

    Log-probabilities are natural and the model's own, before temperature and top_p. The texts of a completion's
    tokens, joined, are its text; a character encoded by several tokens is assigned to the last of them.
    """

    text: str
    logprob: float
    top: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Completion:
    """A generated text, without end token and stop string.

    finish: "stop" where the model or a stop string ended it, "length" where it was cut at `max_new_tokens`.
    prompt_tokens, tokens: tokens read and generated, the end token included; None where a server does not report them.
    logprobs: the tokens of the text, where they were asked for.
    """

    text: str
    finish: Literal["stop", "length"]
    prompt_tokens: int | None
    tokens: int | None
    logprobs: tuple[Token, ...] | None = None


@dataclass(frozen=True)
class Failed:
    """A request without a completion, and the reason in one line."""

    reason: str


GenerationResult = Completion | Failed


def cut_at_stop(text: str, stop: Sequence[str]) -> str:
    """`text` up to the first stop string in it."""
    return text[:min([start for string in stop if (start := text.find(string)) >= 0], default=len(text))]


def cut_tokens(tokens: Sequence[Token], text: str) -> tuple[Token, ...]:
    """The tokens that begin within `text`."""
    start, kept = 0, []
    for token in tokens:
        if start >= len(text):
            break
        kept.append(token)
        start += len(token.text)
    return tuple(kept)
