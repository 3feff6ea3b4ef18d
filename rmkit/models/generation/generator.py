"""The interface: prompts to completions, whoever makes them."""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import GeneratorType

from tqdm import tqdm

from rmkit.core.checks import Seen, refuse
from rmkit.core.seeds import derive_seed
from rmkit.models.generation.cache import open_cache
from rmkit.models.generation.outcomes import Completion, Outcome
from rmkit.models.generation.requests import Prompt, Request, Sampling, check_prompt


def derive_sample(seed: int, sample: int) -> int:
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
            refuse("samples", "at least 1, and 1 at temperature 0, where all are the same", samples, "Change either.")
        if cache is not None and self.name is None:
            refuse("cache", "a generator with a name", Seen("one without"), "Name it, or leave the cache out.")
        for number, prompt in enumerate(prompts):
            check_prompt(prompt, number)
        seeds = [derive_sample(seed, sample) for sample in range(samples)]
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
