"""A causal language model in this process as a generator."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import jinja2
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from rmkit.core.checks import InputError, Verbatim, raise_input_error
from rmkit.core.stage import input_hash, sha256_text
from rmkit.data.chat_template import FIXED_DATE
from rmkit.generation.base import Failure, Generator, Outcome, Prompt, Request, Sampling
from rmkit.generation.sampling import Draft, Writer, decode_batch, derive_key
from rmkit.models.reward_model import first_line, load_tokenizer

Group = tuple[tuple[int, ...], list[int]]  # a prompt's token ids, and the numbers of its requests


class TransformersGenerator(Generator):
    """Completions by `model`, in batches of like prompt length.

    The samples of one prompt share its states, which are computed once. A sequence's luck is drawn from its seed and
    prompt alone, so that a completion does not hang on its batch. What is left is rounding, by which logits differ
    with a batch's shape: seldom seen in float32, in bfloat16 in one completion of ten. max_tokens_per_batch: tokens, prompts'
    and new ones, whose states are held at once. name: what identifies the weights, for a cache. A prompt that leaves
    no room for `max_new_tokens` in the model's positions is a failure.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        max_tokens_per_batch: int = 32768,
        name: str | None = None,
    ) -> None:
        if max_tokens_per_batch < 1:
            raise_input_error("max_tokens_per_batch", "at least 1", max_tokens_per_batch, "Some tens of thousands is usual.")
        self.model = model
        self.tokenizer = tokenizer
        self.max_tokens_per_batch = max_tokens_per_batch
        self.name = name
        self.ends = find_ends(model, tokenizer)
        self.room: int | None = getattr(model.config.get_text_config(), "max_position_embeddings", None)

    def complete(self, requests: Sequence[Request]) -> Iterator[tuple[int, Outcome]]:
        """One outcome for each request, the longest prompts first."""
        groups: dict[Sampling, dict[tuple[int, ...], list[int]]] = {}
        for number, request in enumerate(requests):
            try:
                prompt = tuple(encode_prompt(self.tokenizer, request.prompt))
            except InputError as error:
                yield number, Failure(str(error))
                continue
            longest = len(prompt) + request.sampling.max_new_tokens
            if self.room is not None and longest > self.room:
                yield number, Failure(f"{len(prompt)} tokens of prompt and max_new_tokens "
                                      f"{request.sampling.max_new_tokens} exceed the model's {self.room} positions")
                continue
            groups.setdefault(request.sampling, {}).setdefault(prompt, []).append(number)
        was_training = self.model.training
        self.model.eval()
        try:
            for sampling, prompts in groups.items():
                for batch in cut_batches(prompts, sampling.max_new_tokens, self.max_tokens_per_batch):
                    yield from self.decode(batch, requests, sampling)
        finally:
            self.model.train(was_training)

    def decode(
        self, batch: Sequence[Group], requests: Sequence[Request], sampling: Sampling
    ) -> Iterator[tuple[int, Outcome]]:
        """One batch; where the accelerator has not the memory for it, in halves."""
        writer = Writer(self.tokenizer, sampling.stop)
        drafts = [[Draft(number, derive_key(requests[number].seed, prompt)) for number in numbers]
                  for prompt, numbers in batch]
        prompts = [prompt for prompt, _ in batch]
        try:
            decode_batch(self.model, prompts, drafts, sampling, self.ends, writer.has_stopped)
        except torch.OutOfMemoryError:
            halves = halve(batch)
            if len(halves) < 2:
                raise
        else:
            for prompt, own in zip(prompts, drafts, strict=True):
                for draft in own:
                    yield draft.number, writer.write(draft, len(prompt))
            return
        for half in halves:
            yield from self.decode(half, requests, sampling)


def cut_batches(
    prompts: dict[tuple[int, ...], list[int]], new_tokens: int, budget: int
) -> Iterator[list[Group]]:
    """Prompts with their requests, the longest first, in batches whose padded tokens are at most `budget`.

    A prompt whose requests exceed the budget by themselves is read again for each part of them, and a single request
    is a batch whatever it takes.
    """
    batch: list[Group] = []
    rows = most = 0
    for prompt in sorted(prompts, key=len, reverse=True):
        numbers = prompts[prompt]
        while numbers:
            if not batch:
                rows, most = 0, max(1, budget // (len(prompt) + new_tokens))
            if rows + len(numbers) <= most or not batch:
                batch.append((prompt, numbers[:most]))
                rows += len(batch[-1][1])
                numbers = numbers[most:]
            else:
                yield batch
                batch = []
    if batch:
        yield batch


def halve(batch: Sequence[Group]) -> list[Sequence[Group]]:
    """A batch in two: its prompts, or the requests of a single one; in one where it is a single request."""
    if len(batch) > 1:
        return [batch[:len(batch) // 2], batch[len(batch) // 2:]]
    (prompt, numbers), = batch
    middle = len(numbers) // 2
    return [[(prompt, part)] for part in (numbers[:middle], numbers[middle:]) if part]


def find_ends(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """The ids of all tokens that end a turn: chat models have some that the tokenizer does not name."""
    settings = getattr(model, "generation_config", None)
    named = getattr(settings, "eos_token_id", None)
    ends = named if isinstance(named, list) else [named]
    return frozenset(token for token in [*ends, tokenizer.eos_token_id] if token is not None)


def load_generator(
    path: str | Path,
    *,
    dtype: torch.dtype | str = "auto",
    max_tokens_per_batch: int = 32768,
    trust_remote_code: bool = False,
) -> TransformersGenerator:
    """The causal language model at `path`, on the accelerator where there is one, named by its files.

    `dtype`: "auto" takes the checkpoint's. Raises `InputError` when there is no such model at `path`.
    """
    tokenizer = load_tokenizer(path, trust_remote_code=trust_remote_code)
    try:
        model = AutoModelForCausalLM.from_pretrained(
            path, dtype=dtype, use_safetensors=True, trust_remote_code=trust_remote_code
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise_input_error(
            f"model {path}",
            "a causal language model's folder or hub name, with safetensors weights",
            Verbatim(first_line(error)),
            "Check the path and the model's kind.",
        )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    name = sha256_text(f"{input_hash(path)} {model.dtype} {device}")
    return TransformersGenerator(model.eval().to(device), tokenizer, max_tokens_per_batch=max_tokens_per_batch, name=name)


def encode_prompt(tokenizer: PreTrainedTokenizerBase, prompt: Prompt) -> list[int]:
    """Token ids that the model continues, as `rmkit.data.chat_template.encode` gives them to a reward model.

    What the tokenizer puts before a text (BOS) is there once, whether it is the template that writes it or the
    tokenizer; what it puts behind (EOS) is left out. Raises `InputError` when the template refuses the messages, or
    when there are no tokens.
    """
    text = prompt if isinstance(prompt, str) else render_turns(tokenizer, prompt)
    encoding = tokenizer(text, add_special_tokens=True, return_special_tokens_mask=True, verbose=False)
    ids, added = list(encoding["input_ids"]), list(encoding["special_tokens_mask"])
    if 0 not in added:
        raise_input_error("prompt", "a text with tokens", text, "Leave it out.")
    before, body = ids[:added.index(0)], ids[added.index(0):len(added) - added[::-1].index(0)]
    return body if body[:len(before)] == before else before + body


def render_turns(tokenizer: PreTrainedTokenizerBase, prompt: Prompt) -> str:
    """The conversation as text, with the generation prompt, and any date in it fixed."""
    try:
        template = FIXED_DATE + tokenizer.get_chat_template()
        plain = [dict(message) for message in prompt if not isinstance(message, str)]
        return str(tokenizer.apply_chat_template(
            plain, chat_template=template, tokenize=False, add_generation_prompt=True
        ))
    except (jinja2.TemplateError, TypeError, ValueError, KeyError) as error:
        raise InputError(f"chat template: {' '.join(str(error).split())}") from None
