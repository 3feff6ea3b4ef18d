"""A prompt's responses as token ids, in units that are scored in one piece within a budget of tokens."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from datasets import Dataset, Features, List, Value
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from rmkit.data.chat_template import encode_rows, unwrap
from rmkit.data.collators import TokenIds, shared_prefix_length

MAX_TOKENS = 16384  # of a batch: enough to keep an accelerator busy
UNIT_SCHEMA = Features({"input_ids": List(List(Value("int32"))), "tokens": Value("int32"), "sequences": Value("int32")})


def encode_groups(
    rows: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int, *, max_tokens_per_batch: int | None
) -> Dataset:
    """Units of the responses to every row's `prompt`, as `split_into_units` makes them, in order.

    The responses are those in the column `responses`, or `chosen` and `rejected`. Raises the errors of `encode_rows`,
    naming the row.
    """
    return rows.map(
        encode_group_batch,
        batched=True,
        with_indices=True,
        fn_kwargs={"tokenizer": tokenizer, "max_length": max_length, "max_tokens_per_batch": max_tokens_per_batch},
        remove_columns=rows.column_names,
        features=UNIT_SCHEMA,
        load_from_cache_file=False,  # the cache's key does not see a change in how rmkit encodes
        desc="Tokenising responses",
    )


def encode_group_batch(
    batch: Mapping[str, list],
    indices: Sequence[int],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    max_tokens_per_batch: int | None,
) -> dict[str, list]:
    """Units of a batch of rows."""
    sides = batch["responses"] if "responses" in batch else zip(batch["chosen"], batch["rejected"], strict=True)
    names = [f"pair {name}" for name in batch["id"]] if "id" in batch else [f"row {index}" for index in indices]
    encoded = encode_rows(tokenizer, list(zip(batch["prompt"], sides, strict=True)), max_length, starts=False)
    groups = [[unwrap(response, name).input_ids for response in group]
              for name, group in zip(names, encoded, strict=True)]
    return split_into_units(groups, max_tokens_per_batch)


def split_into_units(groups: Sequence[Sequence[TokenIds]], max_tokens_per_batch: int | None) -> dict[str, list]:
    """The sequences of all groups, in order, in units of one group each: `input_ids` [unit, sequence, token].

    A unit has at most `max_tokens_per_batch` tokens, the shared prefix of its sequences counted once, or one sequence.
    With None nothing is shared: every sequence is a unit. `tokens`, `sequences`: [unit], how many there are.
    """
    units: dict[str, list] = {name: [] for name in UNIT_SCHEMA}
    for group in groups:
        shared = shared_prefix_length(group) if max_tokens_per_batch and group else 0
        unit: list[TokenIds] = []
        for sequence in group:
            if unit and units["tokens"][-1] + len(sequence) - shared > (max_tokens_per_batch or 0):
                unit = []
            if not unit:
                units["input_ids"].append(unit)
                units["tokens"].append(len(sequence))
            else:
                units["tokens"][-1] += len(sequence) - shared
            unit.append(sequence)
    units["sequences"] = [len(unit) for unit in units["input_ids"]]
    return units


def token_batches(sizes: NDArray[np.integer], tokens: int, *, padded: bool) -> Iterator[slice]:
    """Slices of batches of at most `tokens` tokens, or of one unit; `sizes`: of each unit, in descending order.

    A batch's tokens are the sum of its sizes or, where `padded`, their number times the largest.
    """
    start = 0
    while start < len(sizes):
        if padded:
            end = start + max(1, tokens // int(sizes[start]))
        else:
            ends = np.cumsum(sizes[start:start + tokens], dtype=np.int64)
            end = start + max(1, int(np.searchsorted(ends, tokens, side="right")))
        yield slice(start, min(end, len(sizes)))
        start = end
