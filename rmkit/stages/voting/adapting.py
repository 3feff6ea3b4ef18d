"""How adapters on one base come by their rewards: all members together, fold after fold."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray

from rmkit.core.stages import DRAFT
from rmkit.data.pages import scratch_array
from rmkit.models.adapters import train_adapters
from rmkit.models.features import Features
from rmkit.models.lessons import take
from rmkit.stages.voting.casting import divide
from rmkit.stages.voting.electing import Rewards, VoteConfig, adapters_config, voter_features

ADAPTERS = "adapters"


def vote_with_adapters(config: VoteConfig, pairs: Mapping[str, Dataset], folder: Path) -> dict[str, Rewards]:
    """Rewards by split; the members are kept in `folder`, their adapters as PEFT's.

    In-sample the members are trained once and score all pairs. Cross-fitted they are trained once per fold, on the
    other folds; the first fold's score the validation and the test pairs too. A fold that is finished is not trained
    again.
    """
    rewards = {split: Rewards(*np.empty((2, config.members, len(rows)))) for split, rows in pairs.items()}
    lessons = pairs["train"]
    features = {split: voter_features(config, rows, folder) for split, rows in pairs.items()}
    for fold, scored in enumerate(divide(config, lessons)):
        others = np.delete(np.arange(len(lessons)), scored) if config.folds else scored
        parts = {"train": select(lessons, features["train"], scored)}
        if fold == 0:
            parts |= {split: (rows, features[split]) for split, rows in pairs.items() if split != "train"}
        place = folder / ADAPTERS / (f"without-fold-{fold}" if config.folds else "all")
        found = take_votes(config, select(lessons, features["train"], others), parts, place)
        for split in parts:
            for side, values in zip(rewards[split], found[split], strict=True):
                side[:, scored if split == "train" else slice(None)] = values
    return rewards


def select(pairs: Dataset, features: Features, rows: NDArray[np.intp]) -> tuple[Dataset, Features]:
    """Some of the pairs with their features, which may lie on disk."""
    chosen = Features(*(scratch_array((len(rows), side.shape[1]), np.float32) for side in features))
    for side, into in zip(features, chosen, strict=True):
        take(side, rows[None], into[None])
    return pairs.select(rows), chosen


def take_votes(
    config: VoteConfig, lessons: tuple[Dataset, Features], parts: Mapping[str, tuple[Dataset, Features]], place: Path
) -> dict[str, NDArray[np.float64]]:
    """Rewards [side, member, pair] of each part by members trained on `lessons`, or as they lie in `place` already."""
    path = place / "rewards.npz"
    if not path.exists():
        trained = train_adapters(
            *lessons,
            config.model_name_or_path,
            adapters_config(config),
            max_length=config.max_length,
            seed=config.seed,
            trust_remote_code=config.trust_remote_code,
        )
        found: dict[str, Any] = {split: np.stack(trained.score(*rows)) for split, rows in parts.items()}
        trained.save(place)
        draft = path.with_name(path.name + DRAFT)
        with draft.open("wb") as file:
            np.savez(file, **found)
        draft.replace(path)
    with np.load(path) as kept:
        return dict(kept)
