"""Collation: pairs into token ids, and rows of token ids into padded batches."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from rmkit.core.checks import InputError, Seen, refuse
from rmkit.data.chat import OverLong, encode

LABELS = ("target", "margin")


def encode_pairs(dataset: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Dataset:
    """Token ids of every pair: `input_ids_chosen`, `input_ids_rejected`, and `length`, the longer one's, in tokens.

    `target` and `margin` are kept where the dataset has them; the order of the rows is kept. Prompts are cut from
    the left, each side by itself. Raises `OverLong` naming the pair whose response alone exceeds `max_length`.
    """
    kept = [name for name in LABELS if name in dataset.column_names]
    return dataset.map(
        encode_pair,
        fn_kwargs={"tokenizer": tokenizer, "max_length": max_length},
        remove_columns=[name for name in dataset.column_names if name not in kept],
        load_from_cache_file=False,  # the cache's key does not see a change in how rmkit encodes
        desc="Tokenising pairs",
    )


def encode_pair(row: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase, max_length: int) -> dict[str, Any]:
    """Token ids of one pair's two sides."""
    try:
        chosen = encode(tokenizer, row["prompt"], row["chosen"], max_length).input_ids
        rejected = encode(tokenizer, row["prompt"], row["rejected"], max_length).input_ids
    except InputError as error:
        kind = OverLong if isinstance(error, OverLong) else InputError
        raise kind(f"pair {row.get('id', '(without id)')}: {error}") from None
    return {
        "input_ids_chosen": chosen,
        "input_ids_rejected": rejected,
        "length": max(len(chosen), len(rejected)),
    }


@dataclass
class PairCollator:
    """Rows of `encode_pairs` as one batch of B pairs, padded on the right to the longest of its 2B sequences.

    `input_ids`, `attention_mask`: [2B, token], the B chosen ones first, then the B rejected; `target`, `margin`:
    [B] float32, each there if the rows have it. A row that lacks what others have is refused, never taken for 0.
    """

    tokenizer: PreTrainedTokenizerBase

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        if self.tokenizer.pad_token_id is None:
            refuse("tokenizer", "a pad token", Seen("none"), "Load it by rmkit.models.reward.load_tokenizer.")
        sequences = [row["input_ids_chosen"] for row in rows] + [row["input_ids_rejected"] for row in rows]
        longest = max(len(sequence) for sequence in sequences)
        input_ids = torch.full((len(sequences), longest), self.tokenizer.pad_token_id, dtype=torch.long)
        attention_mask = torch.zeros((len(sequences), longest), dtype=torch.long)
        for position, sequence in enumerate(sequences):
            input_ids[position, :len(sequence)] = torch.as_tensor(sequence, dtype=torch.long)
            attention_mask[position, :len(sequence)] = 1
        batch = {"input_ids": input_ids, "attention_mask": attention_mask}
        for name in LABELS:
            if any(name in row for row in rows):
                batch[name] = torch.tensor([read_label(row, name) for row in rows], dtype=torch.float32)
        return batch


def read_label(row: Mapping[str, Any], name: str) -> float:
    """A row's `target` or `margin`; refused when missing or not finite."""
    value = row.get(name)
    if value is None or not math.isfinite(value):
        refuse(name, "a finite number in every row, or the column in none", value, "Fill the column or remove it.")
    return float(value)
