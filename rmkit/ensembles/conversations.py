"""Conversations: the distinct ones in a set of pairs, encoded once each, their token ids kept in a temporary file."""

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


class UniqueConversations:
    """The distinct conversations of a set of pairs, in the order in which they first come, chosen before rejected.

    Tokens and places are read from unnamed temporary files. Raises what `rmkit.data.chat_template.encode` does, naming the pair.
    """

    def __init__(self, pairs: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int) -> None:
        keys = memmap_zeros((len(pairs), 2, 2), np.uint64)  # [pair, side, half of a text_key]
        for index, row in enumerate(stream_rows(pairs, PAIR_SIDES)):
            for side, name in enumerate(("chosen", "rejected")):
                text = json.dumps([row["prompt"], row[name]], sort_keys=True)
                keys[index, side] = np.frombuffer(text_key(text), np.uint64)
        number = first_occurrences(keys.reshape(-1, 2)).reshape(-1, 2)  # [pair, side], of the conversation
        sizes = array("i")  # in the file, where each conversation is one number and its tokens
        with tempfile.TemporaryFile() as file:
            rows = iter(tqdm(stream_rows(pairs, ("id", *PAIR_SIDES)), "Tokenising pairs", len(pairs), unit="pair"))
            count = 0
            for start in range(0, len(pairs), AT_ONCE):
                new = []
                for index, row in enumerate(islice(rows, AT_ONCE), start):
                    sides = []
                    for side, name in enumerate(("chosen", "rejected")):
                        if number[index, side] == count:  # its first occurrence
                            sides.append(row[name])
                            count += 1
                    new.append((row, sides))
                encoded = encode_rows(tokenizer, [(row["prompt"], sides) for row, sides in new], max_length)
                for (row, _), conversations in zip(new, encoded, strict=True):
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
        self.last_place = to_memmap(np.cumsum(np.bincount(by_side), dtype=np.int32))

    def read(self, numbers: NDArray[np.int32]) -> list[tuple[NDArray[np.int32], int]]:
        """Token ids of these conversations, each with the position where its response begins."""
        parts = [np.array(self.file[find_slice(self.ends, number)]) for number in numbers]
        return [(tokens[1:], int(tokens[0])) for tokens in parts]

    def find_places(self, number: int) -> NDArray[np.int32]:
        """Where in [side * pair] a conversation stands."""
        return self.by_number[find_slice(self.last_place, number)]


def find_slice(ends: NDArray[Any], number: int) -> slice:
    """Where the part of this number lies, of parts that lie one behind the other and end at `ends`."""
    return slice(ends[number - 1] if number else 0, ends[number])
