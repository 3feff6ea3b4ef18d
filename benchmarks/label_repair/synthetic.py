"""What label repair is worth where the truth is known: the gold world.

    python -m benchmarks.label_repair.synthetic [--seeds 5] [--work runs/gold_benchmark] [--no-fine-tuning]

Each seed draws its own pairs and trains its own base model. Labels are drawn Bradley-Terry from the gold gap, so some
oppose the better response even without noise; 30 % of the train and validation labels are flipped on top. Test pairs
are never flipped: `gold` counts how often a model prefers the truly better response, the other tests how often it
agrees with the label. The upper bound for finding flips ("ceiling") is the AUROC of the true gap.

Voters and final models are heads on the base model's frozen features. Reward models are also fine-tuned by DeepSpeed
(`rmkit train`) on clean labels, on noisy ones, and on labels repaired by the heads' best recipe or by soft labels;
"chosen on validation" is the better of these two on noisy validation pairs. Finished parts are kept in --work.
"""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.label_repair.data import MAX_LENGTH, World, list_tests, make_gold_source, make_world
from benchmarks.label_repair.trial import REPAIR_KEYS, gather, run_trial, take_votes
from benchmarks.shared.cli import make_parser
from benchmarks.shared.results import keep, write_results
from benchmarks.shared.statistics import summarise_nested
from rmkit.commands.train import TrainConfig, train
from rmkit.data.parquet import write_table
from rmkit.metrics.accuracy import pair_accuracy
from rmkit.metrics.correlation import auroc
from rmkit.models.scoring import score_pairs_from_path
from rmkit.preferences import calibrate_scale, repair_labels

RATE = 0.3
FINE_TUNING = {
    "max_length": MAX_LENGTH, "learning_rate": 5e-4, "per_device_train_batch_size": 32, "num_train_epochs": 1,
    "warmup_steps": 20, "report_to": "none", "save_strategy": "no", "disable_tqdm": True,
}


def run_heads(world: World, seed: int) -> dict[str, Any]:
    """All figures of one seed's heads: a trial by noise rate, and the AUROC of flips by kind of noise."""
    source, gaps = make_gold_source(world), world.gaps["train"]
    figures: dict[str, Any] = {"by_rate": {}, "by_kind": {}}
    for rate in (0.0, RATE):
        trial = source.make_trial(source.sample_flips("uniform", rate, seed, "uniform"))
        figures["by_rate"][f"{rate:g}"] = run_trial(trial, seed)[0]
    for kind in ("uniform", "small_gap", "longer"):
        trial = source.make_trial(source.sample_flips(kind, RATE, seed, kind))
        flips = trial.is_flipped
        figures["by_kind"][kind] = {
            "ceiling": auroc(-np.where(flips, -gaps, gaps), flips),
            **{way: auroc(-mean, flips) for way, mean in take_votes(trial, seed).items()},
        }
    return figures


def fine_tune(world: World, best: dict[str, Any], seed: int) -> dict[str, dict[str, float]]:
    """Accuracy of reward models fine-tuned on clean, noisy and repaired labels; `best` is the heads' best recipe."""
    source = make_gold_source(world)
    flips = source.sample_flips("uniform", RATE, seed, "uniform")
    strength = take_votes(source.make_trial(flips), seed)["symmetric, in-sample"]
    noisy = exchange(world.pairs["train"], flips["train"])
    validation = exchange(world.pairs["validation"], flips["validation"])
    arguments = {key: best[key] for key in REPAIR_KEYS if key in best}
    sets = {
        "clean labels": world.pairs["train"], "noisy labels": noisy,
        "best recipe": relabel(noisy, repair_labels(strength, **arguments)),
        "soft labels": relabel(noisy, repair_labels(strength * calibrate_scale(strength), recipe="soft")),
    }
    accuracy = {}
    for name, rows in sets.items():
        folder = world.folder / "fine-tuned" / name.replace(" ", "-")
        model = train_model(rows, world.base, folder, seed=seed, **FINE_TUNING)
        accuracy[name] = {"validation": pair_accuracy(score_gaps(model, validation)).accuracy,
                          **measure_model(model, world)}
    candidates = accuracy["best recipe"], accuracy["soft labels"]
    return {**accuracy, "chosen on validation": max(candidates, key=lambda one: one["validation"])}


def train_model(pairs: Dataset, base: Path | str, folder: Path, **settings: Any) -> Path:
    """Train a reward model by `rmkit train` on pairs; a finished model in the folder is not trained again."""
    folder.mkdir(parents=True, exist_ok=True)
    write_table(pairs, folder / "train.parquet")
    return train(TrainConfig(data=str(folder / "train.parquet"), model_name_or_path=str(base),
                             output_dir=str(folder / "model"), **settings))


def score_gaps(model: Path, pairs: Dataset) -> NDArray[np.float64]:
    """The gaps [pair] of the reward model at a path."""
    chosen, rejected = score_pairs_from_path(model, pairs, max_length=MAX_LENGTH)
    return chosen - rejected


def measure_model(model: Path, world: World) -> dict[str, float]:
    """Accuracy on each test of the world; `gold` is against the truly better response."""
    gaps = score_gaps(model, world.pairs["test"])
    oriented = np.where(world.gaps["test"] < 0, -gaps, gaps)
    return {name: pair_accuracy((oriented if name == "gold" else gaps)[rows]).accuracy
            for name, rows in list_tests(world).items()}


def exchange(pairs: Dataset, flips: NDArray[np.bool_]) -> Dataset:
    """Pairs with chosen and rejected exchanged where `flips`."""
    return pairs.map(
        lambda row, index: {"chosen": row["rejected"], "rejected": row["chosen"]} if flips[index] else {},
        with_indices=True, load_from_cache_file=False,
    )


def relabel(pairs: Dataset, fixed: Any) -> Dataset:
    """Pairs with repaired labels, without the dropped ones."""
    repaired = exchange(pairs, fixed.swapped).add_column("target", fixed.target).add_column("margin", fixed.margin)
    return repaired.select(np.flatnonzero(fixed.keep))


def main() -> None:
    """Compute what is missing and write benchmarks/results/gold.json."""
    parser = make_parser(__doc__, "gold_benchmark", seeds=5)
    parser.add_argument("--no-fine-tuning", action="store_true", help="heads alone, half the time")
    options = parser.parse_args()
    seeds = list(range(options.seeds))
    cells, tuned = [], []
    for seed in tqdm(seeds, desc="Seeds", unit="seed"):
        folder = options.work / f"seed-{seed}"
        world = make_world(folder, seed)
        cells.append(keep(folder / "heads.json", partial(run_heads, world, seed)))
        if not options.no_fine_tuning:
            best = cells[-1]["by_rate"][f"{RATE:g}"]["lines"]["best recipe"]
            tuned.append(keep(folder / "fine-tuned.json", partial(fine_tune, world, best, seed)))
    by_rate = {rate: [cell["by_rate"][rate] for cell in cells] for rate in cells[0]["by_rate"]}
    figures = {
        "by_rate": {rate: gather(trials, by_rate["0"]) for rate, trials in by_rate.items()},
        "by_kind": summarise_nested([cell["by_kind"] for cell in cells]),
    }
    if tuned:
        figures["fine_tuned"] = summarise_nested(tuned)
    print(write_results("gold", figures, seeds=seeds))


if __name__ == "__main__":
    main()
