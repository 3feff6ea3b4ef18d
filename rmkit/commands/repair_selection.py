"""Choosing a repair on noisy validation pairs, by small heads on the voters' frozen features."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from rmkit.commands.vote_config import VoteConfig, extract_voter_features
from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.core.legacy_config import build_config
from rmkit.core.seeds import derive_seed
from rmkit.data.parquet import load_split
from rmkit.ensembles.features import Features
from rmkit.ensembles.heads import HeadsConfig, train_heads
from rmkit.metrics.accuracy import pair_accuracy
from rmkit.preferences import Repair, repair_labels
from rmkit.preferences.repair import MarginKind

N_PROBES = 5  # heads per candidate; the mean of their accuracies is what counts


@dataclass
class Candidate:
    """A recipe with its fraction, and how often models trained under it were right on validation pairs."""

    recipe: str
    fraction: float | None  # None where the recipe has no use for one
    validation_accuracy: float | None = None

    def repair(self, strength: NDArray[np.float64], *, label_smoothing: float, margin: MarginKind) -> Repair:
        """The labels under this recipe."""
        fraction = {} if self.fraction is None else {"fraction": self.fraction}
        return repair_labels(strength, recipe=self.recipe, label_smoothing=label_smoothing, margin=margin, **fraction)


def choose(
    candidates: list[Candidate],
    strength: NDArray[np.float64],
    votes: str,
    record: dict[str, Any],
    *,
    label_smoothing: float,
    margin: MarginKind,
    seed: int,
) -> tuple[Candidate, list[Candidate]]:
    """The candidate to take, and all of them with their validation accuracy, best first.

    Taken is the first of those that are within one standard error of the best, so the order of `candidates` says
    which is preferred where the validation pairs do not tell them apart (the one-standard-error rule of Breiman et
    al., Classification and Regression Trees, 1984; pairs count as independent).

    Each candidate repairs the train labels; heads on the frozen features of the vote's base model are trained on
    them under the Bradley-Terry loss, and scored on the validation pairs as they are labelled. Label noise that
    does not depend on the model lowers every candidate's accuracy alike, so their order stands. For fine-tuned
    voters this is a stand-in for fine-tuning once per candidate.
    """
    if "config" not in record:
        raise_input_error(
            f"votes {votes}",
            "the folder of `rmkit vote`, which says who voted",
            Verbatim("no stage.json in it"),
            "Name that, or a recipe with a fraction of its own.",
        )
    voters = build_config(VoteConfig, {**record["config"], "output_dir": votes}, votes)
    features = {
        split: extract_voter_features(voters, load_split(votes, split), Path(votes))
        for split in ("train", "validation")
    }
    students = HeadsConfig(**voters.heads, members=N_PROBES, loss="bradley_terry")
    judged = []
    for candidate in tqdm(candidates, desc="Choosing a repair", unit="candidate"):
        labels = candidate.repair(strength, label_smoothing=label_smoothing, margin=margin)
        accuracy = probe_accuracy(
            features["train"], labels, features["validation"], students, derive_seed(seed, "students")
        )
        judged.append((accuracy, replace(candidate, validation_accuracy=accuracy)))
    best = max(accuracy for accuracy, _ in judged)
    error = math.sqrt(best * (1 - best) / len(features["validation"].chosen))
    taken = next(candidate for accuracy, candidate in judged if accuracy >= best - error)
    return taken, [candidate for _, candidate in sorted(judged, key=lambda one: -one[0])]


def probe_accuracy(lessons: Features, labels: Repair, exam: Features, config: HeadsConfig, seed: int) -> float:
    """Mean accuracy on `exam` of heads trained on `lessons` under repaired labels.

    The features stay in their places: loss(gap, t, m) = loss(-gap, 1 - t, -m) exchanges the sides instead.
    """
    heads = train_heads(
        lessons.chosen,
        lessons.rejected,
        config,
        target=np.where(labels.swapped, 1 - labels.target, labels.target),
        margin=np.where(labels.swapped, -labels.margin, labels.margin),
        keep=labels.keep,
        seed=seed,
    )
    gaps = heads.score(exam.chosen) - heads.score(exam.rejected)
    return float(np.mean([pair_accuracy(member).accuracy for member in gaps]))
