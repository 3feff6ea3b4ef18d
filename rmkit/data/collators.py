"""Pairs into token ids, and rows of token ids into padded batches or packed rows."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import torch
from datasets import Dataset, List, Value
from transformers import PreTrainedTokenizerBase

from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.data.chat_template import Encoded
from rmkit.data.encoding import LABELS, encode_dataset

TokenIds = Sequence[int]
ENCODED = {"input_ids_chosen": List(Value("int32")), "input_ids_rejected": List(Value("int32")),
           "length": Value("int32"), "tokens": Value("int32")}


def encode_pairs(dataset: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Dataset:
    """Token ids of every pair: `input_ids_chosen` and `input_ids_rejected`, with two sizes, both in tokens.

    `length`: of the longer one. `tokens`: of both together, their shared prefix counted once, as in a packed row.
    `target` and `margin` are kept where the dataset has them, and so is the order of the rows. Prompts are truncated
    from the left, each side by itself. Raises `ResponseTooLong`, naming the pair.
    """
    return encode_dataset(dataset, tokenizer, max_length, list_pair, ENCODED, labels=True)


def list_pair(name: str, sides: Sequence[Encoded]) -> Iterator[dict[str, Any]]:
    """The row of `encode_pairs` for a pair."""
    sequences = chosen, rejected = [side.input_ids for side in sides]
    lengths = len(chosen), len(rejected)
    yield {"input_ids_chosen": chosen, "input_ids_rejected": rejected, "length": max(lengths),
           "tokens": sum(lengths) - shared_prefix_length(sequences)}


def shared_prefix_length(group: Sequence[TokenIds]) -> int:
    """How many tokens all sequences of a group begin with, always fewer than the shortest has."""
    alike = takewhile(lambda tokens: len(set(tokens)) == 1, zip(*group, strict=False))
    return min(sum(1 for _ in alike), min(map(len, group)) - 1)


@dataclass
class PairCollator:
    """Rows of `encode_pairs` as one batch of B pairs, padded on the right to the longest of its 2B sequences.

    `input_ids`, `attention_mask`: [2B, token], the B chosen ones first, then the B rejected; `target`, `margin`:
    [B] float32, each there if the rows have it. Raises `InputError` for a row that lacks what others have.
    """

    tokenizer: PreTrainedTokenizerBase

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        sequences = [row["input_ids_chosen"] for row in rows] + [row["input_ids_rejected"] for row in rows]
        return {**pad_right(sequences, self.tokenizer), **collate_labels(rows)}


def pad_right(sequences: Sequence[Sequence[int]], tokenizer: PreTrainedTokenizerBase) -> dict[str, torch.Tensor]:
    """`input_ids` and `attention_mask` [sequence, token], padded on the right to the longest one."""
    if tokenizer.pad_token_id is None:
        raise_input_error(
            "tokenizer", "a pad token", Verbatim("none"), "Load it by rmkit.models.reward_model.load_tokenizer."
        )
    longest = max(len(sequence) for sequence in sequences)
    input_ids = torch.full((len(sequences), longest), tokenizer.pad_token_id, dtype=torch.long)
    attention_mask = torch.zeros((len(sequences), longest), dtype=torch.long)
    for position, sequence in enumerate(sequences):
        input_ids[position, :len(sequence)] = torch.as_tensor(sequence, dtype=torch.long)
        attention_mask[position, :len(sequence)] = 1
    return {"input_ids": input_ids, "attention_mask": attention_mask}


def collate_labels(rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
    """`target` and `margin`, [pair] float32, each if any row has it; raises `InputError` where another lacks it."""
    labels = {}
    for name in LABELS:
        values = [row.get(name) for row in rows]
        if not any(name in row for row in rows):
            continue
        for value in values:
            if value is None or not math.isfinite(value):
                expected = "a finite number in every row, or the column in none"
                raise_input_error(name, expected, value, "Fill the column or remove it.")
        labels[name] = torch.tensor(values, dtype=torch.float32)
    return labels


@dataclass(frozen=True)
class Segments:
    """The segments of a packed row, in their order: the length of each, and the length of the prefix it follows.

    A segment with prefix 0 starts a group and is a whole sequence. One with prefix p is the rest of a sequence whose
    first p tokens are those of the segment that started its group; it attends to those and to itself alone.
    """

    lengths: tuple[int, ...]
    prefixes: tuple[int, ...]


def pack(groups: Sequence[Sequence[TokenIds]]) -> dict[str, Any]:
    """One row of all sequences, group by group; those of a group share one copy of their common prefix.

    For causal models: a token's state depends only on the tokens before it, so a prompt's states are the same for any
    number of responses. `input_ids` and `position_ids` (each sequence counts from 0): [1, token]; `last`: [sequence],
    the index in the row of each sequence's last token; `segments`: the `Segments`.
    """
    tokens: list[int] = []
    positions: list[int] = []
    lengths, prefixes, last = [], [], []
    for group in groups:
        shared = shared_prefix_length(group)
        for number, sequence in enumerate(group):
            prefix = shared if number else 0
            tokens += sequence[prefix:]
            positions += range(prefix, len(sequence))
            lengths.append(len(sequence) - prefix)
            prefixes.append(prefix)
            last.append(len(tokens) - 1)
    return {
        "input_ids": torch.tensor([tokens]),
        "position_ids": torch.tensor([positions]),
        "last": torch.tensor(last),
        "segments": Segments(tuple(lengths), tuple(prefixes)),
    }


def repeat_packed(row: Mapping[str, Any], times: int) -> dict[str, Any]:
    """`times` copies of a packed row as one row, none of which attends to another."""
    length = row["input_ids"].shape[1]
    segments = row["segments"]
    return {
        **{name: row[name].repeat(1, times) for name in ("input_ids", "position_ids")},
        "last": torch.cat([row["last"] + copy * length for copy in range(times)]),
        "segments": Segments(segments.lengths * times, segments.prefixes * times),
    }


class PairPacker:
    """Rows of `encode_pairs` as one packed row; `last` has the B chosen ones first, then the B rejected.

    `target` and `margin` are those of `PairCollator`.
    """

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        packed = pack([[row["input_ids_chosen"], row["input_ids_rejected"]] for row in rows])
        packed["last"] = packed["last"].view(-1, 2).T.flatten()
        return {**packed, **collate_labels(rows)}
