"""How far best-of-n can be pushed against each kind of reward model before the gold reward turns over.

    python -m benchmarks.overoptimization.overoptimization [--seeds 5] [--prompts 10] [--work runs/overoptimization]

Worlds, labels (30 % flipped) and features are those of benchmarks/label_repair/synthetic.py, from whose work folder they are taken where
it has them. To each prompt the world's writer gives 1,024 responses of any quality: the policy that the pairs were
drawn from, and another one. A reward model chooses among n of them; what its choice is worth in gold is the unbiased
estimate of `rmkit.metrics.best_of_n` for every n up to 1,024.

All are heads on the base model's frozen features. "One" and "robust" are means over members, each a reward model by
itself; an ensemble's ten members are standardised on the training responses before they are put together, and the
weight of the variance is chosen by accuracy on the noisy validation pairs, as the robust model's recipe is.

"MetaRM" is "one" trained by MetaRM's step on 5 unlabelled responses of the policy that is judged to each of 320 other
prompts. Its step size is chosen in the same way, for each seed and policy: "meta" in the results has the accuracies
and the choice. Beside it the largest step, as beside the chosen weight of the variance the heaviest.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.label_repair.data import FAST_WORLD, MAX_LENGTH, World, make_gold_source, make_world
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
    """How much is measured: prompts of each kind and responses to each, the world; a recipe where none is chosen."""

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


class Pool(NamedTuple):
    """Responses to the prompts of one kind: features [prompt, response, feature], gold rewards [prompt, response]."""

    features: NDArray[np.float32]
    gold: NDArray[np.float64]


def draw_pool(world: World, split: str, scale: Scale, seed: int) -> Pool:
    """Prompts, and responses of uniform quality to each."""
    rng = random.Random(derive_seed(seed, "pool", split))
    rows, worth = [], []
    for drawn in draw_prompts(split, scale.prompts, seed=seed):
        request = read_request(drawn["request"])
        responses = [write_response(request, rng.random(), rng, policy=POLICIES[split]) for _ in range(scale.responses)]
        worth.append([gold_reward(request, response) for response in responses])
        for number in range(0, scale.responses, 2):
            one, other = responses[number], responses[(number + 1) % scale.responses]  # of an odd number one is twice
            rows.append({
                "id": f"{drawn['id']}:{number}",
                "prompt": [{"role": "user", "content": drawn["prompt"]}],
                "chosen": [{"role": "assistant", "content": one}],
                "rejected": [{"role": "assistant", "content": other}],
            })
    sides = extract_features(Dataset.from_list(rows), world.base, max_length=MAX_LENGTH)
    features = np.stack([np.asarray(side) for side in sides], axis=1)
    features = features.reshape(scale.prompts, -1, features.shape[-1])[:, :scale.responses]
    return Pool(features, np.array(worth))


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
        samples = draw_pool(world, split, few, derive_seed(seed, "meta")).features
        metas = train_metas(*trial.train, **ENSEMBLE, responses=samples, seed=derive_seed(seed, "ensemble"))
        tried[split] = {size: mean_accuracy(heads, trial.validation) for size, heads in metas.items()}
        pool = draw_pool(world, split, scale, seed)
        rewards = standardise(score(ensemble, pool.features), ensemble, trial)
        proxies = {name: score(heads, pool.features) for name, heads in single.items()} | {
            "ensemble mean": rewards.mean(axis=0, keepdims=True),
            "worst case": rewards.min(axis=0, keepdims=True),
            "mean less variance": combine(rewards, penalty)[None],
            "mean less variance, heaviest": combine(rewards, PENALTIES[-1])[None],
            "MetaRM": score(metas[find_best(tried[split])], pool.features),
            "MetaRM, largest step": score(metas[f"{STEP_SIZES[-1]:g}"], pool.features),
            "gold itself": pool.gold[None],
        }
        curves[split] = {
            name: np.mean([best_of_n(member, pool.gold, scale.sizes) for member in members], axis=(0, 1)).tolist()
            for name, members in proxies.items()
        }
    plain = mean_accuracy(ensemble, trial.validation)
    return {"curves": curves, "penalty": penalty, "recipe": best["line"], "meta": {"plain": plain, "tried": tried}}


def choose_recipe(world: World, seed: int) -> Mapping[str, Any]:
    """The recipe that was best on noisy validation pairs, of the gold study."""
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
    """Rewards in each member's own units: its mean and standard deviation over the training responses."""
    seen = np.concatenate([heads.score(side) for side in trial.train], axis=1)
    shape = (-1, *[1] * (rewards.ndim - 1))
    return (rewards - seen.mean(axis=1).reshape(shape)) / seen.std(axis=1).reshape(shape)


def combine(rewards: Rewards, penalty: float) -> NDArray[np.float64]:
    """The members' mean, less so much of their variance (Coste et al., arXiv 2310.02743)."""
    return rewards.mean(axis=0) - penalty * rewards.var(axis=0)


def choose_penalty(heads: Heads, trial: Trial) -> float:
    """The penalty under which most noisy validation pairs are in the order of their labels; of equals the least."""
    sides = [standardise(heads.score(side), heads, trial) for side in trial.validation]
    return max(PENALTIES, key=lambda penalty: pair_accuracy(
        combine(sides[0], penalty) - combine(sides[1], penalty)).accuracy)


def gather(cells: Sequence[dict[str, Any]], sizes: Sequence[int]) -> dict[str, Any]:
    """Curves over seeds, where each turns over, what is lost from there to the largest n, and what is gained there."""
    found: dict[str, Any] = {}
    for split, curves in cells[0]["curves"].items():
        found[split] = {}
        base = np.array([cell["curves"][split][BASE] for cell in cells])
        for name in curves:
            each = np.array([cell["curves"][split][name] for cell in cells])  # [seed, size]
            mean = each.mean(axis=0)
            found[split][name] = {
                "gold": [summarise(column.tolist()) for column in each.T],
                "turnover": sizes[find_peak(mean)],
                "turnover_by_seed": [sizes[find_peak(curve)] for curve in each],
                "lost": estimate_mean((each[:, mean.argmax()] - each[:, -1]).tolist()),
                "gain": estimate_mean((each[:, -1] - base[:, -1]).tolist()),
            }
    return found


def find_peak(curve: NDArray[np.float64]) -> int:
    """The place of the highest gold reward; of those that are equal to two decimals the first."""
    return int(np.round(curve, 2).argmax())


def study(work: Path, worlds: Path, seeds: Sequence[int], scale: Scale) -> dict[str, Any]:
    """All figures, over seeds."""
    work.mkdir(parents=True, exist_ok=True)
    cells = [
        keep(work / f"seed-{seed}-{scale.prompts}.json", partial(run_seed, worlds, scale, seed))
        for seed in tqdm(seeds, desc="Seeds", unit="seed")
    ]
    return {
        "sizes": scale.sizes,
        "prompts": scale.prompts * len(seeds),
        "responses": scale.responses,
        "rate": RATE,
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
