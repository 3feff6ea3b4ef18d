"""Iterative RLHF where the truth is known: does MetaRM keep a policy improving where a plain reward model stops?

    python -m benchmarks.metarm.iterative_rlhf [--seeds 3] [--work runs/iterative_rlhf] [--worlds runs/gold_benchmark]

The rounds of recipes/iterative_rlhf on the gold world; the tiny language model is the SFT policy. Both arms have the
same pairs, prompts, seeds and steps. All reward models of a seed continue one that was trained on the pairs, with the
same pairs in the same order, by MetaRM with samples of the current policy, or without. Rewards are divided by their
standard deviation before each round, so that the arms differ only in what they reward.

The gold worlds of label_repair/synthetic.py are used, and made where they are missing. The settings were chosen on
seed 5, which is not reported. Finished steps are kept in --work.
"""

import json
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.label_repair.data import MAX_LENGTH, write_gold_pairs
from benchmarks.shared.cli import make_parser
from benchmarks.shared.results import write_results
from benchmarks.shared.statistics import Cells, estimate_lead, summarise_arms
from rmkit.commands.iterate import METARM, PLAIN, IterateConfig, iterate
from rmkit.commands.synthetic import BASE_MODEL
from rmkit.commands.train import TrainConfig, train

ROUNDS = 4
EVALUATION = 120  # evaluation prompts, none of them in the pairs
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


def configure(work: Path, worlds: Path, seed: int) -> IterateConfig:
    """A seed's rounds on its gold world, with the reward model that both arms continue."""
    gold, pairs = write_gold_pairs(worlds / f"seed-{seed}", seed)
    folder, policy = work / f"seed-{seed}", str(gold / BASE_MODEL)
    start = train(TrainConfig(
        data=str(pairs), model_name_or_path=policy, output_dir=str(folder / "start"), seed=seed, max_length=MAX_LENGTH,
        **START, **COMMON,
    ))
    return IterateConfig(
        output_dir=str(folder / "rounds"), data=str(pairs), model_name_or_path=policy, reward_model=str(start),
        synthetic={"evaluation_prompts": EVALUATION, "demonstrations": 0}, evaluation_prompts="synthetic",
        rounds=ROUNDS, max_length=MAX_LENGTH, seed=seed, **SETTINGS,
    )


def gather(cells: Cells) -> dict[str, Any]:
    """All figures of `cells` [seed][arm][round] over seeds, and the lead of MetaRM within seeds by round."""
    ahead = [{name: estimate_lead(cells, METARM, PLAIN, number, name)
              for name in ("gold", "win_rate", "accuracy_before") if name in figures}
             for number, figures in enumerate(cells[0][PLAIN])]
    return {"by_arm": summarise_arms(cells, FIGURES), "ahead": ahead}


def main() -> None:
    """Compute what is missing and write benchmarks/results/iterative_rlhf.json."""
    options = make_parser(__doc__, "iterative_rlhf", seeds=3, worlds=True).parse_args()
    seeds = list(range(options.seeds))
    cells = []
    for seed in tqdm(seeds, desc="Seeds", unit="seed"):
        path = iterate(configure(options.work, options.worlds, seed))
        cells.append(json.loads(path.read_text(encoding="utf-8"))["rounds"])
    print(write_results("iterative_rlhf", gather(cells), seeds=seeds, packages=["trl"]))


if __name__ == "__main__":
    main()
