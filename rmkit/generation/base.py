"""The interface of all generators: requests in, completions or failures out."""

import contextlib
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import GeneratorType

from tqdm import tqdm

from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.core.seeds import derive_seed
from rmkit.core.stage import sha256_text
from rmkit.generation.cache import open_cache
from rmkit.generation.results import Completion, GenerationResult

Prompt = str | Sequence[Mapping[str, str]]


@dataclass(frozen=True)
class Sampling:
    """Sampling parameters: tokens are drawn from softmax(logits / temperature), cut to the `top_p` nucleus.

    temperature: 0 is greedy decoding. max_new_tokens: includes the end token. stop: strings; the text ends before the
    first of them. top_logprobs: number of most likely tokens reported at each position; 0 reports no
    log-probabilities. Raises `InputError` for values out of range.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    max_new_tokens: int = 512
    stop: tuple[str, ...] = ()
    top_logprobs: int = 0

    def __post_init__(self) -> None:
        for name, valid, expected in (
            ("temperature", 0 <= self.temperature < math.inf, "a finite number >= 0"),
            ("top_p", 0 < self.top_p <= 1, "a number above 0 and at most 1"),
            ("max_new_tokens", self.max_new_tokens >= 1, "at least 1"),
            ("stop", not isinstance(self.stop, str) and all(self.stop), "a tuple of strings, none of them empty"),
            ("top_logprobs", 0 <= self.top_logprobs <= 20, "0 to 20, the most that servers give"),
        ):
            if not valid:
                raise_input_error(name, expected, getattr(self, name), "Change it.")


@dataclass(frozen=True)
class Request:
    """One completion to generate.

    prompt: text, continued as it is, or chat messages, rendered by the model's template with its generation prompt.
    """

    prompt: Prompt
    sampling: Sampling
    seed: int

    def cache_key(self, generator: str) -> str:
        """Identifies the completion of this request by the generator of that name."""
        parts = [generator, self.prompt, asdict(self.sampling), self.seed]
        return sha256_text(json.dumps(parts, sort_keys=True, default=dict))


def check_prompt(prompt: Prompt, number: int) -> None:
    """Refuse an empty prompt, and messages that end with an assistant's turn."""
    if not prompt:
        raise_input_error(f"prompt {number}", "a text or messages", prompt, "Leave it out.")
    if not isinstance(prompt, str) and prompt[-1]["role"] == "assistant":
        raise_input_error(
            f"prompt {number}",
            "messages that do not end with the assistant's turn",
            Verbatim("an assistant's turn at the end"),
            "Leave the last message out, or give the rendered text.",
        )


def derive_sample_seed(seed: int, sample: int) -> int:
    """The seed of sample number `sample` in a run under `seed`."""
    return derive_seed(seed, "sample", sample)


class Generator(ABC):
    """Generates completions. `name` identifies the model in a cache; a generator without a name cannot be cached."""

    name: str | None

    @abstractmethod
    def complete(self, requests: Sequence[Request]) -> Iterator[tuple[int, GenerationResult]]:
        """The index and the result of each request, in the order in which they are ready."""

    def complete_missing(
        self, requests: Sequence[Request], done: Container[int]
    ) -> Iterator[tuple[int, GenerationResult]]:
        """`complete` without the indices in `done`. Overridden where a result depends on the batch it is in."""
        missing = [index for index in range(len(requests)) if index not in done]
        for index, result in self.complete([requests[index] for index in missing]):
            yield missing[index], result

    def generate(
        self,
        prompts: Sequence[Prompt],
        *,
        samples: int = 1,
        sampling: Sampling,
        seed: int,
        cache: str | Path | None = None,
    ) -> list[list[GenerationResult]]:
        """`samples` completions of each prompt, [prompt][sample], in the order of `prompts`.

        Equal prompts get equal samples. `cache`: a JSON-lines file to which completions are written as they come, and
        from which a resumed call takes them; failures are not written. Raises `InputError` for several samples at
        temperature 0, invalid prompts, and a cache for a generator without a name.
        """
        if samples < 1 or (samples > 1 and sampling.temperature == 0):
            raise_input_error(
                "samples", "at least 1, and 1 at temperature 0, where all are the same", samples, "Change either."
            )
        if cache is not None and self.name is None:
            raise_input_error("cache", "a generator with a name", Verbatim("none"), "Name it, or leave the cache out.")
        for number, prompt in enumerate(prompts):
            check_prompt(prompt, number)
        seeds = [derive_sample_seed(seed, sample) for sample in range(samples)]
        requests = [Request(prompt, sampling, each) for prompt in prompts for each in seeds]
        keys = [request.cache_key(self.name or "") for request in requests]
        unique = dict(zip(keys, requests, strict=True))
        unique_keys = list(unique)
        results: dict[str, GenerationResult] = {}
        with contextlib.ExitStack() as stack:
            writer = stack.enter_context(open_cache(cache)) if cache is not None else None
            if writer is not None:
                results.update((key, writer.completions[key]) for key in unique if key in writer.completions)
            bar = tqdm(desc="Generating", total=len(unique), initial=len(results), unit="completion")
            stack.enter_context(bar)
            done = {index for index, key in enumerate(unique_keys) if key in results}
            generated = self.complete_missing(list(unique.values()), done)
            if isinstance(generated, GeneratorType):
                stack.enter_context(contextlib.closing(generated))  # an error here cancels the pending requests
            for index, result in generated:
                results[unique_keys[index]] = result
                if writer is not None and isinstance(result, Completion):
                    writer.add(unique_keys[index], result)
                bar.update()
        return [[results[key] for key in keys[start:start + samples]] for start in range(0, len(keys), samples)]
