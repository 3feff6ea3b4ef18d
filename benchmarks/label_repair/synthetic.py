"""What label repair is worth where the truth is known: the gold world.

    python -m benchmarks.label_repair.synthetic [--seeds 5] [--work runs/gold_benchmark] [--no-fine-tuning]

Each seed draws its own pairs and trains its own base model. Labels are drawn Bradley-Terry from the gold gap, so that
some go against the better response even on "clean" labels; 30 % of the labels are flipped on top, in training and in
validation alike. Test pairs are never flipped: `gold` counts how often a model prefers the truly better response, the
other tests how often it agrees with the labels. The ceiling for finding flips is the true gold gap itself.

Voters and final models are heads on the base model's frozen features; the last table is of reward models fine-tuned by
DeepSpeed (`rmkit train`) on clean labels, on noisy ones, and on those repaired by the heads' best recipe and by soft
labels; the better of these two on the noisy validation pairs is what "chosen on validation" names. What is finished is
kept in --work and not computed again.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.label_repair.trial import FINAL, VOTERS, Trial, format_table, gather, run_trial, show, swap, take_votes
from benchmarks.shared.cli import make_parser
from benchmarks.shared.results import keep, summarise, write_results
from rmkit.commands.read import ReadConfig, read
from rmkit.commands.synthetic import BASE_MODEL, SyntheticConfig, synthetic
from rmkit.commands.train import TrainConfig, train
from rmkit.core.seeds import derive_seed
from rmkit.data.parquet import load_split, write_table
from rmkit.ensembles.features import extract_features
from rmkit.metrics.accuracy import pair_accuracy
from rmkit.metrics.correlation import auroc
from rmkit.models.reward_model import load_reward_model, load_tokenizer
from rmkit.models.scoring import score_pairs
from rmkit.preferences import calibrate_scale, repair_labels, sample_label_flips

RATE = 0.3
SIZES = {"train": 6000, "validation": 1000, "test": 1000}
DEMONSTRATIONS = 20000  # for the base model
MAX_LENGTH = 256
FINE_TUNING = {
    "max_length": MAX_LENGTH, "learning_rate": 5e-4, "per_device_train_batch_size": 32, "num_train_epochs": 1,
    "warmup_steps": 20, "report_to": "none", "save_strategy": "no", "disable_tqdm": True,
}  # fmt: skip


@dataclass(frozen=True)
class World:
    """One seed's pairs, base model, features [side, pair, feature] and gold gaps [pair], by split."""

    folder: Path
    base: Path
    pairs: dict[str, Dataset]
    features: dict[str, NDArray[np.float32]]
    gaps: dict[str, NDArray[np.float64]]


def make_world(
    folder: Path, seed: int, sizes: Mapping[str, int] = SIZES, demonstrations: int = DEMONSTRATIONS
) -> World:
    """Draw the pairs, train the base model, compute its features."""
    gold = synthetic(
        SyntheticConfig(output_dir=str(folder / "gold"), seed=seed, demonstrations=demonstrations, **sizes)
    )
    files = {"data": "train", "validation": "validation", "test": "test"}
    pairs_folder = read(ReadConfig(
        output_dir=str(folder / "pairs"), **{role: str(gold / f"{split}.jsonl") for role, split in files.items()}
    ))
    pairs = {split: load_split(pairs_folder, split) for split in sizes}
    base = gold / BASE_MODEL
    features = {
        split: np.stack(extract_features(rows, base, max_length=MAX_LENGTH, cache_dir=folder / "features"))
        for split, rows in pairs.items()
    }
    return World(folder, base, pairs, features, {split: np.array(rows["gold_gap"][:]) for split, rows in pairs.items()})


def list_tests(world: World) -> dict[str, NDArray[np.intp]]:
    """Positions in the test split: all with a true difference, oriented by gold, and each source as labelled."""
    sources = np.array(world.pairs["test"]["source"][:])
    names = dict.fromkeys(sources.tolist())
    by_source = {name: np.flatnonzero(sources == name) for name in names}
    return {"gold": np.flatnonzero(world.gaps["test"] != 0), **by_source}


def plant_flips(world: World, rate: float, kind: str, seed: int) -> dict[str, NDArray[np.bool_]]:
    """Which labels of the train and the validation pairs are flipped."""
    return {
        split: sample_label_flips(
            world.gaps[split], kind=kind, rate=rate, seed=derive_seed(seed, split, kind),
            length_difference=count_characters(world.pairs[split]),
        )
        for split in ("train", "validation")
    }


def make_trial(world: World, rate: float, kind: str, seed: int) -> Trial:
    """The seed's pairs with planted noise."""
    flips = plant_flips(world, rate, kind, seed)
    noisy = {split: swap(world.features[split], flip) for split, flip in flips.items()}
    test = world.features["test"]
    oriented = swap(test, world.gaps["test"] < 0)
    tests = {name: (oriented if name == "gold" else test)[:, rows] for name, rows in list_tests(world).items()}
    prompts = np.array([str(prompt) for prompt in world.pairs["train"]["prompt"]])
    return Trial(noisy["train"], noisy["validation"], tests, prompts, flips["train"])


def count_characters(pairs: Dataset) -> NDArray[np.int64]:
    """How many characters longer the chosen response is, [pair]."""
    sides = zip(pairs["chosen"], pairs["rejected"], strict=True)
    return np.array([len(chosen[-1]["content"]) - len(rejected[-1]["content"]) for chosen, rejected in sides])


def run_heads(world: World, seed: int) -> dict[str, Any]:
    """All figures of one seed's heads."""
    figures: dict[str, Any] = {"by_rate": {}, "by_kind": {}}
    for rate in (0.0, RATE):
        trial = make_trial(world, rate, "uniform", seed)
        figures["by_rate"][f"{rate:g}"] = run_trial(trial, seed).figures
    for kind in ("uniform", "small_gap", "longer"):
        trial = make_trial(world, RATE, kind, seed)
        figures["by_kind"][kind] = {"ceiling": find_ceiling(world, trial), **run_votes(trial, seed)}
    return figures


def run_votes(trial: Trial, seed: int) -> dict[str, float]:
    """With what AUROC each way of voting finds the planted flips."""
    return {way: auroc(-mean, trial.planted) for way, mean in take_votes(trial, seed).items()}


def find_ceiling(world: World, trial: Trial) -> float:
    """The AUROC of the true gold gap, of the pairs as they are labelled after planting."""
    gaps = world.gaps["train"]
    return auroc(-np.where(trial.planted, -gaps, gaps), trial.planted)


def fine_tune(world: World, best: dict[str, Any], seed: int) -> dict[str, dict[str, float]]:
    """Accuracy of reward models fine-tuned on clean, noisy and repaired labels; `best` is the heads' best recipe."""
    trial = make_trial(world, RATE, "uniform", seed)
    strength = take_votes(trial, seed)["symmetric, in-sample"]
    flips = plant_flips(world, RATE, "uniform", seed)
    clean = world.pairs["train"]
    noisy = exchange(clean, flips["train"])
    validation = exchange(world.pairs["validation"], flips["validation"])
    arguments = {
        key: best[key] for key in ("recipe", "fraction", "label_smoothing", "margin", "margin_scale") if key in best
    }
    sets = {
        "clean labels": clean,
        "noisy labels": noisy,
        "best recipe": relabel(noisy, repair_labels(strength, **arguments)),
        "soft labels": relabel(noisy, repair_labels(strength * calibrate_scale(strength), recipe="soft")),
    }
    found = {}
    for name, rows in sets.items():
        folder = world.folder / "fine-tuned" / name.replace(" ", "-")
        folder.mkdir(parents=True, exist_ok=True)
        write_table(rows, folder / "train.parquet")
        model = train(TrainConfig(
            data=str(folder / "train.parquet"), model_name_or_path=str(world.base), output_dir=str(folder / "model"),
            seed=seed, **FINE_TUNING,
        ))
        gaps = find_gaps(model, world.pairs["test"])
        oriented = np.where(world.gaps["test"] < 0, -gaps, gaps)
        found[name] = {"validation": pair_accuracy(find_gaps(model, validation)).accuracy} | {
            test: pair_accuracy((oriented if test == "gold" else gaps)[rows]).accuracy
            for test, rows in list_tests(world).items()
        }
    found["chosen on validation"] = max((found["best recipe"], found["soft labels"]), key=lambda one: one["validation"])
    return found


def find_gaps(model: Path, pairs: Dataset) -> NDArray[np.float64]:
    """The model's gaps [pair]."""
    tokenizer = load_tokenizer(model)
    loaded = load_reward_model(model, tokenizer)
    chosen, rejected = score_pairs(loaded, tokenizer, pairs, max_length=MAX_LENGTH)
    return chosen - rejected


def exchange(pairs: Dataset, flips: NDArray[np.bool_]) -> Dataset:
    """Pairs with chosen and rejected exchanged where `flips`."""
    def swap_row(row: dict[str, Any], index: int) -> dict[str, Any]:
        return {"chosen": row["rejected"], "rejected": row["chosen"]} if flips[index] else {}

    return pairs.map(swap_row, with_indices=True, load_from_cache_file=False)


def relabel(pairs: Dataset, fixed: Any) -> Dataset:
    """Pairs with repaired labels, the dropped ones left out."""
    repaired = exchange(pairs, fixed.swapped).add_column("target", fixed.target).add_column("margin", fixed.margin)
    return repaired.select(np.flatnonzero(fixed.keep))


def main() -> None:
    """Compute what is missing, print the tables and write benchmarks/results/gold.json."""
    parser = make_parser(__doc__, "gold_benchmark", seeds=5)
    parser.add_argument("--no-fine-tuning", action="store_true", help="heads alone, half the time")
    options = parser.parse_args()
    seeds = list(range(options.seeds))
    cells = []
    for seed in tqdm(seeds, desc="Seeds", unit="seed"):
        folder = options.work / f"seed-{seed}"
        world = make_world(folder, seed)
        cell = keep(folder / "heads.json", lambda world=world, seed=seed: run_heads(world, seed))
        best = cell["by_rate"][f"{RATE:g}"]["lines"]["best recipe"]
        if not options.no_fine_tuning:
            cell["fine_tuned"] = keep(
                folder / "fine-tuned.json", lambda world=world, best=best, seed=seed: fine_tune(world, best, seed)
            )
        cells.append(cell)
    clean = [cell["by_rate"]["0"] for cell in cells]
    by_rate = {rate: gather([cell["by_rate"][rate] for cell in cells], clean) for rate in cells[0]["by_rate"]}
    by_kind = {
        kind: {way: summarise([cell["by_kind"][kind][way] for cell in cells]) for way in ways}
        for kind, ways in cells[0]["by_kind"].items()
    }
    figures = {
        "sizes": SIZES,
        "demonstrations": DEMONSTRATIONS,
        "voters": vars(VOTERS),
        "final": vars(FINAL),
        "by_rate": by_rate,
        "by_kind": by_kind,
    }
    for test in ("gold", "in_distribution", "new_topics", "new_phrasings", "another_policy"):
        print(f"\n{test}\n{format_table(by_rate, test)}")
    print("\nAUROC of flips by kind of noise")
    for kind, ways in by_kind.items():
        print(f"| {kind} | {' | '.join(f'{way} {show(entry, 1, 3)}' for way, entry in ways.items())} |")
    if not options.no_fine_tuning:
        figures["fine_tuned"] = {
            name: {test: summarise([cell["fine_tuned"][name][test] for cell in cells]) for test in tests}
            for name, tests in cells[0]["fine_tuned"].items()
        }
        print("\nfine-tuned reward models")
        for name, tests in figures["fine_tuned"].items():
            print(f"| {name} | {' | '.join(f'{test} {show(entry)}' for test, entry in tests.items())} |")
    print(write_results("gold", figures, seeds=seeds))


if __name__ == "__main__":
    main()
