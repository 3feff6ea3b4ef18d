"""`rmkit evaluate`: reward models measured on the same unrepaired pairs, side by side."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from datasets import Dataset

from rmkit.core.checks import Seen, refuse
from rmkit.core.configuration import as_dict
from rmkit.core.stages import open_stage, write_json
from rmkit.data.groups import TOKENS
from rmkit.data.tables import SIDES, load_split, write_table
from rmkit.evaluation.metrics import evaluate_pairs
from rmkit.evaluation.tables import format_comparison
from rmkit.models.scoring import score_with


@dataclass
class EvaluateConfig:
    """Reward models (`models`: name -> folder or hub name) measured on `split` of the stage folder `data`.

    `votes` is a votes folder over the same pairs; with it, accuracy is also given by strength. The bootstrap that
    gives the intervals draws prompts, `resamples` times. Models read `tokens_at_once` tokens, or one response.
    """

    data: str
    models: dict[str, str]
    output_dir: str
    split: str = "test"
    votes: str | None = None
    max_length: int = 1024
    tokens_at_once: int = TOKENS
    resamples: int = 1000
    seed: int = 0
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        if not self.models:
            refuse("models", "at least one name with a model", Seen("none"), "Write --models.NAME FOLDER.")
        for name in self.models:
            if not re.fullmatch(r"[\w.-]+", name):
                refuse("models", "names of letters, digits, dots, dashes and underscores", name, "Files are named so.")
        if self.resamples < 1:
            refuse("resamples", "at least 1", self.resamples, "1000 is usual.")
        if self.tokens_at_once < 1:
            refuse("tokens_at_once", "at least 1", self.tokens_at_once, f"{TOKENS} is usual.")


def evaluate(config: EvaluateConfig) -> Path:
    """Write `metrics.json` and each model's rewards (`NAME.parquet`), print the table; returns the stage's folder."""
    inputs = {"data": config.data, **{f"models.{name}": path for name, path in config.models.items()}}
    if config.votes is not None:
        inputs["votes"] = config.votes
    pairs = load_split(config.data, config.split, ("id", *SIDES, "source"))
    refuse_repaired(pairs, config)
    strength = None if config.votes is None else join_strength(pairs, config.votes, config.split)
    with open_stage(config.output_dir, "evaluate", as_dict(config), inputs) as stage:
        if not stage.done:
            metrics = {}
            for name, path in config.models.items():
                chosen, rejected = score_with(
                    path, pairs, max_length=config.max_length, tokens_at_once=config.tokens_at_once,
                    trust_remote_code=config.trust_remote_code,
                )
                columns = {"id": pairs["id"][:], "rewards_chosen": chosen, "rewards_rejected": rejected}
                write_table(Dataset.from_dict(columns), stage.directory / f"{name}.parquet")
                metrics[name] = measure(chosen, rejected, pairs, strength, config)
            write_json(stage.directory / "metrics.json", metrics)
            stage.record.update(rows_in=len(pairs), rows_out=len(pairs), metrics=metrics)
        print(format_comparison(stage.record["metrics"]))
    return stage.directory


def refuse_repaired(pairs: Dataset, config: EvaluateConfig) -> None:
    """Repaired labels would measure agreement with the ensemble that repaired them."""
    if "action" in pairs.column_names:
        refuse(f"data {config.data}", "unrepaired pairs", Seen("repaired ones"), "Name the folder of `rmkit read`.")


def join_strength(pairs: Dataset, votes: str, split: str) -> np.ndarray:
    """The ensemble's strength for each pair, by id."""
    voted = load_split(votes, split, ("id", "strength_mean"))
    by_id = dict(zip(voted["id"], voted["strength_mean"], strict=True))
    lacking = [pair for pair in pairs["id"] if pair not in by_id]
    if lacking:
        refuse(f"votes {votes}", "a vote on every pair", Seen(f"none on {len(lacking)}, the first {lacking[0]}"),
               "Vote on the same data, or leave votes out.")
    return np.array([by_id[pair] for pair in pairs["id"]])


def measure(
    chosen: np.ndarray, rejected: np.ndarray, pairs: Dataset, strength: np.ndarray | None, config: EvaluateConfig
) -> dict[str, object]:
    """One model's metrics."""
    return evaluate_pairs(
        chosen,
        rejected,
        prompts=[str(prompt) for prompt in pairs["prompt"]],
        sources=pairs["source"][:],
        chosen_lengths=[len(response[-1]["content"]) for response in pairs["chosen"]],
        rejected_lengths=[len(response[-1]["content"]) for response in pairs["rejected"]],
        strength=strength,
        seed=config.seed,
        resamples=config.resamples,
    )
