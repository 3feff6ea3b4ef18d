"""The interface: prompts to completions, whoever makes them."""

import contextlib
import json
import math
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import GeneratorType
from typing import Literal

from pydantic import TypeAdapter, ValidationError
from tqdm import tqdm

from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.core.seeds import derive_seed
from rmkit.core.stage import sha256_text

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
            raise_input_error(
                "temperature", "a finite number, 0 or more", self.temperature, "1 draws from the model as it is."
            )
        if not 0 < self.top_p <= 1:
            raise_input_error("top_p", "a share above 0 and at most 1", self.top_p, "1 keeps every token.")
        if self.max_new_tokens < 1:
            raise_input_error("max_new_tokens", "at least 1", self.max_new_tokens, "Raise it.")
        if isinstance(self.stop, str) or not all(self.stop):
            raise_input_error("stop", "a tuple of strings, none of them empty", self.stop, "Write (string,) for one.")
        if not 0 <= self.top_logprobs <= 20:
            raise_input_error("top_logprobs", "0 to 20, the most that servers give", self.top_logprobs, "Lower it.")


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
        return sha256_text(json.dumps(parts, sort_keys=True, default=dict))


def check_prompt(prompt: Prompt, number: int) -> None:
    """Refuse a prompt that leaves nothing to continue, or messages that end with the turn that is to be made."""
    if not prompt:
        raise_input_error(f"prompt {number}", "a text or messages", prompt, "Leave it out.")
    if not isinstance(prompt, str) and prompt[-1]["role"] == "assistant":
        raise_input_error(
            f"prompt {number}",
            "messages that end with another's turn",
            Verbatim("one that ends with the assistant's"),
            "Leave the last message out, or give the rendered text.",
        )


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


COMPLETION = TypeAdapter(Completion)


def derive_sample_seed(seed: int, sample: int) -> int:
    """The seed under which the sample of that number is drawn in a run under `seed`."""
    return derive_seed(seed, "sample", sample)


class Generator(ABC):
    """Makes completions. `name` identifies the model for a cache; None where nothing does."""

    name: str | None

    @abstractmethod
    def complete(self, requests: Sequence[Request]) -> Iterator[tuple[int, Outcome]]:
        """One outcome for each request, with its number, in the order in which they are ready."""

    def generate(
        self,
        prompts: Sequence[Prompt],
        *,
        samples: int = 1,
        sampling: Sampling,
        seed: int,
        cache: str | Path | None = None,
    ) -> list[list[Outcome]]:
        """Outcomes [prompt][sample], in the order of `prompts`.

        Sample k of a prompt follows from prompt, sampling, seed and k alone: not from `samples` or the other prompts,
        and equal prompts have equal samples. With `cache`, a file, completions are kept as they come, and those that
        it has are not made again; failures are not kept. Raises `InputError` for several samples at temperature 0,
        prompts with nothing to continue, and a cache for a model without a name.
        """
        if samples < 1 or (samples > 1 and sampling.temperature == 0):
            raise_input_error(
                "samples", "at least 1, and 1 at temperature 0, where all are the same", samples, "Change either."
            )
        if cache is not None and self.name is None:
            raise_input_error(
                "cache", "a generator with a name", Verbatim("one without"), "Name it, or leave the cache out."
            )
        for number, prompt in enumerate(prompts):
            check_prompt(prompt, number)
        seeds = [derive_sample_seed(seed, sample) for sample in range(samples)]
        requests = [Request(prompt, sampling, each) for prompt in prompts for each in seeds]
        keys = [request.make_key(self.name or "") for request in requests]
        outcomes: dict[str, Outcome] = {}
        with contextlib.ExitStack() as stack:
            kept = stack.enter_context(open_cache(cache)) if cache is not None else None
            if kept is not None:
                outcomes.update((key, kept.found[key]) for key in keys if key in kept.found)
            missing = {key: request for key, request in zip(keys, requests, strict=True) if key not in outcomes}
            numbered = list(missing)
            bar = stack.enter_context(tqdm(desc="Generating", total=len(keys), unit="completion"))
            bar.update(len(keys) - len(missing))
            made = self.complete(list(missing.values()))
            if isinstance(made, GeneratorType):
                stack.enter_context(contextlib.closing(made))  # whatever ends this ends the calls too
            for number, outcome in made:
                outcomes[numbered[number]] = outcome
                if kept is not None and isinstance(outcome, Completion):
                    kept.add(numbered[number], outcome)
                bar.update()
        return [[outcomes[key] for key in keys[start:start + samples]] for start in range(0, len(keys), samples)]


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


class Cache:
    """Completions by the key of their request, one JSON line each.

    A line is written by one call, with a line break before it: what a killed process leaves of one spoils no other.
    Several processes may append to one file. Lines that cannot be read are passed over, so that their requests are
    asked again; the last line of a key counts.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.descriptor = descriptor
        self.found: dict[str, Completion] = {}
        with path.open("rb") as file:
            for line in file:
                with contextlib.suppress(ValueError, TypeError, KeyError, ValidationError):
                    record = json.loads(line)
                    self.found[record["key"]] = COMPLETION.validate_python(record["completion"])

    def add(self, key: str, completion: Completion) -> None:
        """Keep a completion; it is in the file when this returns."""
        self.found[key] = completion
        line = memoryview(json.dumps({"key": key, "completion": asdict(completion)}).join("\n\n").encode())
        while line:
            line = line[os.write(self.descriptor, line):]


@contextlib.contextmanager
def open_cache(path: str | Path) -> Iterator[Cache]:
    """The cache in the file at `path`, made where there is none. Raises `InputError` where it cannot be written."""
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    except OSError as error:
        raise_input_error(f"cache {path}", "a file that can be written", Verbatim(error), "Name another.")
    try:
        yield Cache(path, descriptor)
    finally:
        os.close(descriptor)
