"""What the contrastive terms are tried on: one seed's training pairs, and how a trained model is scored on the rest."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import groupby, zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray

from benchmarks.label_repair.data import BACKBONE, MAX_LENGTH, list_tests, make_world, read_pairs, split_topics
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

    `sizes` counts the pairs of each test; `probe` are some of those pairs, to look at their embeddings.
    """

    base: str
    pairs: Dataset
    probe: Dataset
    sizes: Mapping[str, int]
    settings: Mapping[str, Any]
    validate: Callable[[Path], float]
    test: Callable[[Path], dict[str, float]]


@dataclass(frozen=True)
class Arguments:
    """The pairs whose arguments both fit, their topics [pair], and the distinct arguments that the pairs are made of.

    `texts` [argument] are (topic, prompt, argument); `sides` [side, pair] are positions in it; `aside` [argument]
    says which are kept for the in-distribution test, alike for every seed.
    """

    pairs: Dataset
    topics: NDArray[np.str_]
    texts: list[tuple[str, str, str]]
    sides: NDArray[np.intp]
    aside: NDArray[np.bool_]


def read_arguments(path: Path) -> Arguments:
    """The pairs, without those of an argument longer than `max_length`; half of the arguments are set aside."""
    rows, pairs = read_pairs(path)
    tokenizer = load_tokenizer(BACKBONE)
    places: dict[tuple[str, str, str], int] = {}
    for row in rows:
        for side in ("chosen", "rejected"):
            places.setdefault((row["topic"], row["prompt"], row[side]), len(places))
    texts = list(places)
    fits = np.array([fit(tokenizer, prompt, text) for _, prompt, text in texts])
    sides = np.array([
        [places[row["topic"], row["prompt"], row[side]] for row in rows] for side in ("chosen", "rejected")
    ])
    kept = np.flatnonzero(fits[sides].all(axis=0))
    topics = np.array([row["topic"] for row in rows])
    aside = np.array([int(sha256_text("/".join(text)), 16) % 2 == 0 for text in texts])
    return Arguments(pairs.select(kept), topics[kept], texts, sides[:, kept], aside)


def fit(tokenizer: Any, prompt: str, text: str) -> bool:
    """Whether an argument fits into `max_length` tokens; its prompt is cut if need be."""
    try:
        encode(tokenizer, speak("user", prompt), speak("assistant", text), UKP_SETTINGS["max_length"])
    except InputError:
        return False
    return True


def speak(role: str, content: str) -> list[dict[str, str]]:
    """One message."""
    return [{"role": role, "content": content}]


def make_ukp_task(world: Arguments, seed: int) -> Task:
    """Train on pairs of 20 topics; test on their other arguments, and on the held-out debates.

    No argument of the in-distribution test is in a training pair. Validation pairs are of the seed's two validation
    debates, without those of two arguments set aside, which for another seed may be test pairs.
    """
    split = split_topics(world.topics, seed)
    aside = world.aside[world.sides].sum(axis=0)  # of a pair's two arguments
    generator = np.random.default_rng(derive_seed(seed, "train"))
    free = split["train"][aside[split["train"]] == 0]
    train = np.sort(generator.choice(free, UKP_PAIRS, replace=False))
    tests = {"in_distribution": split["train"][aside[split["train"]] == 2], "held_out": split["test"]}
    validation = {"validation": split["validation"][aside[split["validation"]] < 2]}
    return Task(
        base=BACKBONE,
        pairs=world.pairs.select(train),
        probe=world.pairs.select(generator.choice(split["test"], PROBE, replace=False)),
        sizes={name: len(rows) for name, rows in tests.items()},
        settings=UKP_SETTINGS,
        validate=lambda model: measure_arguments(model, world, validation)["validation"],
        test=lambda model: measure_arguments(model, world, tests),
    )


def measure_arguments(model: Path, world: Arguments, parts: Mapping[str, NDArray[np.intp]]) -> dict[str, float]:
    """Accuracy on each part's pairs; an argument is scored once, in however many pairs it is."""
    couples = couple_arguments(world, {int(place) for part in parts.values() for place in world.sides[:, part].flat})
    rows = Dataset.from_list([
        {
            "prompt": speak("user", world.texts[first][1]),
            "chosen": speak("assistant", world.texts[first][2]),
            "rejected": speak("assistant", world.texts[second][2]),
        }
        for first, second in couples
    ])
    scores = score_pairs_from_path(model, rows, max_length=UKP_SETTINGS["max_length"])
    rewards = np.full(len(world.texts), np.nan)
    for places, values in zip(zip(*couples, strict=True), scores, strict=True):
        rewards[list(places)] = values
    chosen, rejected = rewards[world.sides]
    return {name: pair_accuracy((chosen - rejected)[part]).accuracy for name, part in parts.items()}


def couple_arguments(world: Arguments, places: set[int]) -> list[tuple[int, int]]:
    """Each of `places` once, two of one topic at a time; a topic's odd one stands beside itself."""
    couples = []
    for _, group in groupby(sorted(places, key=lambda place: world.texts[place]), lambda place: world.texts[place][0]):
        topic = list(group)
        couples += list(zip_longest(topic[::2], topic[1::2], fillvalue=topic[-1]))
    return couples


def make_gold_task(folder: Path, seed: int, pairs: int = GOLD_PAIRS, **size: Any) -> Task:
    """Train on clean labels of the seed's world, test on all its tests; `size` makes the world smaller."""
    world = make_world(folder, seed, **size)
    return Task(
        base=str(world.base),
        pairs=world.pairs["train"].select(range(pairs)),
        probe=world.pairs["test"].select(range(min(PROBE, pairs))),
        sizes={name: len(rows) for name, rows in list_tests(world).items()},
        settings=GOLD_SETTINGS,
        validate=lambda model: pair_accuracy(score_gaps(model, world.pairs["validation"])).accuracy,
        test=lambda model: measure_model(model, world),
    )
