"""One batch, decoded: each prompt read once, its states then shared out to all of its samples."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import PreTrainedModel

from rmkit.models.generation.drawing import draw_tokens
from rmkit.models.generation.outcomes import Finish
from rmkit.models.generation.requests import Sampling


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
