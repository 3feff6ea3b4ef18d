"""Conversations: the distinct ones in a set of pairs, encoded once each, their token ids kept in a temporary file."""

import contextlib
import hashlib
import json
import sqlite3
import tempfile
from array import array
from itertools import islice
from typing import Any

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from rmkit.data.chat_template import encode_rows, unwrap
from rmkit.data.collators import AT_ONCE
from rmkit.data.memmap import release, store
from rmkit.data.parquet import PAIR_SIDES, stream_rows


class UniqueConversations:
    """The distinct conversations of a set of pairs, in the order in which they first come, chosen before rejected.

    Tokens and places are read from unnamed temporary files. Raises what `rmkit.data.chat_template.encode` does, naming the pair.
    """

    def __init__(self, pairs: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int) -> None:
        number = np.empty((2, len(pairs)), dtype=np.int32)  # of the conversation that stands there
        sizes = array("i")  # in the file, where each conversation is one number and its tokens
        with tempfile.TemporaryFile() as file, contextlib.closing(sqlite3.connect("")) as known:
            known.execute("CREATE TABLE known (text BLOB PRIMARY KEY, number INTEGER) WITHOUT ROWID")  # in a file too
            rows = iter(tqdm(stream_rows(pairs, ("id", *PAIR_SIDES)), "Tokenising pairs", len(pairs), unit="pair"))
            count = 0
            for start in range(0, len(pairs), AT_ONCE):
                new = []
                for place, row in enumerate(islice(rows, AT_ONCE), start):
                    sides = []
                    for side, name in enumerate(("chosen", "rejected")):
                        number[side, place] = lookup_or_insert(known, [row["prompt"], row[name]], count)
                        if number[side, place] == count:  # a new one
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
        self.ends = store(np.cumsum(numbers, dtype=np.int64))
        order = np.argsort(-numbers, kind="stable").astype(np.int32)
        self.longest_first, self.tokens = store(order), store(numbers[order] - 1)  # their numbers, and of their tokens
        del order
        self.by_number = store(np.argsort(number.ravel(), kind="stable").astype(np.int32))
        self.last_place = store(np.cumsum(np.bincount(number.ravel()), dtype=np.int32))

    def read(self, numbers: NDArray[np.int32]) -> list[tuple[NDArray[np.int32], int]]:
        """Token ids of these conversations, each with the position where its response begins."""
        found = [np.array(self.file[find_slice(self.ends, number)]) for number in numbers]
        for mapped in (self.file, self.ends, self.longest_first, self.tokens, self.by_number, self.last_place):
            release(mapped)
        return [(tokens[1:], int(tokens[0])) for tokens in found]

    def find_places(self, number: int) -> NDArray[np.int32]:
        """Where in [side * pair] a conversation stands."""
        return self.by_number[find_slice(self.last_place, number)]


def lookup_or_insert(known: sqlite3.Connection, conversation: list[Any], count: int) -> int:
    """A conversation's number; one that is not known yet is given the number `count`."""
    text = hashlib.sha256(json.dumps(conversation, sort_keys=True).encode()).digest()
    found = known.execute("SELECT number FROM known WHERE text = ?", (text,)).fetchone()
    if found is None:
        known.execute("INSERT INTO known VALUES (?, ?)", (text, count))
    return count if found is None else int(found[0])


def find_slice(ends: NDArray[Any], number: int) -> slice:
    """Where the part of this number lies, of parts that lie one behind the other and end at `ends`."""
    return slice(ends[number - 1] if number else 0, ends[number])
