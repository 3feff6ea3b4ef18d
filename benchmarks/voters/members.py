"""The voters that the ensemble benchmark compares: whole reward models fine-tuned, and heads on frozen features."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray

from benchmarks.label_repair.data import BACKBONE, read_pairs, split_topics
from benchmarks.label_repair.synthetic import exchange
from benchmarks.label_repair.trial import FINAL, SHARES, VOTERS, Sides, mean_accuracy, swap
from rmkit.core.seeds import derive_seed
from rmkit.data.collators import PairCollator, encode_pairs
from rmkit.ensembles.features import extract_features
from rmkit.ensembles.heads import train_heads
from rmkit.losses import symmetric_loss
from rmkit.models.reward_model import load_reward_model, load_tokenizer
from rmkit.models.scoring import score_pairs
from rmkit.preferences import repair_labels, sample_label_flips

RATE = 0.3
LONGEST = 45  # tokens of an argument
MAX_LENGTH = 64  # with the end of the prompt
TOPICS = 16  # of the training topics, drawn per seed
FULL = {"epochs": 3, "batch_size": 64, "weight_decay": 0.01}

Gaps = NDArray[np.float64]  # [member, pair]


@dataclass(frozen=True)
class World:
    """One seed's pairs as labelled, by part (train, validation, test), with features [side, pair, feature] and flips.

    Train and validation labels are flipped in pairs and features alike, test labels never.
    """

    pairs: Mapping[str, Dataset]
    sides: Mapping[str, Sides]
    is_flipped: Mapping[str, NDArray[np.bool_]]


def read_short_pairs(path: Path) -> tuple[Dataset, NDArray[np.str_]]:
    """The pairs with two short arguments, and their topics."""
    rows, pairs = read_pairs(path)
    tokenizer = load_tokenizer(BACKBONE)
    length = {text: len(tokenizer(text)["input_ids"]) for row in rows for text in (row["chosen"], row["rejected"])}
    kept = [index for index, row in enumerate(rows)
            if max(length[row["chosen"]], length[row["rejected"]]) <= LONGEST]
    return pairs.select(kept), np.array([rows[index]["topic"] for index in kept])


def build_world(pairs: Dataset, topics: NDArray[np.str_], sides: Sides, seed: int) -> World:
    """Draw a seed's topics and flips."""
    split = split_topics(topics, seed)
    names = np.unique(topics[split["train"]])
    drawn = np.random.default_rng(derive_seed(seed, "topics")).choice(names, TOPICS, replace=False)
    split["train"] = split["train"][np.isin(topics[split["train"]], drawn)]
    is_flipped = {
        name: sample_label_flips(np.ones(len(rows)), kind="uniform", rate=RATE, seed=derive_seed(seed, name, RATE))
        if name != "test" else np.zeros(len(rows), dtype=bool)
        for name, rows in split.items()
    }
    parts = {name: exchange(pairs.select(rows), is_flipped[name]) for name, rows in split.items()}
    return World(parts, {name: swap(sides[:, rows], is_flipped[name]) for name, rows in split.items()}, is_flipped)


def vote_full(world: World, part: str, seed: int, member: int, learning_rate: float) -> NDArray[np.float64]:
    """Gap [pair] on the pairs of `part` by one model fine-tuned as a whole on the train pairs.

    Symmetric loss, AdamW with a linear schedule, matrix products in bf16, no dropout.
    """
    tokenizer = load_tokenizer(BACKBONE)
    member_seed = derive_seed(seed, "member", member)
    model = load_reward_model(BACKBONE, tokenizer, seed=member_seed).eval()
    encoded = encode_pairs(world.pairs["train"], tokenizer, MAX_LENGTH).to_list()
    collate = PairCollator(tokenizer)
    batches = -(-len(encoded) // FULL["batch_size"])
    steps = FULL["epochs"] * batches
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=FULL["weight_decay"], fused=True)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 1.0 / steps, total_iters=max(1, steps - 1))
    order = np.random.default_rng(derive_seed(member_seed, "order"))
    for _ in range(FULL["epochs"]):
        for rows in np.array_split(order.permutation(len(encoded)), batches):
            batch = collate([encoded[row] for row in rows])
            with torch.autocast("cpu", torch.bfloat16):
                logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
            chosen, rejected = logits[:, 0].float().chunk(2)
            optimizer.zero_grad()
            symmetric_loss(chosen, rejected).backward()
            optimizer.step()
            schedule.step()
    with torch.autocast("cpu", torch.bfloat16):
        rewards = score_pairs(model, tokenizer, world.pairs[part], max_length=MAX_LENGTH)
    return rewards[0] - rewards[1]


def vote_heads(world: World, seed: int, members: int) -> Gaps:
    """Gaps of all members on the train pairs; the features are extracted here, so that their cost counts."""
    features = extract_features(world.pairs["train"], BACKBONE, max_length=MAX_LENGTH)
    voters = train_heads(*features, **{**VOTERS, "members": members}, seed=seed)
    return voters.score(features.chosen) - voters.score(features.rejected)


def accuracy_after_repair(world: World, strength: NDArray[np.float64] | None, seed: int) -> float:
    """Accuracy on held-out topics after the flip repair by `strength`; the share is chosen on noisy validation pairs.

    Without `strength`, of the labels as they are.
    """
    trials = []
    for share in (0.0,) if strength is None else SHARES:
        swapped = np.zeros(len(world.pairs["train"]), dtype=bool)
        if strength is not None:
            swapped = repair_labels(strength, recipe="flip", fraction=share).swapped
        model = train_heads(*swap(world.sides["train"], swapped), **FINAL, seed=derive_seed(seed, "final"))
        validation, test = (mean_accuracy(model, world.sides[part]) for part in ("validation", "test"))
        trials.append((validation, -share, test))
    return max(trials)[2]
