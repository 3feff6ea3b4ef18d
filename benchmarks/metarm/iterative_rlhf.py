"""Iterative RLHF where the truth is known: does MetaRM keep a policy rising where a plain reward model stops?

    python -m benchmarks.metarm.iterative_rlhf [--seeds 3] [--work runs/iterative_rlhf] [--worlds runs/gold_benchmark]

The rounds of recipes/iterative_rlhf on the gold world: the tiny language model is the SFT policy. Both arms have the
same pairs, prompts, seeds and steps. All reward models of a seed begin with one trained on the pairs, and go on with
the same pairs in the same order, by MetaRM with samples of the policy as it stands, or without. Rewards are divided by
their spread before each round, so that the arms differ in what they reward and not in how much.

The gold worlds of benchmarks/label_repair/synthetic.py are used, and made where it has not. The settings were found with a seed of its
own, 5, which is not reported. What is finished is kept in --work, step by step, and not computed again.
"""

import json
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.label_repair.data import DEMONSTRATIONS, MAX_LENGTH, SIZES
from benchmarks.shared.cli import make_parser
from benchmarks.shared.results import write_results
from benchmarks.shared.statistics import Cells, estimate_lead, summarise_arms
from rmkit.commands.iterate import METARM, PLAIN, IterateConfig, iterate
from rmkit.commands.read import ReadConfig, read
from rmkit.commands.synthetic import BASE_MODEL, SyntheticConfig, synthetic
from rmkit.commands.train import TrainConfig, train

ROUNDS = 4
EVALUATION = 120  # prompts that are measured, apart from those of the pairs
COMMON = {"report_to": "none", "save_strategy": "no", "disable_tqdm": True, "logging_steps": 50}
START = {"learning_rate": 1e-3, "num_train_epochs": 1, "per_device_train_batch_size": 16, "warmup_steps": 20}
SETTINGS: dict[str, dict[str, Any]] = {
    "sample": {"samples": 4, "prompts": 320, "max_new_tokens": 80},
    "train": {"learning_rate": 2e-4, "max_steps": 60, "per_device_train_batch_size": 32, "warmup_steps": 5, **COMMON},
    "metarm": {"meta_learning_rate": 1.0, "meta_batch_size": 32},
    "rl": {
        "learning_rate": 4e-4, "max_steps": 20, "per_device_train_batch_size": 48, "num_generations": 4,
        "max_completion_length": 80, "beta": 0.02, "logging_steps": 5, "save_steps": 10, "disable_tqdm": True,
    },
}
FIGURES = ("gold", "win_rate", "reward", "kl", "accuracy_before", "accuracy", "spread_before", "spread",
           "gold_spread", "length", "duplicates")


def configure(work: Path, worlds: Path, seed: int, **changes: Any) -> IterateConfig:
    """A seed's rounds, on its gold world, with the reward model that all of its arms begin with."""
    world = worlds / f"seed-{seed}"
    gold = synthetic(SyntheticConfig(output_dir=str(world / "gold"), seed=seed, demonstrations=DEMONSTRATIONS, **SIZES))
    files = {"data": "train", "validation": "validation", "test": "test"}
    pairs = read(ReadConfig(
        output_dir=str(world / "pairs"), **{role: str(gold / f"{split}.jsonl") for role, split in files.items()}
    ))
    folder = work / f"seed-{seed}"
    policy = str(gold / BASE_MODEL)
    start = train(TrainConfig(
        data=str(pairs), model_name_or_path=policy, output_dir=str(folder / "start"), seed=seed, max_length=MAX_LENGTH,
        **START, **COMMON,
    ))
    return IterateConfig(**{
        "output_dir": str(folder / "rounds"), "data": str(pairs), "model_name_or_path": policy,
        "reward_model": str(start), "synthetic": {"evaluation_prompts": EVALUATION, "demonstrations": 0},
        "evaluation_prompts": "synthetic", "rounds": ROUNDS,
        "max_length": MAX_LENGTH, "seed": seed,
        **SETTINGS, **changes,
    })


def gather(cells: Cells) -> dict[str, Any]:
    """Over seeds, of `cells` [seed][arm][round]: every figure, and by how much MetaRM is ahead, in pairs of seeds."""
    ahead = [
        {name: estimate_lead(cells, METARM, PLAIN, place, name)
         for name in ("gold", "win_rate", "accuracy_before", "accuracy") if name in figures}
        for place, figures in enumerate(cells[0][PLAIN])
    ]
    return {"by_arm": summarise_arms(cells, FIGURES), "ahead": ahead}


def main() -> None:
    """Compute what is missing and write benchmarks/results/iterative_rlhf.json."""
    options = make_parser(__doc__, "iterative_rlhf", seeds=3, worlds=True).parse_args()
    seeds = list(range(options.seeds))
    cells = []
    for seed in tqdm(seeds, desc="Seeds", unit="seed"):
        path = iterate(configure(options.work, options.worlds, seed))
        cells.append(json.loads(path.read_text(encoding="utf-8"))["rounds"])
    settings = {"start": START, **SETTINGS, "rounds": ROUNDS, "evaluation_prompts": EVALUATION}
    figures = {"settings": settings, **gather(cells)}
    print(write_results("iterative_rlhf", figures, seeds=seeds, packages=["trl"]))


if __name__ == "__main__":
    main()
