"""Completions by a causal language model in this process, with `model.generate`."""

import contextlib
import json
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
import torch
from tokenizers.decoders import DecodeStream
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from rmkit.core.checks import InputError, raise_input_error
from rmkit.core.seeds import derive_seed
from rmkit.core.stage import input_hash, sha256_text
from rmkit.data.chat_template import FIXED_DATE
from rmkit.generation.base import Generator, Prompt, Request, Sampling
from rmkit.generation.results import Completion, Failed, GenerationResult, Token, cut_at_stop, cut_tokens
from rmkit.models.reward_model import eval_mode, load_language_model, load_tokenizer


@dataclass(frozen=True)
class Row:
    """A request with the token ids of its prompt."""

    index: int
    seed: int
    prompt: list[int]


class TransformersGenerator(Generator):
    """Completions by `model.generate`, in batches of similar prompt length.

    Each batch is sampled under a seed derived from its requests (their seeds and prompts). A call that is repeated or
    resumed gives the same completions; a completion may differ when it is requested together with others or with
    another `max_tokens_per_batch`. max_tokens_per_batch: tokens of prompts (padded) and completions together; a batch
    that exceeds the accelerator's memory is split. name: identifies the weights in a cache. The model's own generation
    settings are ignored, but for its end tokens. A prompt that leaves no positions for `max_new_tokens` is a failure.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        max_tokens_per_batch: int = 32768,
        name: str | None = None,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.max_tokens_per_batch = max_tokens_per_batch
        self.name = name
        self.end_tokens = eos_token_ids(model, tokenizer)
        self.max_positions: int | None = getattr(model.config.get_text_config(), "max_position_embeddings", None)

    def complete(self, requests: Sequence[Request]) -> Iterator[tuple[int, GenerationResult]]:
        """The index and the result of each request, the longest prompts first."""
        return self.complete_missing(requests, ())

    def complete_missing(
        self, requests: Sequence[Request], done: Container[int]
    ) -> Iterator[tuple[int, GenerationResult]]:
        """`complete` without the indices in `done`; batches are cut from all requests, so that they stay the same."""
        rows: dict[Sampling, list[Row]] = {}
        for index, request in enumerate(requests):
            try:
                prompt = self.encode(request)
            except InputError as error:
                if index not in done:
                    yield index, Failed(str(error))
            else:
                rows.setdefault(request.sampling, []).append(Row(index, request.seed, prompt))
        with plain_generation(self.model):
            for sampling, same_sampling in rows.items():
                for batch in split_into_batches(same_sampling, sampling.max_new_tokens, self.max_tokens_per_batch):
                    if any(row.index not in done for row in batch):
                        results = zip(batch, self.generate_batch(batch, sampling), strict=True)
                        yield from ((row.index, result) for row, result in results if row.index not in done)

    def encode(self, request: Request) -> list[int]:
        """The ids of a prompt. Raises `InputError` for one that cannot be continued."""
        prompt = encode_prompt(self.tokenizer, request.prompt)
        new_tokens = request.sampling.max_new_tokens
        if self.max_positions is not None and len(prompt) + new_tokens > self.max_positions:
            raise InputError(f"{len(prompt)} tokens of prompt and max_new_tokens {new_tokens} exceed the model's "
                             f"{self.max_positions} positions")
        return prompt

    def generate_batch(self, batch: Sequence[Row], sampling: Sampling) -> list[GenerationResult]:
        """The results of one batch; where the accelerator runs out of memory, of its halves."""
        with contextlib.suppress(*[torch.OutOfMemoryError] if len(batch) > 1 else []):
            return self.sample(batch, sampling)
        middle = len(batch) // 2
        return self.generate_batch(batch[:middle], sampling) + self.generate_batch(batch[middle:], sampling)

    def sample(self, batch: Sequence[Row], sampling: Sampling) -> list[GenerationResult]:
        """The results of one batch."""
        device = self.model.device
        prompts = [torch.tensor(row.prompt, device=device) for row in batch]
        ids, mask = (pad_sequence(rows, batch_first=True, padding_side="left")
                     for rows in (prompts, [torch.ones_like(prompt) for prompt in prompts]))
        recorder = LogitsRecorder(sampling.top_logprobs)
        drawn = {"do_sample": True, "temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0}
        config = GenerationConfig(
            max_new_tokens=sampling.max_new_tokens,
            eos_token_id=sorted(self.end_tokens) or None,
            pad_token_id=min(self.end_tokens, default=0),  # one that the model has: it reads what follows an end
            stop_strings=list(sampling.stop) or None,
            **(drawn if sampling.temperature else {"do_sample": False}),
        )
        content = sha256_text(json.dumps([[row.seed, row.prompt] for row in batch]))
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(derive_seed(0, "batch", content))
            sequences = self.model.generate(  # type: ignore[operator]
                input_ids=ids, attention_mask=mask, generation_config=config, tokenizer=self.tokenizer,
                logits_processor=LogitsProcessorList([recorder]),
            )
        recorder.finish(sequences)
        return [self.read_sequence(row, ids, sampling, recorder, number) for number, (row, ids)
                in enumerate(zip(batch, sequences[:, ids.shape[1]:].tolist(), strict=True))]

    def read_sequence(
        self, row: Row, ids: list[int], sampling: Sampling, recorder: "LogitsRecorder", number: int
    ) -> GenerationResult:
        """The result of line `number` of a batch from its generated ids, in which end tokens follow the end."""
        length = next((step for step, token in enumerate(ids) if token in self.end_tokens), len(ids))
        full_text = str(self.tokenizer.decode(
            ids[:length], skip_special_tokens=True, clean_up_tokenization_spaces=False
        ))
        text = cut_at_stop(full_text, sampling.stop)
        stopped = text != full_text
        tokens = length if stopped or length == len(ids) else length + 1
        if True in recorder.broken[number][:tokens]:
            return Failed(f"the model's logits are not finite at token {recorder.broken[number].index(True) + 1}")
        logprobs = None
        if sampling.top_logprobs:
            texts = split_text(self.tokenizer, ids[:length], full_text)
            logprobs = cut_tokens([
                Token(part, logprob, tuple((str(self.tokenizer.decode([token])), value)
                                           for token, value in zip(likely, values, strict=True)))
                for part, (logprob, likely, values) in zip(texts, recorder.tokens[number], strict=False)
            ], text)
        return Completion(text, "stop" if stopped or length < len(ids) else "length", len(row.prompt), tokens, logprobs)


class LogitsRecorder(LogitsProcessor):
    """Records the log-probabilities of each step, and replaces logits that are not finite: sampling would crash.

    broken: [row][step], whether the logits were not finite. tokens: [row][step], the log-probability of the drawn token
    and the ids and log-probabilities of the `top_logprobs` most likely ones. Both are complete after `finish`.
    """

    def __init__(self, top_logprobs: int) -> None:
        self.top_logprobs = top_logprobs
        self.broken: list[list[bool]] = []
        self.tokens: list[list[tuple[float, list[int], list[float]]]] = []
        self.logprobs: Tensor | None = None
        self.steps: list[tuple[Tensor, ...]] = []
        self.drawn: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """The logits to sample from, [row, vocabulary]."""
        self.record_drawn(input_ids)
        broken = ~scores.amax(-1).isfinite()
        self.logprobs = scores.log_softmax(-1)
        top = self.logprobs.topk(min(self.top_logprobs, scores.shape[-1]))
        self.steps.append((broken, top.indices, top.values))
        return scores.masked_fill(broken[:, None], 0.0)

    def record_drawn(self, input_ids: Tensor) -> None:
        """Record the log-probability of the last of the ids, [row, token], drawn since the last step."""
        if self.logprobs is not None:
            self.drawn.append(self.logprobs.gather(-1, input_ids[:, -1:])[:, 0])

    def finish(self, sequences: Tensor) -> None:
        """Collect what was recorded; `sequences` [row, token] are all ids of the batch."""
        self.record_drawn(sequences)
        columns = [self.drawn, *zip(*self.steps, strict=True)]
        drawn, self.broken, likely, values = (torch.stack(list(column), 1).tolist() for column in columns)
        self.tokens = [list(zip(*row, strict=True)) for row in zip(drawn, likely, values, strict=True)]


def split_text(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], text: str) -> list[str]:
    """The part of `text` that each token adds; a character encoded by several tokens is assigned to the last."""
    stream = DecodeStream(skip_special_tokens=True)
    parts = [stream.step(tokenizer.backend_tokenizer, token) or "" for token in ids]
    if parts:
        parts[-1] += text[sum(map(len, parts)):]  # bytes that became no character
    return parts


@contextlib.contextmanager
def plain_generation(model: PreTrainedModel) -> Iterator[None]:
    """The model without dropout and without generation settings of its own, such as a repetition penalty."""
    settings, model.generation_config = model.generation_config, GenerationConfig()
    try:
        with eval_mode(model):
            yield
    finally:
        model.generation_config = settings


def split_into_batches(rows: Sequence[Row], new_tokens: int, budget: int) -> Iterator[list[Row]]:
    """`rows`, the longest prompts first, in batches whose padded tokens are at most `budget`, or of a single row."""
    remaining = sorted(rows, key=lambda row: -len(row.prompt))
    while remaining:
        size = max(1, budget // (len(remaining[0].prompt) + new_tokens))
        yield remaining[:size]
        remaining = remaining[size:]


def eos_token_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """The ids of all tokens that end a turn; chat models have some that the tokenizer does not name."""
    named = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    ids = [*(named if isinstance(named, list) else [named]), tokenizer.eos_token_id]
    return frozenset(token for token in ids if token is not None)


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
    model = load_language_model(path, dtype=dtype, trust_remote_code=trust_remote_code)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    name = sha256_text(f"{input_hash(path)} {model.dtype} {device}")
    model.eval().to(device)
    return TransformersGenerator(model, tokenizer, max_tokens_per_batch=max_tokens_per_batch, name=name)


def encode_prompt(tokenizer: PreTrainedTokenizerBase, prompt: Prompt) -> list[int]:
    """The token ids of a prompt, as `rmkit.data.chat_template.encode` gives them to a reward model.

    Special tokens before the text (BOS) are there once, whether the template or the tokenizer adds them; those behind
    it (EOS) are left out. Raises `InputError` when the template refuses the messages, or when there are no tokens.
    """
    text = prompt if isinstance(prompt, str) else render_messages(tokenizer, prompt)
    encoding = tokenizer(text, add_special_tokens=True, return_special_tokens_mask=True, verbose=False)
    ids, special = list(encoding["input_ids"]), list(encoding["special_tokens_mask"])
    if 0 not in special:
        raise_input_error("prompt", "a text with tokens", text, "Leave it out.")
    start, end = special.index(0), len(special) - special[::-1].index(0)
    before, body = ids[:start], ids[start:end]
    return body if body[:start] == before else before + body


def render_messages(tokenizer: PreTrainedTokenizerBase, prompt: Prompt) -> str:
    """The messages as text, with the generation prompt and a fixed date."""
    try:
        template = FIXED_DATE + tokenizer.get_chat_template()
        messages = [dict(message) for message in prompt if not isinstance(message, str)]
        return str(tokenizer.apply_chat_template(
            messages, chat_template=template, tokenize=False, add_generation_prompt=True
        ))
    except (jinja2.TemplateError, TypeError, ValueError, KeyError) as error:
        raise InputError(f"chat template: {' '.join(str(error).split())}") from None
