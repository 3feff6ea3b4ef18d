"""The choice of a repair on noisy validation pairs, by small heads on the voters' frozen features."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from rmkit.commands.vote import FEATURES, HeadsConfig
from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.core.config import as_dict
from rmkit.core.seeds import derive_seed
from rmkit.data.parquet import load_split
from rmkit.ensembles.features import Features, extract_features
from rmkit.ensembles.heads import train_heads
from rmkit.metrics.accuracy import pair_accuracy
from rmkit.preferences import RECIPES, Repair, repair_labels

N_PROBES = 5  # heads per candidate; the mean of their accuracies is compared


@dataclass
class Candidate:
    """A recipe with its fraction, and the validation accuracy of heads trained under it."""

    recipe: str
    fraction: float | None  # None where the recipe does not use one
    validation_accuracy: float | None = None

    def repair(self, strength: NDArray[np.float64], **settings: Any) -> Repair:
        """The labels under this recipe; `settings`: further arguments of `repair_labels`."""
        fraction: dict[str, Any] = {} if self.fraction is None else {"fraction": self.fraction}
        return repair_labels(strength, recipe=self.recipe, **fraction, **settings)


def list_candidates(recipes: Iterable[str], fractions: Sequence[float]) -> list[Candidate]:
    """Each recipe with each fraction, or once where it uses none."""
    return [
        Candidate(recipe, fraction)
        for recipe in recipes
        for fraction in (fractions if RECIPES[recipe].pairs == "lowest" else [None])
    ]


def select_candidate(
    candidates: list[Candidate],
    strength: NDArray[np.float64],
    votes: str,
    record: dict[str, Any],
    *,
    seed: int,
    **settings: Any,
) -> tuple[Candidate, list[Candidate]]:
    """The selected candidate, and all of them with their validation accuracy, best first.

    Selected is the first of those within one standard error of the best, so the order of `candidates` is the order of
    preference where the validation pairs cannot separate them (the one-standard-error rule of Breiman et al.,
    Classification and Regression Trees, 1984; pairs count as independent).

    Each candidate repairs the training labels, with `settings`; heads on the frozen features of the vote's base model
    are trained on them under the Bradley-Terry loss, and scored on the validation pairs as they are labelled. Label
    noise that does not depend on the model lowers every candidate's accuracy alike, so their order stands. For
    fine-tuned voters this stands in for one fine-tuning per candidate.
    """
    if "config" not in record:
        expected = "the folder of `rmkit vote`, with its configuration"
        hint = "Name that, or a recipe and a fraction."
        raise_input_error(f"votes {votes}", expected, Verbatim("no stage.json in it"), hint)
    voters = record["config"]
    train, validation = (
        extract_features(
            load_split(votes, split), voters["model_name_or_path"], max_length=voters["max_length"],
            max_tokens_per_batch=voters["max_tokens_per_batch"], cache_dir=Path(votes) / FEATURES,
            trust_remote_code=voters["trust_remote_code"],
        )
        for split in ("train", "validation")
    )
    heads = as_dict(HeadsConfig(**voters.get("heads", {})))
    probe_seed = derive_seed(seed, "students")
    accuracies = {
        index: probe_accuracy(train, candidate.repair(strength, **settings), validation, heads, probe_seed)
        for index, candidate in enumerate(tqdm(candidates, desc="Choosing a repair", unit="candidate"))
    }
    best = max(accuracies.values())
    error = math.sqrt(best * (1 - best) / len(validation.chosen))
    measured = [replace(candidates[index], validation_accuracy=accuracy) for index, accuracy in accuracies.items()]
    selected = next(measured[index] for index, accuracy in accuracies.items() if accuracy >= best - error)
    return selected, [measured[index] for index in sorted(accuracies, key=lambda index: -accuracies[index])]


def probe_accuracy(train: Features, labels: Repair, validation: Features, heads: dict[str, Any], seed: int) -> float:
    """Mean accuracy on `validation` of N_PROBES heads trained on `train` under repaired labels.

    Features are not swapped: loss(gap, t, m) = loss(-gap, 1 - t, -m) swaps the labels instead.
    """
    probes = train_heads(
        *train,
        members=N_PROBES,
        loss="bradley_terry",
        **heads,
        target=np.where(labels.swapped, 1 - labels.target, labels.target),
        margin=np.where(labels.swapped, -labels.margin, labels.margin),
        keep=labels.keep,
        seed=seed,
    )
    gaps = probes.score(validation.chosen) - probes.score(validation.rejected)
    return float(np.mean([pair_accuracy(member).accuracy for member in gaps]))
