"""Collation: pairs into token ids, and rows of token ids into padded batches."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import torch
from datasets import Dataset, Features, List, Value
from transformers import PreTrainedTokenizerBase

from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.data.chat_template import encode_rows, unwrap

AT_ONCE = 32  # pairs whose texts are tokenised in one call
LABELS = ("target", "margin")
Tokens = Sequence[int]
ENCODED = {"input_ids_chosen": List(Value("int32")), "input_ids_rejected": List(Value("int32")),
           "length": Value("int32"), "tokens": Value("int32")}


def encode_pairs(dataset: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Dataset:
    """Token ids of every pair: `input_ids_chosen` and `input_ids_rejected`, with two sizes, both in tokens.

    `length`: the longer one's. `tokens`: of both together, what they begin with counted once, as in a packed row.
    `target` and `margin` are kept where the dataset has them; the order of the rows is kept. Prompts are cut from
    the left, each side by itself. Raises `OverLong` naming the pair whose response alone exceeds `max_length`.
    """
    labels = {name: dataset.features[name] for name in LABELS if name in dataset.column_names}
    return dataset.map(
        encode_block,
        batched=True,
        fn_kwargs={"tokenizer": tokenizer, "max_length": max_length},
        remove_columns=[name for name in dataset.column_names if name not in labels],
        features=Features({**labels, **ENCODED}),
        load_from_cache_file=False,  # the cache's key does not see a change in how rmkit encodes
        desc="Tokenising pairs",
    )


def encode_block(rows: Mapping[str, list], tokenizer: PreTrainedTokenizerBase, max_length: int) -> dict[str, list]:
    """Token ids of a block of pairs."""
    names = rows.get("id") or ["(without id)"] * len(rows["prompt"])
    pairs = list(zip(rows["prompt"], zip(rows["chosen"], rows["rejected"], strict=True), strict=True))
    encoded: dict[str, list] = {name: [] for name in ENCODED}
    for start in range(0, len(pairs), AT_ONCE):
        found = encode_rows(tokenizer, pairs[start:start + AT_ONCE], max_length, starts=False)
        for name, sides in zip(names[start:start + AT_ONCE], found, strict=True):
            chosen, rejected = (unwrap(side, f"pair {name}").input_ids for side in sides)
            encoded["input_ids_chosen"].append(chosen)
            encoded["input_ids_rejected"].append(rejected)
            encoded["length"].append(max(len(chosen), len(rejected)))
            encoded["tokens"].append(len(chosen) + len(rejected) - count_shared([chosen, rejected]))
    return encoded


def count_shared(group: Sequence[Tokens]) -> int:
    """How many tokens all sequences of a group begin with; the last one of a sequence is always its own."""
    alike = takewhile(lambda tokens: len(set(tokens)) == 1, zip(*group, strict=False))
    return min(sum(1 for _ in alike), min(map(len, group)) - 1)


@dataclass
class PairCollator:
    """Rows of `encode_pairs` as one batch of B pairs, padded on the right to the longest of its 2B sequences.

    `input_ids`, `attention_mask`: [2B, token], the B chosen ones first, then the B rejected; `target`, `margin`:
    [B] float32, each there if the rows have it. A row that lacks what others have is refused, never taken for 0.
    """

    tokenizer: PreTrainedTokenizerBase

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        sequences = [row["input_ids_chosen"] for row in rows] + [row["input_ids_rejected"] for row in rows]
        padded = pad_right(sequences, self.tokenizer)
        return {**padded, **collate_labels(rows)}


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
    """`target` and `margin`, [pair] float32, each if any row has it; refused where another lacks it."""
    return {
        name: torch.tensor([read_label(row, name) for row in rows], dtype=torch.float32)
        for name in LABELS
        if any(name in row for row in rows)
    }


def read_label(row: Mapping[str, Any], name: str) -> float:
    """A row's `target` or `margin`; refused when missing or not finite."""
    value = row.get(name)
    if value is None or not math.isfinite(value):
        raise_input_error(
            name, "a finite number in every row, or the column in none", value, "Fill the column or remove it."
        )
    return float(value)


@dataclass(frozen=True)
class Segments:
    """The segments of a row, in their order: how long each is, and how many tokens of its group it comes after.

    A segment with prefix 0 begins a group: it is a whole sequence. One with prefix p is what a sequence has beyond
    the first p tokens of the segment that began its group; it sees those and itself, and nothing else of the row.
    """

    lengths: tuple[int, ...]
    prefixes: tuple[int, ...]


def pack(groups: Sequence[Sequence[Tokens]]) -> dict[str, Any]:
    """One row of all sequences, group by group; those of a group share one copy of what they begin with.

    For causal models: a token's state depends on what is before it alone, so a prompt's states are the same for any
    number of responses. `input_ids` and `position_ids` (each sequence counts from 0): [1, token]; `last`: [sequence],
    the place in the row of each one's last token; `segments`: the `Segments`.
    """
    tokens: list[int] = []
    positions: list[int] = []
    lengths, prefixes, last = [], [], []
    for group in groups:
        shared = count_shared(group)
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
    """`times` copies of a packed row as one row, none of which sees another."""
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
