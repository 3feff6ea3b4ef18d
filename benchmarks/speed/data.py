"""Data of the speed benchmarks: pairs for training, and prompts with K responses each for scoring."""

import random
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase
from transformers.trainer_pt_utils import get_length_grouped_indices

from benchmarks.shared.pairs import make_message, make_messages, read_rows
from rmkit.data.chat_template import encode_rows, unwrap
from rmkit.data.collators import encode_pairs
from rmkit.models.tiny import build_tokenizer

SEED = 0
MAX_LENGTH = 1024  # TRL's default; longer sequences are left out
VOCABULARY = 8192
TOKENIZER_ROWS = 300  # that the tokenizer is trained on
GROUP = 50  # batches that are sorted by length together, in transformers' and rmkit's samplers
BATCH = 8  # pairs in a step: the default of both trainers

Rows = list[dict[str, Any]]
Prompt = tuple[str, list[str]]  # with its responses


@dataclass(frozen=True)
class Pairs:
    """The pairs of one file.

    messages: as text; encoded: token ids of `encode_pairs`. lengths [pair, (chosen, rejected)]: tokens of each sequence
    with its prompt. shared [pair]: tokens that both begin with. batches: [batch, pair] of one epoch by sampler
    ("random", or transformers' length-"grouped"), the longest batch first.
    """

    tokenizer: PreTrainedTokenizerBase
    messages: Dataset
    encoded: Dataset
    lengths: NDArray[np.int64]
    shared: NDArray[np.int64]
    batches: dict[str, NDArray[np.int64]]

    def sample(self, sampler: str, count: int, number: int, rounds: int) -> list[int]:
        """The pairs of round `number`: the shortest batch as warm-up, then `count` batches spread over all lengths.

        These are whole batches of an epoch, because grouping few pairs would waste more. Rounds have different ones.
        """
        batches = self.batches[sampler]
        spread = [int((index + (number + 0.5) / rounds) / count * len(batches)) for index in range(count)]
        return [int(row) for index in (-1, *spread) for row in batches[index]]


def read_pairs(path: Path, count: int) -> Pairs:
    """`count` random pairs of the file, without those that are too long."""
    rows = read_rows(path)
    random.Random(SEED).shuffle(rows)
    texts = [row[side] for row in rows[:TOKENIZER_ROWS] for side in ("prompt", "chosen", "rejected")]
    tokenizer = build_tokenizer(texts, VOCABULARY)
    messages = Dataset.from_list([make_messages(row) for row in rows[:count]])
    encoded = encode_pairs(messages, tokenizer, max_length=10**6)
    fitting = np.flatnonzero(np.array(encoded["length"]) <= MAX_LENGTH)
    messages, encoded = messages.select(fitting), encoded.select(fitting)
    lengths = np.array([[len(row["input_ids_chosen"]), len(row["input_ids_rejected"])] for row in encoded])
    longest = lengths.max(axis=1)
    generator = torch.Generator().manual_seed(SEED)
    orders = {"random": torch.randperm(len(longest), generator=generator).tolist(),
              "grouped": get_length_grouped_indices(longest.tolist(), BATCH, GROUP, generator)}
    batches = {}
    for sampler, order in orders.items():
        full = np.array(order)[:len(order) // BATCH * BATCH].reshape(-1, BATCH)
        batches[sampler] = full[np.argsort(-longest[full].max(axis=1), kind="stable")]
    return Pairs(tokenizer, messages, encoded, lengths, lengths.sum(axis=1) - np.array(encoded["tokens"]), batches)


def measure_waste(pairs: Pairs) -> dict[str, dict[str, float]]:
    """Per pair, the `tokens` that a model processes and the (query, key) pairs `seen` by attention, over an epoch.

    By batching: padded batches of each sampler, and packed rows, in which the two sequences share their beginning.
    """
    lengths, shared = pairs.lengths, pairs.shared
    waste = {}
    for sampler, batches in pairs.batches.items():
        longest = lengths[batches].max(axis=(1, 2)).astype(float)
        waste[f"padded, {sampler}"] = {"tokens": 2 * longest.mean(), "seen": (longest**2).mean()}
    chosen, branch = lengths[:, 0], lengths[:, 1] - shared
    seen = chosen**2 / 2 + branch * shared + branch**2 / 2
    waste["packed"] = {"tokens": float((chosen + branch).mean()), "seen": float(seen.mean())}
    return waste


def read_prompts(path: Path) -> list[Prompt]:
    """The prompts of a file of pairs in random order, each with its distinct responses."""
    by_prompt: dict[str, dict[str, None]] = {}
    for row in read_rows(path):
        by_prompt.setdefault(row["prompt"], {}).update({row["chosen"]: None, row["rejected"]: None})
    prompts = [(prompt, list(responses)) for prompt, responses in by_prompt.items()]
    random.Random(SEED).shuffle(prompts)
    return prompts


def sample_rows(
    prompts: Sequence[Prompt], responses: int, tokenizer: PreTrainedTokenizerBase, start: int, count: int
) -> Rows:
    """The rows of `count` prompts from index `start` on, without those that are too long.

    A row's `responses` are the prompt's own, and those of other prompts that are nearest to their mean length.
    """
    pool = sorted({text for _, own in prompts for text in own}, key=lambda text: (len(text), text))
    sizes = list(map(len, pool))
    rows: Rows = []
    for prompt, own in prompts[start:]:
        texts = dict.fromkeys(own[:responses])
        middle = bisect_left(sizes, int(np.mean([len(text) for text in own])))
        nearest = sorted(range(max(0, middle - 2 * responses), min(len(pool), middle + 2 * responses)),
                         key=lambda index: abs(index - middle))
        for index in nearest:
            if len(texts) < responses:
                texts[pool[index]] = None
        row = {"prompt": make_message("user", prompt), "responses": [make_message("assistant", text) for text in texts]}
        encoded = encode_rows(tokenizer, [(row["prompt"], row["responses"])], 10**6)[0]
        if max(len(unwrap(sequence).input_ids) for sequence in encoded) <= MAX_LENGTH:
            rows.append(row)
        if len(rows) == count:
            break
    return rows
