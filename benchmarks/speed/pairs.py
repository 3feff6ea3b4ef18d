"""The pairs of the training contests: real text, tokenised by both sides, in samples that waste what an epoch does."""

import gzip
import json
import random
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trl
from datasets import Dataset
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.trainer_pt_utils import get_length_grouped_indices

from rmkit.data.collators import encode_pairs, shared_prefix_length
from rmkit.models.tiny import build_tokenizer

SEED = 0
MAX_LENGTH = 1024  # TRL's default; longer pairs are left out
VOCABULARY = 8192
LEARNT = 300  # rows that the tokenizer is trained on
WINDOW = 50  # batches that are sorted together: both samplers' number
BATCH = 8  # pairs in a step: the default of both trainers


@dataclass(frozen=True)
class Pairs:
    """One file's pairs: messages, the token ids of both trainers (the same), and what decides the waste.

    lengths [pair, (chosen, rejected)], shared [pair]: tokens of each whole sequence, and those both begin with;
    batches: kind -> [batch, pair]: an epoch in random batches, and one of transformers' length-grouped sampler; the
    longest batch first.
    """

    tokenizer: PreTrainedTokenizerBase
    messages: Dataset
    ours: Dataset
    theirs: Dataset
    lengths: NDArray[np.int64]
    shared: NDArray[np.int64]
    batches: dict[str, NDArray[np.int64]]

    def sample(self, kind: str, count: int, number: int, rounds: int) -> list[int]:
        """The pairs of round `number`: the shortest batch to warm up with, then `count` spread over all lengths.

        Whole batches of an epoch, since a few pairs by themselves would be grouped worse than an epoch's are. Another
        round has others.
        """
        batches = self.batches[kind]
        places = [int((place + (number + 0.5) / rounds) / count * len(batches)) for place in range(count)]
        return [int(row) for place in (-1, *places) for row in batches[place]]


def read_pairs(path: Path, rows: int, build_model: Any) -> Pairs:
    """`rows` rows of the file, drawn under the seed, without those that are too long."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        drawn = [json.loads(line) for line in file]
    random.Random(SEED).shuffle(drawn)
    texts = [row[side] for row in drawn[:LEARNT] for side in ("prompt", "chosen", "rejected")]
    tokenizer = build_tokenizer(texts, VOCABULARY)
    messages = Dataset.from_list([
        {side: [{"role": role, "content": row[side]}] for side, role in (
            ("prompt", "user"), ("chosen", "assistant"), ("rejected", "assistant"))}
        for row in drawn[:rows]
    ])
    lengths = measure_lengths(messages, tokenizer)
    messages = messages.select(np.flatnonzero(lengths <= MAX_LENGTH))
    ours = encode_pairs(messages, tokenizer, MAX_LENGTH)
    theirs = tokenise_by_trl(messages, tokenizer, build_model(tokenizer))
    for here, there in (("input_ids_chosen", "chosen_ids"), ("input_ids_rejected", "rejected_ids")):
        assert list(ours[here]) == list(theirs[there]), "the trainers read different tokens"
    sides = list(zip(ours["input_ids_chosen"], ours["input_ids_rejected"], strict=True))
    longest = np.array(ours["length"])
    generator = torch.Generator().manual_seed(SEED)
    orders = {"random": torch.randperm(len(longest), generator=generator).tolist(),
              "grouped": get_length_grouped_indices(longest.tolist(), BATCH, WINDOW, generator)}
    return Pairs(tokenizer, messages, ours, theirs, np.array([[len(side) for side in pair] for pair in sides]),
                 np.array([shared_prefix_length(pair) for pair in sides]),
                 {kind: cut_batches(np.array(order), longest) for kind, order in orders.items()})


def cut_batches(order: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """[batch, pair], the longest batch first."""
    batches = order[:len(order) // BATCH * BATCH].reshape(-1, BATCH)
    return batches[np.argsort(-lengths[batches].max(axis=1), kind="stable")]


def measure_lengths(messages: Dataset, tokenizer: PreTrainedTokenizerBase) -> NDArray[np.int64]:
    """Tokens [pair] of each one's longer side, whole."""
    return np.array([
        max(len(tokenizer.apply_chat_template(row["prompt"] + row[side])["input_ids"])
            for side in ("chosen", "rejected"))
        for row in messages
    ])


def tokenise_by_trl(messages: Dataset, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> Dataset:
    """The pairs as TRL's trainer prepares them."""
    with tempfile.TemporaryDirectory() as folder:
        args = trl.RewardConfig(output_dir=folder, use_cpu=True, max_length=MAX_LENGTH, report_to="none")
        trainer = trl.RewardTrainer(model=model, args=args, processing_class=tokenizer, train_dataset=messages)
    return trainer.train_dataset.select_columns(["chosen_ids", "rejected_ids"])


def measure_waste(pairs: Pairs) -> dict[str, dict[str, float]]:
    """Tokens that a model reads per pair, and the (query, key) pairs its attention sees, by how batches are made.

    Over the whole epoch: random batches and length-grouped ones, padded, and packed rows with shared beginnings.
    """
    lengths, shared = pairs.lengths, pairs.shared
    found = {}
    for kind, batches in pairs.batches.items():
        longest = lengths[batches].max(axis=(1, 2)).astype(float)
        found[f"padded, {kind}"] = {"tokens": 2 * longest.mean(), "seen": (longest**2).mean()}
    chosen, branch = lengths[:, 0], lengths[:, 1] - shared
    seen = chosen**2 / 2 + branch * shared + branch**2 / 2
    found["packed"] = {"tokens": float((chosen + branch).mean()), "seen": float(seen.mean())}
    return found
