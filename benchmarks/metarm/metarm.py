"""Does MetaRM help when the policy has moved? Reward models order responses of policies away from SFT.

    python -m benchmarks.metarm.metarm [--seeds 10] [--from-scratch] [--work runs/metarm]

In the gold world, where the true quality of every response is known, and responses of the SFT policy can be drawn. A
policy at a distance from SFT maximises reward - beta KL, with the reward of a model trained on the world's pairs: it
chooses among 64 SFT responses with probabilities proportional to exp(reward / beta), where beta gives the named mean
KL. That reward model is then trained further on its pairs, plainly or by MetaRM with 5 unlabelled responses of the
policy to each of other prompts. Both see the same pairs in the same order, and are measured on pairs of the policy's
responses to new prompts.

With --from-scratch both models are trained from the base model on half the pairs, the policies maximise the plain
model's reward, and results are written to metarm_scratch. The step size is the best over all distances on separate,
unreported seeds, among those that cost at most half a point on validation pairs. The gold worlds of
benchmarks/label_repair/synthetic.py are used. Finished parts are kept in --work.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.contrastive.tasks import GOLD_PAIRS, GOLD_SETTINGS, make_gold_task
from benchmarks.label_repair.data import FAST_WORLD, MAX_LENGTH, SIZES
from benchmarks.label_repair.synthetic import train_model
from benchmarks.metarm.iterative_rlhf import START
from benchmarks.metarm.policies import SAMPLES, Pool, draw, draw_pool, find_policy, measure_kl, score
from benchmarks.shared.cli import make_parser
from benchmarks.shared.results import keep, write_results
from benchmarks.shared.statistics import estimate_mean, summarise_nested
from rmkit.core.seeds import derive_seed
from rmkit.metrics.accuracy import pair_accuracy

MAX_LOSS = 0.005  # of accuracy on validation pairs, for a step size that may be chosen
VARIANTS = {"full": (1, 1), "quarter": (4, 1), "full, each 4th step": (1, 4)}  # pairs / prompts of an ascent, steps
SHARED = {"max_length": MAX_LENGTH, "report_to": "none", "save_strategy": "no", "disable_tqdm": True}


@dataclass(frozen=True)
class Design:
    """How the compared models are trained: from the base model, or continuing a model trained with `start`."""

    results: str
    settings: Mapping[str, Any]
    pairs: int
    step_sizes: tuple[float, ...]
    tuning_seeds: tuple[int, ...] = (5,)
    start: Mapping[str, Any] | None = None

    def pick_seeds(self, count: int) -> list[int]:
        """The first `count` seeds that are not used for tuning."""
        return [seed for seed in range(count + len(self.tuning_seeds)) if seed not in self.tuning_seeds][:count]


SCRATCH = Design(  # learning rate: the best of benchmarks/contrastive for plain Bradley-Terry
    results="metarm_scratch", pairs=GOLD_PAIRS, step_sizes=(0.03, 0.1, 0.3, 1.0),
    settings={**GOLD_SETTINGS, "learning_rate": 5e-4},
)
TRAINED = Design(  # trained as in iterative_rlhf.py
    results="metarm", pairs=SIZES["train"], step_sizes=(0.1, 0.3, 1.0, 3.0), tuning_seeds=(5, 6, 7),
    start={**START, **SHARED},
    settings={"learning_rate": 2e-4, "max_steps": 60, "per_device_train_batch_size": 32, "warmup_steps": 5, **SHARED},
)


@dataclass(frozen=True)
class Scale:
    """Size of the study; `distances` in nats, each below log(`pool`)."""

    pool: int = 64  # SFT responses to a prompt
    prompts: Mapping[str, int] = field(default_factory=lambda: {"meta": 320, "test": 240})
    distances: tuple[float, ...] = (0.5, 1.5, 2.5)
    world: Mapping[str, Any] = field(default_factory=dict)  # sizes of a smaller gold world

    @property
    def middle(self) -> float:
        """The distance at which variants are compared."""
        return self.distances[len(self.distances) // 2]


FAST = Scale(pool=16, prompts={"meta": 24, "test": 16}, distances=(0.5,), world=FAST_WORLD)
FAST_DESIGN = replace(
    TRAINED, pairs=200, step_sizes=(1.0,), tuning_seeds=(1,), settings={**TRAINED.settings, "max_steps": 4}
)


def measure(model: Path, pool: Pool, samples: NDArray[np.intp]) -> dict[str, float]:
    """Accuracy on all pairs of the sampled responses [prompt, sample], and the standard deviation of the gaps."""
    responses = [[group[index] for index in row] for group, row in zip(pool.responses, samples, strict=True)]
    rewards = score(model, pool.prompts, responses)
    gold = np.take_along_axis(pool.gold, samples, axis=1)
    pairs = np.array(list(combinations(range(SAMPLES), 2)))
    gaps, truth = (values[:, pairs[:, 0]] - values[:, pairs[:, 1]] for values in (rewards, gold))
    differ = truth != 0
    oriented = np.where(truth < 0, -gaps, gaps)[differ]
    return {"accuracy": pair_accuracy(oriented).accuracy, "spread": float(gaps.std()), "pairs": int(differ.sum())}


class Seed:
    """One seed's task, initial and plain models, pools of responses and policies."""

    def __init__(self, work: Path, worlds: Path, seed: int, scale: Scale, design: Design) -> None:
        self.work, self.seed, self.scale, self.design = work / f"{design.results}-{seed}", seed, scale, design
        self.task = make_gold_task(worlds / f"seed-{seed}", seed, pairs=design.pairs, **scale.world)
        self.start = self.task.base
        if design.start is not None:
            self.start = str(train_model(self.task.pairs, self.start, self.work / "start", seed=seed, **design.start))
        self.plain = train_model(self.task.pairs, self.start, self.work / "plain", seed=seed, **design.settings)
        self.pools = {name: self.make_pool(name, prompts) for name, prompts in scale.prompts.items()}
        self.policies = {(name, distance): find_policy(pool.rewards, distance)
                         for name, pool in self.pools.items() for distance in scale.distances}

    def make_pool(self, name: str, prompts: int) -> Pool:
        """A pool with the rewards that the policies maximise, which are kept."""
        pool = draw_pool(prompts, self.scale.pool, self.seed, name)
        path = self.work / f"{name}-{prompts}.npy"
        if not path.exists():
            target = self.plain if self.design.start is None else Path(self.start)
            np.save(path, score(target, pool.prompts, pool.responses))
        return replace(pool, rewards=np.load(path))

    def sample(self, name: str, distance: float) -> NDArray[np.intp]:
        """A policy's responses [prompt, sample] to a pool's prompts."""
        return draw(self.policies[name, distance], derive_seed(self.seed, name, distance))

    def measure_plain(self) -> dict[str, Any]:
        """The plain model on its own tests and on each policy, with the policy's KL, gold reward and reward."""
        pool, distances = self.pools["test"], {}
        for distance in self.scale.distances:
            logs = self.policies["test", distance]
            gold, reward = (float((np.exp(logs) * values).sum(axis=1).mean()) for values in (pool.gold, pool.rewards))
            distances[f"{distance:g}"] = {
                **measure(self.plain, pool, self.sample("test", distance)), "kl": measure_kl(logs), "gold": gold,
                "reward": reward,
            }
        return {"validation": self.task.validate(self.plain), "test": self.task.test(self.plain),
                "distances": distances}

    def run_metarm(self, distance: float, step_size: float, variant: str) -> dict[str, Any]:
        """A MetaRM model with samples of the policy at `distance`, on that policy and on its own tests; kept."""
        divisor, every = VARIANTS[variant]
        batch = self.design.settings["per_device_train_batch_size"] // divisor
        settings = {**self.design.settings, "meta_batch_size": batch, "meta_steps": every,
                    "meta_learning_rate": step_size}
        folder = self.work / f"meta-{distance:g}-{step_size:g}-{variant.replace(' ', '-')}"

        def compute() -> dict[str, Any]:
            folder.mkdir(parents=True, exist_ok=True)
            pool, samples = self.pools["meta"], folder / "samples.jsonl"
            rows = zip(pool.prompts, pool.responses, self.sample("meta", distance), strict=True)
            samples.write_text("".join(
                json.dumps({"prompt": prompt, "responses": [group[index] for index in row]}) + "\n"
                for prompt, group, row in rows))
            model = train_model(self.task.pairs, self.start, folder, seed=self.seed, meta_data=str(samples), **settings)
            figures = measure(model, self.pools["test"], self.sample("test", distance))
            figures |= {"validation": self.task.validate(model), "test": self.task.test(model)}
            shutil.rmtree(folder)
            return figures

        return keep(folder.with_name(f"{folder.name}.json"), compute)


def tune_step(seeds: Sequence[Seed], size: float) -> dict[str, float]:
    """What a step size gains over the plain models, on the policies' responses and on validation pairs."""
    gains: dict[str, list[float]] = {"accuracy": [], "validation": []}
    for seed in tqdm(seeds, f"Step size {size:g}"):
        plain = keep(seed.work / "plain.json", seed.measure_plain)
        for distance in seed.scale.distances:
            cell = seed.run_metarm(distance, size, "full")
            gains["accuracy"].append(cell["accuracy"] - plain["distances"][f"{distance:g}"]["accuracy"])
            gains["validation"].append(cell["validation"] - plain["validation"])
    return {name: float(np.mean(values)) for name, values in gains.items()}


def gather(cells: Sequence[Mapping[str, Any]], distance: str) -> dict[str, Any]:
    """At one distance: means and standard deviations over seeds of both models, and paired gains."""
    plain, metarm = ([cell[model][distance] for cell in cells] for model in ("plain_at", "meta"))
    tests = {
        test: estimate_mean([cell["meta"][distance]["test"][test] - cell["plain"]["test"][test] for cell in cells])
        for test in cells[0]["plain"]["test"]
    }
    gains = [ours["accuracy"] - theirs["accuracy"] for ours, theirs in zip(metarm, plain, strict=True)]
    return {
        "plain": summarise_nested(plain),
        "meta": summarise_nested([{name: cell[name] for name in ("accuracy", "spread")} for cell in metarm]),
        "gain": estimate_mean(gains), "tests": tests,
    }


def study(work: Path, worlds: Path, seeds: Sequence[int], scale: Scale, design: Design) -> dict[str, Any]:
    """Choose the step size on separate seeds, then compare on each of `seeds`."""
    tuning = [Seed(work, worlds, number, scale, design) for number in design.tuning_seeds]
    tried = {size: tune_step(tuning, size) for size in tqdm(design.step_sizes, "Step sizes")}
    allowed = [size for size in tried if tried[size]["validation"] >= -MAX_LOSS] or [min(tried)]
    best = max(allowed, key=lambda size: tried[size]["accuracy"])
    middle, cells = f"{scale.middle:g}", []
    for number in tqdm(seeds, "Seeds"):
        seed = Seed(work, worlds, number, scale, design)
        plain = keep(seed.work / "plain.json", seed.measure_plain)
        cells.append({
            "plain": plain, "plain_at": plain["distances"],
            "meta": {f"{distance:g}": seed.run_metarm(distance, best, "full") for distance in scale.distances},
            "variants": {name: seed.run_metarm(scale.middle, best, name) for name in VARIANTS},
        })
    return {
        "tried": {f"{size:g}": gains for size, gains in tried.items()}, "meta_learning_rate": best,
        "distances": {f"{distance:g}": gather(cells, f"{distance:g}") for distance in scale.distances},
        "variants": {name: estimate_mean([cell["variants"][name]["accuracy"] - cell["plain_at"][middle]["accuracy"]
                                          for cell in cells]) for name in VARIANTS},
    }


def study_fast(folder: Path) -> dict[str, Any]:
    """The study in miniature."""
    return study(folder / "work", folder / "worlds", [0], FAST, FAST_DESIGN)


def main() -> None:
    """Compute what is missing and write benchmarks/results/metarm.json, or metarm_scratch.json."""
    parser = make_parser(__doc__, "metarm", seeds=5, worlds=True)
    parser.add_argument("--from-scratch", action="store_true")
    options = parser.parse_args()
    design = SCRATCH if options.from_scratch else TRAINED
    seeds = design.pick_seeds(options.seeds)
    print(write_results(design.results, study(options.work, options.worlds, seeds, Scale(), design), seeds=seeds))


if __name__ == "__main__":
    main()
