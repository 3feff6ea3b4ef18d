"""One batch, decoded: each prompt read once, its states then shared out to all of its samples."""

import hashlib
import inspect
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from tokenizers.decoders import DecodeStream
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rmkit.generation.base import Completion, Failure, Finish, Outcome, Sampling, Token, cut_at_stop, cut_tokens


@dataclass
class Draft:
    """A completion in the making.

    number: its request's; key: of its luck; ids: what was drawn, the end token with it; chances [token]: the
    log-probability of what was drawn, then ids and log-probabilities of the likeliest; fault: why nothing comes of it.
    """

    number: int
    key: int
    ids: list[int] = field(default_factory=list)
    chances: list[tuple[float, list[int], list[float]]] = field(default_factory=list)
    finish: Finish = "length"
    ended: bool = False
    fault: str | None = None


@torch.inference_mode()
def decode_batch(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    drafts: Sequence[Sequence[Draft]],
    sampling: Sampling,
    ends: frozenset[int],
    stops: Callable[[list[int]], bool],
) -> None:
    """Fill `drafts` [prompt][sample]; `ends` are the end tokens, `stops` says of ids that a stop string has come.

    Prompts are padded on the left. Sequences that have ended leave the batch, and their states with them.
    """
    rows = [draft for own in drafts for draft in own]
    owner = torch.tensor([prompt for prompt, own in enumerate(drafts) for _ in own], device=model.device)
    keys = torch.tensor([draft.key for draft in rows], device=model.device)
    tokens, mask = pad_left(prompts, model.device)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    last_alone = {"logits_to_keep": 1} if "logits_to_keep" in inspect.signature(model.forward).parameters else {}
    output = model(input_ids=tokens, attention_mask=mask, position_ids=positions, use_cache=True, **last_alone)
    states = output.past_key_values
    states.reorder_cache(owner)
    mask, positions, logits = mask[owner], positions[owner, -1:], output.logits[owner, -1].float()
    while True:
        drawn = draw_tokens(logits, keys, len(rows[0].ids), sampling.temperature, sampling.top_p)
        note_tokens(rows, logits, drawn, sampling.top_logprobs)
        going = [row for row, draft in enumerate(rows) if goes_on(draft, sampling.max_new_tokens, ends, stops)]
        if not going:
            return
        if len(going) < len(rows):
            rows = [rows[row] for row in going]
            kept = torch.tensor(going, device=model.device)
            states.reorder_cache(kept)
            mask, positions, keys, drawn = mask[kept], positions[kept], keys[kept], drawn[kept]
        mask = torch.cat([mask, mask.new_ones(len(rows), 1)], 1)
        positions = positions + 1
        output = model(
            input_ids=drawn[:, None], attention_mask=mask, position_ids=positions, past_key_values=states,
            use_cache=True,
        )
        logits = output.logits[:, -1].float()


def note_tokens(rows: Sequence[Draft], logits: Tensor, drawn: Tensor, top: int) -> None:
    """Write one step's tokens [row], and with `top` their log-probabilities, into the drafts."""
    finite = logits.amax(-1).isfinite().tolist()
    if top:
        logprobs = logits.log_softmax(-1)
        values, places = logprobs.topk(min(top, logprobs.shape[-1]), -1)
        chances = zip(logprobs.gather(-1, drawn[:, None])[:, 0].tolist(), places.tolist(), values.tolist(), strict=True)
        for draft, chance in zip(rows, chances, strict=True):
            draft.chances.append(chance)
    for draft, token, sound in zip(rows, drawn.tolist(), finite, strict=True):
        draft.ids.append(token)
        if not sound:
            draft.fault = f"the model's logits are not finite at token {len(draft.ids)}"


def goes_on(draft: Draft, most: int, ends: frozenset[int], stops: Callable[[list[int]], bool]) -> bool:
    """Whether another token is to be drawn; notes why not."""
    draft.ended = draft.ids[-1] in ends
    if draft.ended or stops(draft.ids):
        draft.finish = "stop"
        return False
    return draft.fault is None and len(draft.ids) < most


def pad_left(prompts: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids and attention mask [prompt, token]."""
    width = max(map(len, prompts))
    mask = torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids in prompts], device=device)
    return torch.tensor([[0] * (width - len(ids)) + list(ids) for ids in prompts], device=device), mask


GOLDEN, FIRST, SECOND = -0x61C8864680B583EB, -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15  # SplitMix64's, as signed


def derive_key(seed: int, prompt: Sequence[int]) -> int:
    """64 bits (signed) from which all of a sequence's luck follows: from its seed and the ids of its prompt."""
    text = json.dumps([seed, list(prompt)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big", signed=True)


def draw_tokens(logits: Tensor, keys: Tensor, step: int, temperature: float, top_p: float) -> Tensor:
    """Token ids [row] from logits [row, vocabulary], as the token number `step` of the sequences of these keys [row].

    argmax of logits / temperature + Gumbel noise, which draws from their softmax; before that tokens outside of the
    nucleus (arXiv 1904.09751, Section 3.1: the smallest set of likeliest tokens whose probability is `top_p` or more)
    are left out. A change of the logits in their last bits changes the token about as seldom as it changes their
    probabilities; cumulated probabilities, compared with one random number, would do so once for each token of the
    vocabulary.
    """
    if temperature == 0:
        return logits.argmax(-1)
    scaled = logits.double() / temperature
    if top_p < 1:
        ordered, places = scaled.softmax(-1).sort(-1, descending=True)
        outside = ordered.cumsum(-1) - ordered >= top_p
        scaled = scaled.masked_fill(outside.scatter(-1, places, outside), -torch.inf)
    numbers = step * scaled.shape[1] + torch.arange(scaled.shape[1], device=scaled.device)
    return (scaled + draw_gumbel(keys[:, None], numbers)).argmax(-1)


def draw_gumbel(keys: Tensor, numbers: Tensor) -> Tensor:
    """Gumbel noise, float64: that of the uniform numbers with these places in the SplitMix64 streams of these keys.

    The streams (Steele et al. 2014, Figure 16) can be entered anywhere, and are the same on every device.
    """
    uniform = (shift_right(split_mix(keys, numbers), 12).double() + 0.5) * 2.0**-52
    return -(-uniform.log()).log()


def split_mix(keys: Tensor, numbers: Tensor) -> Tensor:
    """The integers with places `numbers` (from 0) in the SplitMix64 streams seeded by `keys`; int64, which wraps."""
    mixed = keys + (numbers + 1) * GOLDEN
    mixed = (mixed ^ shift_right(mixed, 30)) * FIRST
    mixed = (mixed ^ shift_right(mixed, 27)) * SECOND
    return mixed ^ shift_right(mixed, 31)


def shift_right(bits: Tensor, count: int) -> Tensor:
    """int64 shifted as if it had no sign."""
    return (bits >> count) & ((1 << (64 - count)) - 1)


SLACK = 8  # tokens that may carry no character of their own: bytes of one, or special tokens


class Writer:
    """Turns token ids into completions; `stop` are the strings that end a text."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stop: tuple[str, ...]) -> None:
        self.tokenizer = tokenizer
        self.stop = stop
        self.reach = max(map(len, stop), default=0) + SLACK  # tokens that a stop string can lie in

    def decode(self, ids: list[int]) -> str:
        """Text of generated ids, without special tokens."""
        return str(self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def has_stopped(self, ids: list[int]) -> bool:
        """Whether a stop string stands in the text of `ids`, of which all but the last have been asked about."""
        if not any(string in self.decode(ids[-self.reach:]) for string in self.stop):
            return False
        text = self.decode(ids)
        return cut_at_stop(text, self.stop) != text

    def write(self, draft: Draft, prompt_tokens: int) -> Outcome:
        """What a draft comes to."""
        if draft.fault is not None:
            return Failure(draft.fault)
        ids = draft.ids[:-1] if draft.ended else draft.ids
        whole = self.decode(ids)
        text = cut_at_stop(whole, self.stop)
        tokens = cut_tokens(self.split(ids, draft, whole), text) if draft.chances else None
        return Completion(text, draft.finish, prompt_tokens, len(draft.ids), tokens)

    def split(self, ids: list[int], draft: Draft, text: str) -> list[Token]:
        """The tokens of a text, with their own parts of it; a character of several is with the last of them."""
        stream = DecodeStream(skip_special_tokens=True)
        parts = [stream.step(self.tokenizer.backend_tokenizer, token) or "" for token in ids]
        if parts:
            parts[-1] += text[sum(map(len, parts)):]  # bytes that became no character
        return [
            Token(part, logprob, tuple((str(self.tokenizer.decode([token])), value) for token, value in zip(
                likely, values, strict=True)))
            for part, (logprob, likely, values) in zip(parts, draft.chances, strict=False)
        ]
