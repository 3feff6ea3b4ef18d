"""Best-of-n against each kind of reward model: up to which n the gold reward of the chosen response rises.

    python -m benchmarks.overoptimization.overoptimization [--seeds 5] [--prompts 10] [--work runs/overoptimization]

Data, labels (30 % flipped) and features are those of label_repair/synthetic.py, reused from its work folder. Each
prompt has 1,024 responses of random quality from one of two policies: the one that the pairs were drawn from, and
another one. A reward model chooses among n of them; `rmkit.metrics.best_of_n` gives the unbiased estimate of the gold
reward of its choice for every n up to 1,024.

All are heads on the base model's frozen features. "One" and "robust" are means over members, each a reward model by
itself. An ensemble's ten members are standardised on the training responses before they are combined; the weight of
the variance is chosen by accuracy on the noisy validation pairs, as is the recipe of the robust model.

"MetaRM" is "one" trained by MetaRM on 5 unlabelled responses of the judged policy to each of 320 other prompts. Its
step size is chosen in the same way, for each seed and policy. The largest step size and the largest variance weight are
shown as well.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.label_repair.data import FAST_WORLD, MAX_LENGTH, World, make_gold_source, make_world, message
from benchmarks.label_repair.synthetic import RATE, run_heads
from benchmarks.label_repair.trial import VOTERS, Trial, mean_accuracy, train_repaired
from benchmarks.metarm.policies import SAMPLES
from benchmarks.overoptimization.metarm_heads import STEP_SIZES, find_best, gather_steps, train_metas
from benchmarks.shared.cli import make_parser
from benchmarks.shared.results import keep, summarise, write_results
from benchmarks.shared.statistics import estimate_mean
from rmkit.core.seeds import derive_seed
from rmkit.data.synthetic.dataset import draw_prompts, read_request
from rmkit.data.synthetic.gold_reward import gold_reward
from rmkit.data.synthetic.responses import write_response
from rmkit.ensembles.features import extract_features
from rmkit.ensembles.heads import Heads, cross_val_rewards, train_heads
from rmkit.metrics.accuracy import pair_accuracy
from rmkit.metrics.best_of_n import best_of_n
from rmkit.preferences import preference_strength

POLICIES = {"in_distribution": 0, "another_policy": 1}
PENALTIES = (0.03, 0.1, 0.3, 1.0)  # of the variance, in units of the ensemble's standardised rewards
ENSEMBLE = {"members": VOTERS["members"], "loss": "bradley_terry"}
BASE = "one"  # what the others are compared with


@dataclass(frozen=True)
class Scale:
    """Prompts of each policy, responses to each prompt, sizes of the world, and a recipe if none is to be chosen."""

    prompts: int = 10
    responses: int = 1024
    meta_prompts: int = 320  # MetaRM's
    world: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] | None = None

    @property
    def sizes(self) -> list[int]:
        """Each n: the powers of two."""
        return [2**power for power in range(self.responses.bit_length())]


FAST = Scale(prompts=2, responses=32, meta_prompts=20, world=FAST_WORLD, recipe={"line": "soft", "recipe": "soft"})

Rewards = NDArray[np.float64]  # [member, prompt, response]


def draw_pool(world: World, split: str, scale: Scale, seed: int) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Features [prompt, response, feature] and gold rewards [prompt, response] of responses of uniform quality."""
    rng = random.Random(derive_seed(seed, "pool", split))
    rows, gold = [], []
    for drawn in draw_prompts(split, scale.prompts, seed=seed):
        request = read_request(drawn["request"])
        responses = [write_response(request, rng.random(), rng, policy=POLICIES[split]) for _ in range(scale.responses)]
        gold.append([gold_reward(request, response) for response in responses])
        for number in range(0, scale.responses, 2):
            pair = responses[number], responses[(number + 1) % scale.responses]  # an odd number repeats the first
            rows.append({
                "id": f"{drawn['id']}:{number}", "prompt": message("user", drawn["prompt"]),
                "chosen": message("assistant", pair[0]), "rejected": message("assistant", pair[1]),
            })
    sides = extract_features(Dataset.from_list(rows), world.base, max_length=MAX_LENGTH)
    features = np.stack([np.asarray(side) for side in sides], axis=1)
    features = features.reshape(scale.prompts, -1, features.shape[-1])[:, :scale.responses]
    return features, np.array(gold)


def score(heads: Heads, features: NDArray[np.float32]) -> Rewards:
    """Rewards of every member."""
    prompts, responses, width = features.shape
    return heads.score(features.reshape(-1, width)).reshape(-1, prompts, responses)


def run_seed(worlds: Path, scale: Scale, seed: int) -> dict[str, Any]:
    """Gold reward [size] by policy and by reward model, means over prompts."""
    world = make_world(worlds / f"seed-{seed}", seed, **scale.world)
    source = make_gold_source(world)
    trial, clean = (source.make_trial(source.sample_flips("uniform", rate, seed, "uniform")) for rate in (RATE, 0.0))
    best = scale.recipe or choose_recipe(world, seed)
    ensemble = train_heads(*trial.train, **ENSEMBLE, seed=derive_seed(seed, "ensemble"))
    penalty = choose_penalty(ensemble, trial)
    single = {
        BASE: ensemble,
        "one, clean labels": train_heads(*clean.train, **ENSEMBLE, seed=derive_seed(seed, "ensemble")),
        "robust": train_robust(trial, best, seed),
    }
    curves: dict[str, dict[str, list[float]]] = {}
    tried: dict[str, dict[str, float]] = {}
    for split in POLICIES:
        few = replace(scale, prompts=scale.meta_prompts, responses=SAMPLES)
        samples = draw_pool(world, split, few, derive_seed(seed, "meta"))[0]
        metas = train_metas(*trial.train, **ENSEMBLE, responses=samples, seed=derive_seed(seed, "ensemble"))
        tried[split] = {size: mean_accuracy(heads, trial.validation) for size, heads in metas.items()}
        features, gold = draw_pool(world, split, scale, seed)
        rewards = standardise(score(ensemble, features), ensemble, trial)
        proxies = {name: score(heads, features) for name, heads in single.items()} | {
            "ensemble mean": rewards.mean(axis=0, keepdims=True),
            "worst case": rewards.min(axis=0, keepdims=True),
            "mean less variance": combine(rewards, penalty)[None],
            "mean less variance, heaviest": combine(rewards, PENALTIES[-1])[None],
            "MetaRM": score(metas[find_best(tried[split])], features),
            "MetaRM, largest step": score(metas[f"{STEP_SIZES[-1]:g}"], features),
            "gold itself": gold[None],
        }
        curves[split] = {
            name: np.mean([best_of_n(member, gold, scale.sizes) for member in members], axis=(0, 1)).tolist()
            for name, members in proxies.items()
        }
    plain = mean_accuracy(ensemble, trial.validation)
    return {"curves": curves, "penalty": penalty, "recipe": best["line"], "meta": {"plain": plain, "tried": tried}}


def choose_recipe(world: World, seed: int) -> Mapping[str, Any]:
    """The recipe that label_repair/synthetic.py found to be best on noisy validation pairs."""
    cell = keep(world.folder / "heads.json", lambda: run_heads(world, seed))
    best: dict[str, Any] = cell["by_rate"][f"{RATE:g}"]["lines"]["best recipe"]
    return best


def train_robust(trial: Trial, best: Mapping[str, Any], seed: int) -> Heads:
    """Heads on labels repaired by this recipe."""
    if "cross-fitted" in best["line"]:
        sides = cross_val_rewards(*trial.train, **VOTERS, groups=trial.groups, seed=seed)
    else:
        voters = train_heads(*trial.train, **VOTERS, seed=seed)
        sides = voters.score(trial.train[0]), voters.score(trial.train[1])
    return train_repaired(trial.train, preference_strength(*sides).mean, best, seed)


def standardise(rewards: Rewards, heads: Heads, trial: Trial) -> Rewards:
    """Rewards [member, ...] standardised by each member's mean and standard deviation over the training responses."""
    seen = np.concatenate([heads.score(side) for side in trial.train], axis=1)
    shape = (-1, *[1] * (rewards.ndim - 1))
    return (rewards - seen.mean(axis=1).reshape(shape)) / seen.std(axis=1).reshape(shape)


def combine(rewards: Rewards, penalty: float) -> NDArray[np.float64]:
    """Mean over members - penalty * variance (Coste et al., arXiv 2310.02743)."""
    return rewards.mean(axis=0) - penalty * rewards.var(axis=0)


def choose_penalty(heads: Heads, trial: Trial) -> float:
    """The penalty of the highest accuracy on noisy validation pairs; the smallest of equals."""
    sides = [standardise(heads.score(side), heads, trial) for side in trial.validation]
    return max(PENALTIES, key=lambda penalty: pair_accuracy(
        combine(sides[0], penalty) - combine(sides[1], penalty)).accuracy)


def gather(cells: Sequence[dict[str, Any]], sizes: Sequence[int]) -> dict[str, Any]:
    """Per curve: values over seeds, the peak, the loss from there to the largest n, and the gain over one RM there."""
    summary: dict[str, Any] = {}
    for split, curves in cells[0]["curves"].items():
        summary[split] = {}
        base = np.array([cell["curves"][split][BASE] for cell in cells])
        for name in curves:
            each = np.array([cell["curves"][split][name] for cell in cells])  # [seed, size]
            mean = each.mean(axis=0)
            summary[split][name] = {
                "gold": [summarise(column.tolist()) for column in each.T],
                "turnover": sizes[find_peak(mean)],
                "turnover_by_seed": [sizes[find_peak(curve)] for curve in each],
                "lost": estimate_mean((each[:, mean.argmax()] - each[:, -1]).tolist()),
                "gain": estimate_mean((each[:, -1] - base[:, -1]).tolist()),
            }
    return summary


def find_peak(curve: NDArray[np.float64]) -> int:
    """The index of the highest gold reward; the first of those that are equal to two decimals."""
    return int(np.round(curve, 2).argmax())


def study(work: Path, worlds: Path, seeds: Sequence[int], scale: Scale) -> dict[str, Any]:
    """All figures, over seeds."""
    cells = [
        keep(work / f"seed-{seed}-{scale.prompts}.json", partial(run_seed, worlds, scale, seed))
        for seed in tqdm(seeds, desc="Seeds", unit="seed")
    ]
    return {
        "sizes": scale.sizes,
        "curves": gather(cells, scale.sizes),
        "penalties": [cell["penalty"] for cell in cells],
        "recipes": [cell["recipe"] for cell in cells],
        "meta": gather_steps([cell["meta"] for cell in cells]),
    }


def study_fast(folder: Path) -> dict[str, Any]:
    """The study in miniature."""
    return study(folder / "work", folder / "worlds", [0], FAST)


def main() -> None:
    """Compute what is missing and write benchmarks/results/overoptimization.json."""
    parser = make_parser(__doc__, "overoptimization", seeds=5, worlds=True)
    parser.add_argument("--prompts", type=int, default=Scale.prompts, help="of each kind, for each seed")
    options = parser.parse_args()
    seeds = list(range(options.seeds))
    figures = study(options.work, options.worlds, seeds, Scale(prompts=options.prompts))
    print(write_results("overoptimization", figures, seeds=seeds))


if __name__ == "__main__":
    main()
