"""What MetaRM is worth when the policy has moved: reward models judge responses of policies away from SFT.

    python -m benchmarks.metarm.metarm [--seeds 5] [--from-scratch] [--work runs/metarm]

In the gold world, where every response's true quality is known. The SFT policy is the world's own writer. A policy at a
distance from it is the one that RLHF aims at: the best of reward - beta KL, the reward being that of a model trained on
the world's pairs. It is drawn by choosing among 64 responses of the SFT policy with probabilities that grow as
exp(reward / beta); beta is such that the mean KL over prompts of one draw is the one named (the five to a prompt are
drawn without putting back, so that together they are a little nearer SFT). That model then goes on with its pairs,
as in a round of iterative RLHF: plain, or by MetaRM with 5 responses of one of these policies to each prompt of a meta
set, without labels. Both have the same pairs in the same order; both tell apart pairs of the policy's responses to
other prompts. With --from-scratch both are trained from the base model on instead, on half the pairs, the policies aim
at the plain one's reward, and results are metarm_scratch. The ascent's step size is the one that is best over all
distances with seeds of its own, which are never reported, of those that cost no more than half a point on validation
pairs. The gold worlds of benchmarks/label_repair/synthetic.py are used. What is finished is kept in --work and not computed again.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.contrastive.tasks import Task, make_gold_task
from benchmarks.metarm.designs import FAST, FAST_DESIGN, SCRATCH, TRAINED, VARIANTS, Design, Scale
from benchmarks.metarm.policies import SAMPLES, Pool, draw, draw_pool, find_policy, measure_kl, score
from benchmarks.shared.cli import make_parser
from benchmarks.shared.results import keep, summarise, write_results
from benchmarks.shared.statistics import estimate_mean
from rmkit.commands.train import TrainConfig, train
from rmkit.core.seeds import derive_seed
from rmkit.core.stage import sha256_text
from rmkit.data.parquet import write_table
from rmkit.metrics.accuracy import pair_accuracy

ALLOWED = 0.005  # loss of accuracy on validation pairs, which are of the training pairs' distribution


def train_model(task: Task, base: str, folder: Path, seed: int, **settings: Any) -> Path:
    """A reward model on the task's pairs; entered as it stands where it is finished."""
    folder.mkdir(parents=True, exist_ok=True)
    write_table(task.pairs, folder / "train.parquet")
    return train(TrainConfig(data=str(folder / "train.parquet"), model_name_or_path=base,
                             output_dir=str(folder / "model"), seed=seed, **settings))


def measure(model: Path, pool: Pool, chosen: NDArray[np.intp]) -> dict[str, float]:
    """How a model orders the chosen responses, pair by pair, and the spread of its differences."""
    responses = [[group[place] for place in row] for group, row in zip(pool.responses, chosen, strict=True)]
    rewards = score(model, pool.prompts, responses)
    gold = np.take_along_axis(pool.gold, chosen, axis=1)
    pairs = np.array(list(combinations(range(SAMPLES), 2)))
    gaps, truth = (values[:, pairs[:, 0]] - values[:, pairs[:, 1]] for values in (rewards, gold))
    differ = truth != 0
    oriented = np.where(truth < 0, -gaps, gaps)[differ]
    return {"accuracy": pair_accuracy(oriented).accuracy, "spread": float(gaps.std()), "pairs": int(differ.sum())}


class Seed:
    """One seed: what its models begin with, its plain model, its policies, and what is measured on them."""

    def __init__(self, work: Path, worlds: Path, seed: int, scale: Scale, design: Design) -> None:
        self.work, self.seed, self.scale, self.design = work / f"{design.results}-{seed}", seed, scale, design
        self.task = make_gold_task(worlds / f"seed-{seed}", seed, pairs=design.pairs, **scale.world)
        self.start = self.task.base
        if design.start is not None:
            self.start = str(train_model(self.task, self.start, self.work / "start", seed, **design.start))
        self.plain = train_model(self.task, self.start, self.work / "plain", seed, **design.settings)
        self.aimed_at = self.plain if design.start is None else Path(self.start)  # whose reward the policies seek
        self.pools = {name: self.score_pool(name, prompts) for name, prompts in scale.prompts.items()}
        self.policies = {
            (name, distance): find_policy(pool.rewards, distance)
            for name, pool in self.pools.items() for distance in scale.distances
        }

    def score_pool(self, name: str, prompts: int) -> Pool:
        """A pool with the rewards that the policies seek, which are kept."""
        pool = draw_pool(prompts, self.scale.pool, self.seed, name)
        path = self.work / f"{name}-{prompts}.npy"
        if not path.exists():
            np.save(path, score(self.aimed_at, pool.prompts, pool.responses))
        return Pool(pool.prompts, pool.responses, pool.gold, np.load(path))

    def choose(self, name: str, distance: float) -> NDArray[np.intp]:
        """The responses of a policy to a pool's prompts."""
        return draw(self.policies[name, distance], derive_seed(self.seed, name, distance))

    def judge_plain(self) -> dict[str, Any]:
        """The plain model on its own pairs and on each policy, with the policy's KL and gold reward."""
        return keep(self.work / "plain.json", self.measure_plain)

    def measure_plain(self) -> dict[str, Any]:
        """What `judge_plain` keeps."""
        found: dict[str, Any] = {
            "validation": self.task.validate(self.plain), "test": self.task.test(self.plain), "distances": {},
        }
        pool = self.pools["test"]
        for distance in self.scale.distances:
            weights = np.exp(self.policies["test", distance])
            found["distances"][f"{distance:g}"] = {
                **measure(self.plain, pool, self.choose("test", distance)),
                "kl": measure_kl(self.policies["test", distance]),
                "gold": float((weights * pool.gold).sum(axis=1).mean()),
                "reward": float((weights * pool.rewards).sum(axis=1).mean()),
            }
        return found

    def judge_meta(self, distance: float, step_size: float, variant: str) -> dict[str, Any]:
        """A MetaRM with samples of the policy at `distance`, on that policy and on the plain model's own tests."""
        settings = {**self.design.settings, **self.design.vary(variant), "meta_learning_rate": step_size}
        key = sha256_text(json.dumps([distance, settings, self.scale.prompts, SAMPLES]))[:8]
        folder = self.work / f"meta-{key}"

        def compute() -> dict[str, Any]:
            folder.mkdir(parents=True, exist_ok=True)
            pool = self.pools["meta"]
            rows = [
                {"prompt": prompt, "responses": [group[place] for place in row]} for prompt, group, row
                in zip(pool.prompts, pool.responses, self.choose("meta", distance), strict=True)
            ]
            samples = folder / "samples.jsonl"
            samples.write_text("".join(json.dumps(row) + "\n" for row in rows))
            model = train_model(self.task, self.start, folder, self.seed, meta_data=str(samples), **settings)
            found = measure(model, self.pools["test"], self.choose("test", distance))
            found |= {"validation": self.task.validate(model), "test": self.task.test(model)}
            shutil.rmtree(folder)
            return found

        return keep(folder.with_suffix(".json"), compute)


def main() -> None:
    """Compute what is missing and write benchmarks/results/metarm.json, or metarm_scratch.json."""
    parser = make_parser(__doc__, "metarm", seeds=5, worlds=True)
    parser.add_argument("--from-scratch", action="store_true")
    options = parser.parse_args()
    design = SCRATCH if options.from_scratch else TRAINED
    seeds = design.pick_seeds(options.seeds)
    print(write_results(design.results, study(options.work, options.worlds, seeds, Scale(), design), seeds=seeds))


def study_fast(folder: Path) -> dict[str, Any]:
    """The study in miniature."""
    return study(folder / "work", folder / "worlds", [0], FAST, FAST_DESIGN)


def study(work: Path, worlds: Path, seeds: Sequence[int], scale: Scale, design: Design) -> dict[str, Any]:
    """Choose the step size with seeds of their own, then compare on each of `seeds`."""
    work.mkdir(parents=True, exist_ok=True)
    tuning = [Seed(work, worlds, number, scale, design) for number in design.tuning_seeds]
    tried = {size: try_step(tuning, size) for size in tqdm(design.step_sizes, "Step sizes")}
    allowed = [size for size in tried if tried[size]["validation"] >= -ALLOWED] or [min(tried)]
    best = max(allowed, key=lambda size: tried[size]["accuracy"])
    cells = []
    for number in tqdm(seeds, "Seeds"):
        seed = Seed(work, worlds, number, scale, design)
        cells.append({
            "plain": seed.judge_plain(),
            "meta": {f"{one:g}": seed.judge_meta(one, best, "full") for one in scale.distances},
            "variants": {name: seed.judge_meta(scale.middle, best, name) for name in VARIANTS},
        })
    return summarise_cells(cells, tried, best, scale, design)


def try_step(seeds: Sequence[Seed], size: float) -> dict[str, float]:
    """What a step size gains over the plain models, on the policies' responses and on validation pairs."""
    gains: dict[str, list[float]] = {"accuracy": [], "validation": []}
    for seed in tqdm(seeds, f"Step size {size:g}"):
        plain = seed.judge_plain()
        for distance in seed.scale.distances:
            cell = seed.judge_meta(distance, size, "full")
            gains["accuracy"].append(cell["accuracy"] - plain["distances"][f"{distance:g}"]["accuracy"])
            gains["validation"].append(cell["validation"] - plain["validation"])
    return {name: float(np.mean(values)) for name, values in gains.items()}


def summarise_cells(
    cells: Sequence[dict[str, Any]], tried: Mapping[float, dict[str, float]], best: float, scale: Scale, design: Design,
) -> dict[str, Any]:
    """Means, spreads and paired gains over seeds."""

    def gain(pick_meta: Any, pick_plain: Any) -> dict[str, Any]:
        return estimate_mean([pick_meta(cell) - pick_plain(cell) for cell in cells])

    distances: dict[str, Any] = {}
    for one in (f"{distance:g}" for distance in scale.distances):
        plain = [cell["plain"]["distances"][one] for cell in cells]
        meta = [cell["meta"][one] for cell in cells]
        distances[one] = {
            "plain": {name: summarise([row[name] for row in plain]) for name in plain[0]},
            "meta": {name: summarise([row[name] for row in meta]) for name in ("accuracy", "spread")},
            "gain": estimate_mean([mine["accuracy"] - theirs["accuracy"] for mine, theirs in
                                   zip(meta, plain, strict=True)]),
            "tests": {
                test: gain(lambda cell, one=one, test=test: cell["meta"][one]["test"][test],
                           lambda cell, test=test: cell["plain"]["test"][test])
                for test in cells[0]["plain"]["test"]
            },
        }
    middle = f"{scale.middle:g}"
    return {
        "pool": scale.pool, "prompts": scale.prompts, "samples": SAMPLES, "pairs": design.pairs, "start": design.start,
        "settings": design.settings,
        "tried": {f"{size:g}": gains for size, gains in tried.items()}, "meta_learning_rate": best,
        "distances": distances,
        "variants": {
            name: gain(lambda cell, name=name: cell["variants"][name]["accuracy"],
                       lambda cell: cell["plain"]["distances"][middle]["accuracy"]) for name in VARIANTS
        },
    }


if __name__ == "__main__":
    main()
