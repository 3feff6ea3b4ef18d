"""Rewards of all members for all pairs: by heads on frozen features, or read from the members' files; and strengths."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.compute as compute
import pyarrow.parquet as parquet
from datasets import Dataset
from numpy.typing import NDArray

from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.data.memmap import memmap_zeros
from rmkit.data.parquet import prompt_ids, write_table
from rmkit.ensembles.features import extract_features
from rmkit.ensembles.heads import cross_val_rewards, train_heads
from rmkit.preferences import Strength, preference_strength

BLOCK = 2**16  # pairs


class EnsembleRewards(NamedTuple):
    """The members' rewards of the two sides of each pair, [member, pair] each."""

    chosen: NDArray[np.float64]
    rejected: NDArray[np.float64]


def score_with_heads(
    pairs: Mapping[str, Dataset],
    model_path: str | Path,
    *,
    folds: int,
    seed: int,
    max_length: int,
    max_tokens_per_batch: int,
    cache_dir: str | Path,
    trust_remote_code: bool,
    **settings: Any,
) -> dict[str, EnsembleRewards]:
    """Rewards by split, from heads trained on the "train" pairs; those of the train pairs are cross-fitted by `folds`.

    folds: 0 for in-sample rewards. settings: keyword arguments of `rmkit.ensembles.heads.fit_heads`; all others as for
    `extract_features`.
    """
    features = {
        split: extract_features(
            rows, model_path, max_length=max_length, max_tokens_per_batch=max_tokens_per_batch, cache_dir=cache_dir,
            trust_remote_code=trust_remote_code,
        )
        for split, rows in pairs.items()
    }
    heads = train_heads(*features["train"], seed=seed, **settings)
    rewards = {
        split: EnsembleRewards(heads.score(sides.chosen), heads.score(sides.rejected))
        for split, sides in features.items() if split != "train" or not folds
    }
    if folds:
        groups = prompt_ids(pairs["train"])
        rewards["train"] = EnsembleRewards(
            *cross_val_rewards(*features["train"], groups=groups, folds=folds, seed=seed, **settings)
        )
    return rewards


def measure_strength(rewards: EnsembleRewards) -> Strength:
    """`preference_strength` in blocks of pairs, since the rewards need not fit into memory."""
    pairs = rewards.chosen.shape[1]
    strength = memmap_zeros((len(Strength._fields), pairs), np.float64)
    for start in range(0, pairs, BLOCK):
        block = slice(start, start + BLOCK)
        strength[:, block] = preference_strength(*(side[:, block] for side in rewards))
    return Strength(*strength)


def write_votes(pairs: Dataset, rewards: EnsembleRewards, strength: Strength, path: Path) -> None:
    """Write the pairs with the members' rewards and the strength to a Parquet file."""
    write_table(pairs, path, {
        "rewards_chosen": rewards.chosen.T,
        "rewards_rejected": rewards.rejected.T,
        "strength_mean": strength.mean,
        "strength_std": strength.std,
        "agreement": strength.agreement,
    })


def write_member_rewards(pairs: Dataset, rewards: NDArray[np.float64], path: Path) -> None:
    """Write one member's rewards [side, pair] beside the ids of the pairs."""
    path.parent.mkdir(exist_ok=True)
    write_table(pairs.select_columns(["id"]), path, dict(zip(EnsembleRewards._fields, rewards, strict=True)))


def read_member_rewards(path: Path, pairs: Dataset) -> NDArray[np.float64]:
    """A member's rewards [side, pair] of `pairs`, joined by id. Raises `InputError` where some are missing."""
    try:
        table = parquet.read_table(path)
        ids = pairs.select_columns(["id"]).with_format("arrow")[:]["id"]
        positions = compute.index_in(ids, value_set=table["id"].combine_chunks())
        if positions.null_count:
            raise ValueError(f"no votes on {positions.null_count} of the pairs")
        return np.stack([table[side].to_numpy()[positions.to_numpy()] for side in EnsembleRewards._fields])
    except (OSError, ValueError, KeyError) as error:  # such as a copy that was cut short
        raise_input_error(
            str(path), "the member's rewards of every pair", Verbatim(error), "Copy the member's folder again."
        )
