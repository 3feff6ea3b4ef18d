"""Ensembles: ten voters trained together against one, and how their cost grows with their number.

UKPConvArg1 and all-MiniLM-L6-v2 as in ensembles.py, which has what the voters find. From the model's folder to the
pairs' gaps.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from ensemble_voters import (
    LORA,
    MAX_LENGTH,
    World,
    adapt_all,
    adapt_top,
    read_short_pairs,
    vote_alone,
    vote_with_adapters,
    vote_with_heads,
)
from repair_study import VOTERS
from throughput_timing import Cells, Record, Side, clock, compare, fit_line, fit_power, run_apart, take_median
from ukp import BACKBONE

from rmkit.ensembles.features import Features, extract_features
from rmkit.ensembles.heads import train_heads

# dear side -> cheap side
RATIOS = {
    "ten lora voters / one LoRA run": ("ten lora voters", "one LoRA run"),
    "ten lora voters / one LoRA run on the same layers": ("ten lora voters", "one LoRA run on the same layers"),
    "ten lora voters / one lora voter": ("ten lora voters", "one lora voter"),
    "ten heads / one head": ("ten heads", "one head"),
    "ten heads / one head, features ready": ("ten heads, features ready", "one head, features ready"),
}


def read_topics(path: Path, count: int) -> Dataset:
    """The pairs of whole topics, the smallest that together have `count` or more: pairs of a topic share arguments."""
    pairs, topics = read_short_pairs(path)
    names, sizes = np.unique(topics, return_counts=True)
    order = names[np.argsort(sizes, kind="stable")]
    middle = order[len(order) // 2:]
    taken: list[int] = []
    for name in middle:
        if len(taken) < count:
            taken += map(int, np.flatnonzero(topics == name))
    return pairs.select(taken)


def run_sides(pairs: Dataset, members: int) -> dict[str, Side]:
    """What is measured, by name; a round's number is its seed."""
    world = World({"train": pairs}, {}, {})
    features = extract_features(pairs, BACKBONE, max_length=MAX_LENGTH)
    many, one = replace(LORA, members=members), replace(LORA, members=1)
    rate = LORA.learning_rate
    return {
        "ten lora voters": lambda seed: clock(partial(vote_with_adapters, world, "train", seed, many)),
        "one LoRA run": lambda seed: clock(partial(vote_alone, world, "train", seed, 0, rate, adapt_all)),
        "one LoRA run on the same layers": lambda seed: clock(
            partial(vote_alone, world, "train", seed, 0, rate, adapt_top)),
        "one lora voter": lambda seed: clock(partial(vote_with_adapters, world, "train", seed, one)),
        "ten heads": lambda seed: clock(partial(vote_with_heads, world, seed, members)),
        "one head": lambda seed: clock(partial(vote_with_heads, world, seed, 1)),
        "ten heads, features ready": lambda seed: clock(partial(train_on, features, members, seed)),
        "one head, features ready": lambda seed: clock(partial(train_on, features, 1, seed)),
    }


def train_on(features: Features, members: int, seed: int) -> None:
    """Heads from features that are there, and the pairs' gaps."""
    voters = train_heads(*features, replace(VOTERS, members=members), seed=seed)
    voters.score(features.chosen)
    voters.score(features.rejected)


def run_ensembles(path: Path, folder: Path, rounds: int, count: int) -> dict[str, Any]:
    """Seconds of every side and the ratios."""
    pairs = read_topics(path, count)
    sides = run_sides(pairs, LORA.members)
    settings = [rounds, repr(LORA), repr(VOTERS), len(pairs), list(sides)]
    records = Cells(folder, settings, rounds).run("voters", sides)
    return {
        "pairs": len(pairs), "epochs": LORA.epochs, "members": LORA.members,
        "seconds": {side: take_median(rounds_of, "cpu") for side, rounds_of in records.items()},
        "wall": {side: take_median(rounds_of, "wall") for side, rounds_of in records.items()},
        "ratio": {name: compare(records, *sides_of) for name, sides_of in RATIOS.items()},
    }


def grow_members(
    path: Path, folder: Path, rounds: int, count: int, members: Sequence[int]
) -> dict[str, dict[str, Any]]:
    """Processor seconds and peak memory by the number of voters, each cell in a process of its own.

    The time is fitted by a line; its start over its slope is how many voters the shared part is worth.
    """
    pairs = read_topics(path, 1)
    pairs = pairs.select(range(min(count, len(pairs))))
    world = World({"train": pairs}, {}, {})

    def vote(kind: str, number: int, seed: int) -> Record:
        config = replace(LORA, members=number)
        return run_apart(partial(vote_with_adapters, world, "train", seed, config) if kind == "lora" else
                         partial(vote_with_heads, world, seed, number))

    sides = {f"{kind} {number}": partial(vote, kind, number) for number in members for kind in ("lora", "heads")}
    settings = [rounds, repr(LORA), repr(VOTERS), len(pairs)]
    records = Cells(folder, settings, rounds).run("members", sides)
    figures: dict[str, dict[str, Any]] = {}
    for kind in ("lora", "heads"):
        cells = {number: records[f"{kind} {number}"] for number in members}
        seconds = [take_median(cell, "cpu") for cell in cells.values()]
        peaks = [take_median(cell, "peak") for cell in cells.values()]
        figures[kind] = {
            "pairs": len(pairs), "sizes": list(members), "seconds": seconds, "peak": peaks,
            "line": fit_line(members, seconds), "power": fit_power(members, seconds),
            "peak_line": fit_line(members, peaks),
        }
    return figures
