"""The two tasks of the contrastive study: training pairs of one seed, and functions that score a trained model."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby, zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray

from benchmarks.label_repair.data import (
    BACKBONE,
    MAX_LENGTH,
    make_world,
    message,
    read_pairs,
    split_topics,
)
from benchmarks.label_repair.synthetic import measure_model, score_gaps
from rmkit.core.checks import InputError
from rmkit.core.seeds import derive_seed
from rmkit.core.stage import sha256_text
from rmkit.data.chat_template import encode
from rmkit.metrics.accuracy import pair_accuracy
from rmkit.models.reward_model import load_tokenizer
from rmkit.models.scoring import score_pairs_from_path

COMMON = {"bf16": True, "report_to": "none", "save_strategy": "no", "disable_tqdm": True}
PROBE = 200
UKP_PAIRS = 512
UKP_SETTINGS = {"max_length": 96, "per_device_train_batch_size": 16, "warmup_steps": 5, **COMMON}
GOLD_PAIRS = 3000
GOLD_SETTINGS = {"max_length": MAX_LENGTH, "per_device_train_batch_size": 16, "warmup_steps": 20, **COMMON}


@dataclass(frozen=True)
class Task:
    """Base model, training pairs and settings of one seed; `validate` and `test` give a trained model's accuracies.

    `probe` are some of the test pairs, whose embeddings are described.
    """

    base: str
    pairs: Dataset
    probe: Dataset
    settings: Mapping[str, Any]
    validate: Callable[[Path], float]
    test: Callable[[Path], dict[str, float]]


@dataclass(frozen=True)
class Arguments:
    """The pairs whose arguments both fit, their topics [pair], and the distinct arguments of the pairs.

    `texts` [argument] are (topic, prompt, argument); `sides` [side, pair] are indices into `texts`; `held_out`
    [argument] marks those of the in-distribution test, the same for every seed.
    """

    pairs: Dataset
    topics: NDArray[np.str_]
    texts: list[tuple[str, str, str]]
    sides: NDArray[np.intp]
    held_out: NDArray[np.bool_]


def read_arguments(path: Path) -> Arguments:
    """The pairs, without those with an argument longer than `max_length`; half of the arguments are held out."""
    rows, pairs = read_pairs(path)
    tokenizer = load_tokenizer(BACKBONE)
    indices: dict[tuple[str, str, str], int] = {}
    sides = np.array([
        [indices.setdefault((row["topic"], row["prompt"], row[side]), len(indices)) for side in ("chosen", "rejected")]
        for row in rows
    ]).T
    texts = list(indices)
    fits = np.array([fit(tokenizer, prompt, text) for _, prompt, text in texts])
    kept = np.flatnonzero(fits[sides].all(axis=0))
    topics = np.array([row["topic"] for row in rows])
    held_out = np.array([int(sha256_text("/".join(text)), 16) % 2 == 0 for text in texts])
    return Arguments(pairs.select(kept), topics[kept], texts, sides[:, kept], held_out)


def fit(tokenizer: Any, prompt: str, text: str) -> bool:
    """Whether an argument fits into `max_length` tokens; its prompt is truncated if needed."""
    try:
        encode(tokenizer, message("user", prompt), message("assistant", text), UKP_SETTINGS["max_length"])
    except InputError:
        return False
    return True


def make_ukp_task(world: Arguments, seed: int) -> Task:
    """Train on pairs of 20 topics; test on their other arguments, and on the held-out debates.

    No argument of the in-distribution test is in a training pair. Validation pairs are of the seed's two validation
    debates, without pairs of two held-out arguments, which are test pairs for other seeds.
    """
    split = split_topics(world.topics, seed)
    held_out = world.held_out[world.sides].sum(axis=0)  # of a pair's two arguments
    generator = np.random.default_rng(derive_seed(seed, "train"))
    free = split["train"][held_out[split["train"]] == 0]
    train = np.sort(generator.choice(free, UKP_PAIRS, replace=False))
    tests = {"in_distribution": split["train"][held_out[split["train"]] == 2], "held_out": split["test"]}
    validation = {"validation": split["validation"][held_out[split["validation"]] < 2]}
    return Task(
        base=BACKBONE,
        pairs=world.pairs.select(train),
        probe=world.pairs.select(generator.choice(split["test"], PROBE, replace=False)),
        settings=UKP_SETTINGS,
        validate=lambda model: measure_arguments(model, world, validation)["validation"],
        test=lambda model: measure_arguments(model, world, tests),
    )


def measure_arguments(model: Path, world: Arguments, parts: Mapping[str, NDArray[np.intp]]) -> dict[str, float]:
    """Accuracy on each part's pairs; an argument that is in several pairs is scored once."""
    scored = np.unique(np.concatenate([world.sides[:, part].ravel() for part in parts.values()]))
    couples = couple_arguments(world, scored)
    rows = Dataset.from_list([
        {"prompt": message("user", world.texts[first][1]), "chosen": message("assistant", world.texts[first][2]),
         "rejected": message("assistant", world.texts[second][2])} for first, second in couples
    ])
    rewards = np.full(len(world.texts), np.nan)
    scores = score_pairs_from_path(model, rows, max_length=UKP_SETTINGS["max_length"])
    for indices, values in zip(np.array(couples).T, scores, strict=True):
        rewards[indices] = values
    chosen, rejected = rewards[world.sides]
    return {name: pair_accuracy((chosen - rejected)[part]).accuracy for name, part in parts.items()}


def couple_arguments(world: Arguments, indices: Iterable[int]) -> list[tuple[int, int]]:
    """Arguments of one topic in twos, so that each is scored once; a topic's odd one is coupled with itself."""
    couples: list[tuple[int, int]] = []
    ordered = sorted(indices, key=lambda index: world.texts[index])
    for _, group in groupby(ordered, lambda index: world.texts[index][0]):
        topic = list(group)
        couples += zip_longest(topic[::2], topic[1::2], fillvalue=topic[-1])
    return couples


def make_gold_task(folder: Path, seed: int, pairs: int = GOLD_PAIRS, **size: Any) -> Task:
    """Train on clean labels of the seed's world, test on all its tests; `size` makes the world smaller."""
    world = make_world(folder, seed, **size)
    return Task(
        base=str(world.base),
        pairs=world.pairs["train"].select(range(pairs)),
        probe=world.pairs["test"].select(range(min(PROBE, pairs))),
        settings=GOLD_SETTINGS,
        validate=lambda model: pair_accuracy(score_gaps(model, world.pairs["validation"])).accuracy,
        test=lambda model: measure_model(model, world),
    )
