"""Evaluation of reward models on a stage's unrepaired pairs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray

from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.data.parquet import PAIR_SIDES, load_split, write_table
from rmkit.evaluation.benchmarks import best_of_n
from rmkit.evaluation.benchmarks.base import ScoredItem
from rmkit.evaluation.benchmarks.scores import compare_models
from rmkit.evaluation.reward_model import evaluate_pairs
from rmkit.models.scoring import score_pairs_from_path


def load_pairs(data: str, split: str) -> Dataset:
    """The unrepaired pairs of `split` in a stage's folder; raises `InputError` for repaired ones."""
    pairs = load_split(data, split, ("id", *PAIR_SIDES, "source"))
    if "action" in pairs.column_names:
        raise_input_error(
            f"data {data}", "unrepaired pairs", Verbatim("repaired ones"), "Name the folder of `rmkit read`."
        )
    return pairs


def load_strength(votes: str, split: str, pairs: Dataset) -> NDArray[np.float64]:
    """The ensemble's strength [pair] of each pair, joined by id; raises `InputError` where one is missing."""
    voted = load_split(votes, split, ("id", "strength_mean"))
    by_id = dict(zip(voted["id"], voted["strength_mean"], strict=True))
    missing = [name for name in pairs["id"] if name not in by_id]
    if missing:
        raise_input_error(
            f"votes {votes}",
            "a vote on every pair",
            Verbatim(f"none on {len(missing)}, the first {missing[0]}"),
            "Vote on the same data, or leave votes out.",
        )
    return np.array([by_id[name] for name in pairs["id"]])


def evaluate_models(
    directory: Path,
    pairs: Dataset,
    models: Mapping[str, str],
    *,
    strength: NDArray[np.float64] | None,
    scoring: Mapping[str, Any],
    seed: int,
    n_bootstrap: int,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Metrics of each model (`evaluate_pairs`) and comparisons of each two; writes rewards to `directory`/NAME.parquet.

    `models`: name -> folder or hub name; `scoring`: keyword arguments of `score_pairs_from_path`.
    """
    metrics, scored = {}, {}
    prompts = [str(prompt) for prompt in pairs["prompt"]]
    lengths = {f"{side}_lengths": [len(response[-1]["content"]) for response in pairs[side]]
               for side in ("chosen", "rejected")}
    for name, path in models.items():
        chosen, rejected = score_pairs_from_path(path, pairs, **scoring)
        columns = {"id": pairs["id"][:], "rewards_chosen": chosen, "rewards_rejected": rejected}
        write_table(Dataset.from_dict(columns), directory / f"{name}.parquet")
        metrics[name] = evaluate_pairs(
            chosen, rejected, prompts=prompts, sources=pairs["source"][:], strength=strength, seed=seed,
            n_bootstrap=n_bootstrap, **lengths,
        )
        scored[name] = [
            ScoredItem(number, "", "", prompt, np.array([1.0, 0.0]), rewards)
            for number, (prompt, rewards) in enumerate(zip(prompts, np.stack([chosen, rejected], axis=1), strict=True))
        ]
    return metrics, compare_models(scored, best_of_n.measure, seed=seed, n_bootstrap=n_bootstrap)
