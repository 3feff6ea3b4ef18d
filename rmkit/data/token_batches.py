"""A prompt's responses as token ids, in units that are scored in one piece within a budget of tokens."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from datasets import Dataset, Features, List, Value
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from rmkit.data.collators import TokenIds, shared_prefix_length
from rmkit.data.encoding import encode_dataset

MAX_TOKENS = 16384  # of a batch: enough to keep an accelerator busy
UNIT_SCHEMA = Features({"input_ids": List(List(Value("int32"))), "tokens": Value("int32"), "sequences": Value("int32")})


def encode_groups(
    rows: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int, *, max_tokens_per_batch: int | None
) -> Dataset:
    """Units of the responses to every row's `prompt`, as `split_into_units` makes them, in order.

    The responses are those in the column `responses`, or `chosen` and `rejected`. Raises the errors of `encode_rows`,
    naming the row.
    """
    return encode_dataset(
        rows, tokenizer, max_length,
        lambda name, group: split_into_units([response.input_ids for response in group], max_tokens_per_batch),
        UNIT_SCHEMA,
    )


def split_into_units(group: Sequence[TokenIds], max_tokens_per_batch: int | None) -> Iterator[dict[str, Any]]:
    """The sequences of a group, in order, in units with their `input_ids` [sequence, token], `tokens` and `sequences`.

    A unit has at most `max_tokens_per_batch` tokens, the shared prefix of its sequences counted once, or one sequence.
    With None nothing is shared: every sequence is a unit. `sequences`: how many the unit has.
    """
    shared = shared_prefix_length(group) if max_tokens_per_batch and group else 0
    unit: list[TokenIds] = []
    tokens = 0
    for sequence in group:
        if unit and tokens + len(sequence) - shared > (max_tokens_per_batch or 0):
            yield {"input_ids": unit, "tokens": tokens, "sequences": len(unit)}
            unit, tokens = [], 0
        tokens += len(sequence) - (shared if unit else 0)
        unit.append(sequence)
    if unit:
        yield {"input_ids": unit, "tokens": tokens, "sequences": len(unit)}


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
