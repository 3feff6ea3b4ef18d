"""The distinct conversations in a set of pairs, each encoded once; token ids are kept in a temporary file."""

import json
import tempfile
from array import array
from itertools import islice
from typing import Any

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from rmkit.core.arrays import first_occurrences, text_key
from rmkit.data.chat_template import ROWS_PER_CALL as AT_ONCE
from rmkit.data.chat_template import encode_rows, unwrap
from rmkit.data.memmap import memmap_zeros, to_memmap
from rmkit.data.parquet import PAIR_SIDES, stream_rows

SIDES = ("chosen", "rejected")


class UniqueConversations:
    """The distinct conversations of a set of pairs, in the order of their first occurrence, chosen before rejected.

    Tokens are read from an unnamed temporary file. Raises the errors of `rmkit.data.chat_template.encode`, naming the
    pair.
    """

    def __init__(self, pairs: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int) -> None:
        keys = memmap_zeros((len(pairs), 2, 2), np.uint64)  # [pair, side, half of a text_key]
        for index, row in enumerate(stream_rows(pairs, PAIR_SIDES)):
            for side, name in enumerate(SIDES):
                text = json.dumps([row["prompt"], row[name]], sort_keys=True)
                keys[index, side] = np.frombuffer(text_key(text), np.uint64)
        number = first_occurrences(keys.reshape(-1, 2)).reshape(-1, 2)  # [pair, side], of the conversation
        first = np.diff(np.maximum.accumulate(number.ravel()), prepend=-1).reshape(-1, 2) > 0  # occurrence of a number
        sizes = array("i")  # in the file: the start of the response, then the tokens
        with tempfile.TemporaryFile() as file:
            rows = iter(tqdm(stream_rows(pairs, ("id", *PAIR_SIDES)), "Tokenising pairs", len(pairs), unit="pair"))
            for start in range(0, len(pairs), AT_ONCE):
                block = list(islice(rows, AT_ONCE))
                new = [[row[name] for name, is_new in zip(SIDES, of_row, strict=True) if is_new]
                       for row, of_row in zip(block, first[start:start + AT_ONCE], strict=True)]
                prompts = [row["prompt"] for row in block]
                encoded = encode_rows(tokenizer, list(zip(prompts, new, strict=True)), max_length)
                for row, conversations in zip(block, encoded, strict=True):
                    for conversation in conversations:
                        tokens = unwrap(conversation, f"pair {row['id']}")
                        file.write(np.array([tokens.response_start, *tokens.input_ids], np.int32).tobytes())
                        sizes.append(1 + len(tokens.input_ids))
            file.flush()
            self.file = np.memmap(file, np.int32, mode="r")
        numbers = np.frombuffer(sizes, np.int32)
        self.longest = int(numbers.max()) - 1  # tokens
        self.ends = to_memmap(np.cumsum(numbers, dtype=np.int64))
        order = np.argsort(-numbers, kind="stable").astype(np.int32)
        self.longest_first = to_memmap(order)  # numbers of conversations
        self.tokens = to_memmap(numbers[order] - 1)  # their lengths
        by_side = number.T.ravel()  # [side * pair]
        self.by_number = to_memmap(np.argsort(by_side, kind="stable").astype(np.int32))
        self.last_position = to_memmap(np.cumsum(np.bincount(by_side), dtype=np.int32))

    def read(self, numbers: NDArray[np.int32]) -> list[tuple[NDArray[np.int32], int]]:
        """Token ids of these conversations, each with the index at which its response starts."""
        parts = [np.array(self.file[slice_of_part(self.ends, number)]) for number in numbers]
        return [(tokens[1:], int(tokens[0])) for tokens in parts]

    def positions(self, number: int) -> NDArray[np.int32]:
        """The indices in [side * pair] of a conversation."""
        return self.by_number[slice_of_part(self.last_position, number)]


def slice_of_part(ends: NDArray[Any], number: int) -> slice:
    """The slice of part `number` of consecutive parts that end at `ends`."""
    return slice(ends[number - 1] if number else 0, ends[number])
