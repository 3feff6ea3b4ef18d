"""Requests: one prompt, how its continuation is drawn, and the seed of the draw."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from rmkit.core.checks import Seen, refuse
from rmkit.core.stages import digest

Prompt = str | Sequence[Mapping[str, str]]


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn: softmax(logits / temperature), cut to its likeliest tokens of total probability `top_p`.

    temperature: 0 takes the likeliest token each time. max_new_tokens: with the end token. stop: strings; the text
    ends before the first of them. top_logprobs: so many likeliest tokens are given with each drawn one; 0 gives no
    probabilities. Raises `InputError` for values out of range.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    max_new_tokens: int = 512
    stop: tuple[str, ...] = ()
    top_logprobs: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:
            refuse("temperature", "a finite number, 0 or more", self.temperature, "1 draws from the model as it is.")
        if not 0 < self.top_p <= 1:
            refuse("top_p", "a share above 0 and at most 1", self.top_p, "1 keeps every token.")
        if self.max_new_tokens < 1:
            refuse("max_new_tokens", "at least 1", self.max_new_tokens, "Raise it.")
        if isinstance(self.stop, str) or not all(self.stop):
            refuse("stop", "a tuple of strings, none of them empty", self.stop, "Write (string,) for one.")
        if not 0 <= self.top_logprobs <= 20:
            refuse("top_logprobs", "0 to 20, the most that servers give", self.top_logprobs, "Lower it.")


@dataclass(frozen=True)
class Request:
    """One completion to be made. Equal requests to one model have equal completions.

    prompt: text, continued as it stands, or chat messages, put into the model's template with its generation prompt.
    """

    prompt: Prompt
    sampling: Sampling
    seed: int

    def make_key(self, generator: str) -> str:
        """What identifies the completion of this request by the generator of that name."""
        parts = [generator, self.prompt, asdict(self.sampling), self.seed]
        return digest(json.dumps(parts, sort_keys=True, default=dict))


def check_prompt(prompt: Prompt, number: int) -> None:
    """Refuse a prompt that leaves nothing to continue, or messages that end with the turn that is to be made."""
    if not prompt:
        refuse(f"prompt {number}", "a text or messages", prompt, "Leave it out.")
    if not isinstance(prompt, str) and prompt[-1]["role"] == "assistant":
        refuse(f"prompt {number}", "messages that end with another's turn", Seen("one that ends with the assistant's"),
               "Leave the last message out, or give the rendered text.")
