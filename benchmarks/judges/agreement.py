"""Agreement of judges with people, on pairs that several people have judged."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmkit.judges.metrics import evaluate_judge
from rmkit.metrics import agreement, bootstrap_interval, ratio_interval

Rows = Sequence[Mapping[str, Any]]
VERDICTS = {"chosen": 1.0, "tie": 0.0, "rejected": -1.0, None: np.nan}


def read_votes(name: str, rows: Rows) -> NDArray[np.float64]:
    """People's verdicts [pair, vote]: 1 for `chosen`, 0 for a tie, NaN for none. A column is not one person."""
    if name == "pandalm_test":
        return np.array([[VERDICTS[vote] for vote in row["votes"]] for row in rows])
    votes = np.full((len(rows), max(len(row["annotations"]) for row in rows)), np.nan)
    for pair, row in enumerate(rows):
        votes[pair, :len(row["annotations"])] = np.sign([strength for _, strength in row["annotations"]])
    return votes


def compare_people(votes: NDArray[np.float64], prompts: NDArray[np.str_]) -> dict[str, Any]:
    """Agreement of each vote with each other vote on the pair, and with the majority of two or more others."""
    with_one: list[tuple[float, float, str]] = []
    with_others: list[tuple[float, float, str]] = []
    for row, prompt in zip(votes, prompts, strict=True):
        given = row[~np.isnan(row)]
        for index, verdict in enumerate(given):
            others = np.delete(given, index)
            with_one += [(verdict, other, prompt) for other in others]
            if len(others) >= 2:
                with_others.append((verdict, majority(others), prompt))
    return {
        "with_one": measure_agreement(*zip(*with_one, strict=True)),
        "with_others_majority": measure_agreement(*zip(*with_others, strict=True)) if with_others else None,
        "pairs": int(((~np.isnan(votes)).sum(axis=1) >= 2).sum()),
    }


def majority(verdicts: NDArray[np.float64]) -> float:
    """The verdict of more than half, otherwise a tie."""
    return float(next((side for side in (1.0, -1.0) if (verdicts == side).mean() > 0.5), 0.0))


def measure_agreement(verdicts: Sequence[float], labels: Sequence[float], prompts: Sequence[str]) -> dict[str, Any]:
    """Agreement with labels and its 95 % interval over prompts."""
    verdict, label = np.array(verdicts), np.array(labels)
    counted = (np.abs(label) == 1) & ~np.isnan(verdict)
    hits = np.where(counted, (np.nan_to_num(verdict * label) + 1) / 2, 0)
    return agreement(verdict, label)._asdict() | ratio_interval(hits, counted, prompts, seed=0)._asdict()


def compare_judges(name: str, rows: Rows, models: Mapping[str, Sequence[NDArray[np.float64]]]) -> dict[str, Any]:
    """Agreement of all judges with people on one test set.

    models: for each recipe, the reward models' gaps [pair] by seed. `first_less`: mean accuracy of the first recipe
    minus that of each other judge, on pairs with a majority.
    """
    prompts = np.array([row["prompt"] for row in rows])
    votes = read_votes(name, rows)
    label = np.array([1.0 if row["gold"] == "chosen" else 0.0 for row in rows])
    lengths = np.array([[row["chosen_length"], row["rejected_length"]] for row in rows])
    judges = {"the longer wins": np.sign(lengths[:, 0] - lengths[:, 1]).astype(float)}
    for judge in rows[0].get("judges", ()):
        judges[judge] = np.array([VERDICTS[row["judges"].get(judge)] for row in rows])
    verdicts = {recipe: [np.sign(gap) for gap in gaps] for recipe, gaps in models.items()}
    pair_of_vote = np.repeat(np.arange(len(rows)), votes.shape[1])
    sign = np.random.default_rng(0).choice([1.0, -1.0], len(rows))  # kappa needs labels of both signs

    def evaluate(given: NDArray[np.float64]) -> dict[str, Any]:
        report = evaluate_judge(
            ((given * sign)[:, None, None] + 1) / 2, label * sign, prompts=prompts,
            lengths=np.where(sign[:, None] > 0, lengths, lengths[:, ::-1]),
        )
        return {
            "with_majority": report["agreement"], "tie_rate": report["tie_rate"], "length": report["length"],
            "with_one": measure_agreement(given[pair_of_vote], votes.ravel(), prompts[pair_of_vote]),
        }

    means = {recipe: np.mean(by_seed, axis=0) for recipe, by_seed in verdicts.items()}
    accuracy = {judge: (given[label == 1] + 1) / 2 for judge, given in {**means, **judges}.items()}
    first = accuracy.pop(next(iter(models)))
    leads = {}
    for judge, other in accuracy.items():
        interval = bootstrap_interval(lambda weights, gain=first - other: weights @ gain / weights.sum(axis=1),
                                      prompts[label == 1], seed=0)
        leads[judge] = {"mean": float((first - other).mean()), **interval._asdict()}
    return {
        "people": compare_people(votes, prompts),
        "judges": {judge: evaluate(given) for judge, given in judges.items()},
        "reward_models": {recipe: [evaluate(given) for given in by_seed] for recipe, by_seed in verdicts.items()},
        "pairs": len(rows), "clear": int(label.sum()), "first_less": leads,
    }
