"""Batches of pairs: packed without padding where the model allows it, padded where not."""

import logging
from collections.abc import Mapping
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainingArguments

from rmkit.data.collators import PairCollator, PairPacker, repeat_packed
from rmkit.models.packed_attention import enable_packing, packing_unsupported_reason

logger = logging.getLogger(__name__)


def choose_collator(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, args: TrainingArguments, max_length: int
) -> PairPacker | PairCollator:
    """A packing collator, with `model` prepared for it; or a padding one, with the reason logged."""
    reason = packing_unsupported_reason(model, max_length)
    if args.n_gpu > 1:
        reason = "one packed row cannot be split over several GPUs; start a process for each"
    if reason is None:
        enable_packing(model)
        return PairPacker()
    if args.process_index == 0:
        logger.warning("Training on padded batches: %s.", reason)
    return PairCollator(tokenizer)


def count_pairs(batch: Mapping[str, Any]) -> int:
    """The number of pairs in a batch."""
    return len(batch["last"] if "segments" in batch else batch["input_ids"]) // 2


def take_tokens(batch: Mapping[str, Any], views: int) -> dict[str, Any]:
    """The model's inputs of a batch, `views` times: its rewards are [view, (chosen, rejected), pair]."""
    if "segments" in batch:
        return repeat_packed(batch, views)
    return {name: batch[name].repeat(views, 1) for name in ("input_ids", "attention_mask")}
