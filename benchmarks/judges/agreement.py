"""Judges beside people: agreement with the majority and with single people on pairs that several have judged."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmkit.judges.metrics import evaluate_judge
from rmkit.metrics import agreement, bootstrap_interval, ratio_interval

Rows = Sequence[Mapping[str, Any]]


def read_votes(name: str, rows: Rows) -> NDArray[np.float64]:
    """Single people's verdicts [pair, person], 1 for `chosen`; columns are no persons throughout; NaN for none."""
    if name == "pandalm_test":
        sign = {"chosen": 1.0, "tie": 0.0, "rejected": -1.0}
        return np.array([[sign[vote] for vote in row["votes"]] for row in rows])
    most = max(len(row["annotations"]) for row in rows)
    return np.array([[*np.sign([strength for _, strength in row["annotations"]]),
                      *[np.nan] * (most - len(row["annotations"]))] for row in rows])


def compare_people(votes: NDArray[np.float64], prompts: NDArray[np.str_]) -> dict[str, Any]:
    """How people agree: each one's verdict with every other's decided one, and with the others' majority."""
    alike: list[tuple[float, float, str]] = []
    with_others: list[tuple[float, float, str]] = []
    for row, prompt in zip(votes, prompts, strict=True):
        given = row[~np.isnan(row)]
        for place, verdict in enumerate(given):
            rest = np.delete(given, place)
            alike += [(verdict, other, prompt) for other in rest]
            if len(rest) >= 2:
                with_others.append((verdict, majority(rest), prompt))
    turn = np.random.default_rng(0).choice([1.0, -1.0], (len(votes), 1))  # see `compare_judges`
    several = (votes * turn)[(~np.isnan(votes)).sum(axis=1) >= 2]
    return {
        "with_one": measure(*zip(*alike, strict=True)),
        "with_others_majority": measure(*zip(*with_others, strict=True)) if with_others else None,
        "fleiss_kappa": fleiss_kappa(several),
        "pairs": len(several),
    }


def fleiss_kappa(answers: NDArray[np.float64]) -> float:
    """Fleiss' kappa of verdicts [pair, person], NaN for none, with at least two verdicts on each pair."""
    counts = np.stack([(answers == value).sum(axis=1) for value in np.unique(answers[~np.isnan(answers)])], axis=1)
    total = counts.sum(axis=1)
    observed = ((counts * (counts - 1)).sum(axis=1) / (total * (total - 1))).mean()
    expected = np.square(counts.sum(axis=0) / counts.sum()).sum()
    return float((observed - expected) / (1 - expected))


def majority(verdicts: NDArray[np.float64]) -> float:
    """The verdict of more than half, else a tie."""
    return float(next((side for side in (1.0, -1.0) if (verdicts == side).mean() > 0.5), 0.0))


def measure(verdicts: Sequence[float], labels: Sequence[float], prompts: Sequence[str]) -> dict[str, Any]:
    """Agreement with labels, with its 95 % interval over prompts."""
    verdict, label = np.array(verdicts), np.array(labels)
    counted = (np.abs(label) == 1) & ~np.isnan(verdict)
    hits = np.where(counted, (np.nan_to_num(verdict * label) + 1) / 2, 0)
    return agreement(verdict, label)._asdict() | ratio_interval(hits, counted, prompts, seed=0)._asdict()


def compare_judges(name: str, rows: Rows, models: Mapping[str, Sequence[NDArray[np.float64]]]) -> dict[str, Any]:
    """Every judge on one test set: with the majority, with single people.

    `models` has reward models' gaps [pair] by recipe, for each seed. The first recipe is set against all other judges.
    """
    prompts = np.array([row["prompt"] for row in rows])
    votes = read_votes(name, rows)
    label = np.array([1.0 if row["gold"] == "chosen" else 0.0 for row in rows])
    lengths = np.array([[row["chosen_length"], row["rejected_length"]] for row in rows])
    sign = {"chosen": 1.0, "tie": 0.0, "rejected": -1.0, None: np.nan}
    judges = {"the longer wins": np.sign(lengths[:, 0] - lengths[:, 1]).astype(float)}
    judges |= {judge: np.array([sign[row["judges"].get(judge)] for row in rows]) for judge in rows[0].get("judges", ())}
    decided = {recipe: [np.sign(gap) for gap in gaps] for recipe, gaps in models.items()}
    widest = np.repeat(np.arange(len(rows)), votes.shape[1])

    turn = np.random.default_rng(0).choice([1.0, -1.0], len(rows))  # for kappa the better one must not always be first

    def describe(verdicts: NDArray[np.float64]) -> dict[str, Any]:
        report = evaluate_judge(
            ((verdicts * turn)[:, None, None] + 1) / 2, label * turn, prompts=prompts,
            lengths=np.where(turn[:, None] > 0, lengths, lengths[:, ::-1]),
        )
        return {
            "with_majority": report["agreement"], "tie_rate": report["tie_rate"], "length": report["length"],
            "with_one": measure(verdicts[widest], votes.ravel(), prompts[widest]),
        }

    found = {"people": compare_people(votes, prompts), "judges": {way: describe(it) for way, it in judges.items()},
             "reward_models": {recipe: [describe(it) for it in each] for recipe, each in decided.items()},
             "pairs": len(rows), "clear": int(label.sum())}
    means = {recipe: np.mean(each, axis=0) for recipe, each in decided.items()}
    credits = {way: (it[label == 1] + 1) / 2 for way, it in {**means, **judges}.items()}
    ours = credits.pop(next(iter(models)))
    found["first_less"] = {
        way: {"mean": float((ours - other).mean()), **bootstrap_interval(
            lambda weights, gain=ours - other: weights @ gain / weights.sum(axis=1), prompts[label == 1], seed=0
        )._asdict()} for way, other in credits.items()
    }
    return found
