"""What ten heads cost beside one head, and how time and memory grow with the number of heads.

UKPConvArg1 and all-MiniLM-L6-v2 as in ensembles.py, which measures what the voters find. Timed from loading the model
to the pairs' gaps.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from benchmarks.label_repair.data import BACKBONE
from benchmarks.label_repair.trial import VOTERS
from benchmarks.shared.timing import Cells, Record, clock, compare, fit_line, fit_power, run_apart, take_median
from benchmarks.voters.members import MAX_LENGTH, World, read_short_pairs, vote_heads
from rmkit.ensembles.features import Features, extract_features
from rmkit.ensembles.heads import train_heads

RATIOS = {  # name -> slow side, fast side
    "ten heads / one head": ("ten heads", "one head"),
    "ten heads / one head, features ready": ("ten heads, features ready", "one head, features ready"),
}


def read_topics(path: Path, count: int) -> Dataset:
    """The pairs of whole topics of middling size that together have `count` pairs or more."""
    pairs, topics = read_short_pairs(path)
    names, sizes = np.unique(topics, return_counts=True)
    order = names[np.argsort(sizes, kind="stable")]
    taken: list[int] = []
    for name in order[len(order) // 2:]:
        if len(taken) < count:
            taken += map(int, np.flatnonzero(topics == name))
    return pairs.select(taken)


def train_and_score(features: Features, members: int, seed: int) -> None:
    """Train heads on extracted features and score the same pairs."""
    voters = train_heads(*features, **{**VOTERS, "members": members}, seed=seed)
    voters.score(features.chosen)
    voters.score(features.rejected)


def run_ensembles(path: Path, folder: Path, rounds: int, count: int) -> dict[str, Any]:
    """Seconds of every side and the ratios; the number of a round is its seed."""
    pairs = read_topics(path, count)
    world = World({"train": pairs}, {}, {})
    features = extract_features(pairs, BACKBONE, max_length=MAX_LENGTH)
    sides = {}
    for name, members in (("ten heads", VOTERS["members"]), ("one head", 1)):
        sides[name] = lambda seed, members=members: clock(partial(vote_heads, world, seed, members))
        sides[f"{name}, features ready"] = lambda seed, members=members: clock(
            partial(train_and_score, features, members, seed))
    records = Cells(folder, [rounds, repr(VOTERS), len(pairs), list(sides)], rounds).run("voters", sides)
    return {
        "pairs": len(pairs), "members": VOTERS["members"],
        "seconds": {side: take_median(rounds_of, "cpu") for side, rounds_of in records.items()},
        "wall": {side: take_median(rounds_of, "wall") for side, rounds_of in records.items()},
        "ratio": {name: compare(records, *sides_of) for name, sides_of in RATIOS.items()},
    }


def grow_members(path: Path, folder: Path, rounds: int, count: int, members: Sequence[int]) -> dict[str, Any]:
    """Processor seconds and peak memory by the number of heads, each measurement in its own process, with fits."""
    pairs = read_topics(path, 1)
    pairs = pairs.select(range(min(count, len(pairs))))
    world = World({"train": pairs}, {}, {})

    def vote(number: int, seed: int) -> Record:
        return run_apart(partial(vote_heads, world, seed, number))

    sides = {f"heads {number}": partial(vote, number) for number in members}
    records = Cells(folder, [rounds, repr(VOTERS), len(pairs)], rounds).run("members", sides)
    seconds, peaks = ([take_median(records[side], figure) for side in sides] for figure in ("cpu", "peak"))
    return {"heads": {
        "pairs": len(pairs), "sizes": list(members), "seconds": seconds, "peak": peaks,
        "line": fit_line(members, seconds), "power": fit_power(members, seconds), "peak_line": fit_line(members, peaks),
    }}
