"""Prompts with K responses each, out of a file of pairs: a prompt's own, filled up with others of like length."""

import gzip
import json
import random
from bisect import bisect_left
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from rmkit.data.chat_template import encode_rows, unwrap

SEED = 0
MAX_LENGTH = 1024  # longer conversations are left out

Rows = list[dict[str, Any]]


def read_prompts(path: Path) -> list[tuple[str, list[str]]]:
    """The prompts of a file of pairs, each with its own different responses, in an order drawn under the seed."""
    found: dict[str, dict[str, None]] = {}
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for row in map(json.loads, file):
            found.setdefault(row["prompt"], {}).update({row["chosen"]: None, row["rejected"]: None})
    prompts = [(prompt, list(responses)) for prompt, responses in found.items()]
    random.Random(SEED).shuffle(prompts)
    return prompts


def fill_rows(
    prompts: Sequence[tuple[str, list[str]]], responses: int, tokenizer: PreTrainedTokenizerBase
) -> Callable[[int, int], Rows]:
    """What gives the rows from a place on, so many of them; each has `responses` responses that fit."""
    pool = sorted({text for _, own in prompts for text in own}, key=lambda text: (len(text), text))
    sizes = list(map(len, pool))

    def fill(prompt: str, own: list[str]) -> dict[str, Any]:
        chosen = dict.fromkeys(own[:responses])
        middle = bisect_left(sizes, int(np.mean([len(text) for text in own])))
        near = sorted(range(max(0, middle - 2 * responses), min(len(pool), middle + 2 * responses)),
                      key=lambda place: abs(place - middle))
        for place in near:
            if len(chosen) < responses:
                chosen[pool[place]] = None
        return {"prompt": speak("user", prompt), "responses": [speak("assistant", text) for text in chosen]}

    def draw(start: int, count: int) -> Rows:
        rows: Rows = []
        for prompt, own in prompts[start:]:
            row = fill(prompt, own)
            encoded = encode_rows(tokenizer, [(row["prompt"], row["responses"])], 10**6)[0]
            if max(len(unwrap(one).input_ids) for one in encoded) <= MAX_LENGTH:
                rows.append(row)
            if len(rows) == count:
                break
        return rows

    return draw


def speak(role: str, content: str) -> list[dict[str, str]]:
    """One message."""
    return [{"role": role, "content": content}]
