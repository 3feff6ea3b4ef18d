"""`rmkit repair`: from votes to the pairs that a robust reward model is trained on."""

import math
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from datasets import Dataset

from rmkit.commands.repair_selection import Candidate, choose
from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.core.legacy_config import as_dict
from rmkit.core.stage import open_stage, read_record
from rmkit.data.parquet import PAIR_SIDES, load_split, read_column, write_table
from rmkit.preferences import RECIPES, Repair, calibrate_scale

PAIR_COLUMNS = ("id", *PAIR_SIDES, "source")
SMALLEST_SCALE = 1e-6


# Where validation pairs do not tell recipes apart: nothing first; then the soft label, which no flip can be wrong in.
PREFERENCE = (
    "none", "soft", "flip", "drop", "margin", "smooth", "flip+margin", "soft+margin", "drop+margin"
)


@dataclass
class RepairConfig:
    """Repair the labels of the train pairs in the folder `votes`.

    `recipe`: a name from `rmkit.preferences.RECIPES`, or "validation": the one under which small heads on the
    voters' frozen features are right most often on the noisy validation pairs, among `recipes` (of those within a
    standard error of the best, the first listed). `share` is the share that flip and drop touch: a number,
    "estimated" (the noise rate that the votes found) or "validation" (the best of `shares` and of the estimated one,
    chosen the same way). `alpha` is the smoothing. The strength is brought to the scale of the
    labels' log-odds before it serves as margin or soft label: `strength_scale` times, "calibrated" meaning the scale
    that fits the validation labels best; the paper uses the votes as they are, 1.0. Test pairs are never looked at.
    """

    votes: str
    output_dir: str
    recipe: str = "validation"
    share: float | Literal["estimated", "validation"] = "validation"
    alpha: float = 0.2
    margin_kind: Literal["signed", "clamped"] = "signed"
    strength_scale: float | Literal["calibrated"] = "calibrated"
    recipes: list[str] = field(default_factory=lambda: list(PREFERENCE))
    shares: list[float] = field(default_factory=lambda: [0.1, 0.2, 0.3, 0.4])
    seed: int = 0

    def __post_init__(self) -> None:
        if self.recipe not in (*RECIPES, "validation"):
            raise_input_error(
                "recipe", f"one of {', '.join(RECIPES)}, or validation", self.recipe, "Choose one by its name."
            )
        unknown = [name for name in self.recipes if name not in RECIPES]
        if unknown or not self.recipes:
            raise_input_error("recipes", f"some of {', '.join(RECIPES)}", self.recipes, "Name those to choose from.")
        shares = [*self.shares, *([] if isinstance(self.share, str) else [self.share])]
        if not self.shares or not all(0 <= share <= 1 for share in shares):
            raise_input_error("share and shares", "shares of the pairs in [0, 1]", shares, "Write 0.1 for 10 %.")
        if not 0 <= self.alpha <= 0.5:
            raise_input_error("alpha", "a smoothing in [0, 0.5]", self.alpha, "Beyond 0.5 it would be a flip.")
        if self.strength_scale != "calibrated" and not 0 < self.strength_scale < math.inf:
            raise_input_error(
                "strength_scale", "a positive number, or calibrated", self.strength_scale, "The paper's is 1.0."
            )


def repair(config: RepairConfig) -> Path:
    """Write the repaired `train.parquet`, and the pairs that were dropped to `dropped.parquet`.

    The record says what was done to how many pairs, and, where something was chosen on validation pairs, every
    candidate with its validation accuracy.
    """
    pairs = load_split(config.votes, "train", (*PAIR_SIDES, "strength_mean"))
    record = read_record(config.votes) or {}
    candidates = list_candidates(config, record)
    scale = find_scale(config)
    with open_stage(config.output_dir, "repair", as_dict(config), {"votes": config.votes}) as stage:
        if not stage.done:
            strength = read_column(pairs, "strength_mean", np.float64) * scale
            chosen_by = "validation" if len(candidates) > 1 else "configuration"
            taken = candidates[0]
            if len(candidates) > 1:
                taken, candidates = choose(
                    candidates, strength, config.votes, record,
                    alpha=config.alpha, margin_kind=config.margin_kind, seed=config.seed,
                )
            labels = taken.repair(strength, alpha=config.alpha, margin_kind=config.margin_kind)
            dropped = write_repaired(pairs, labels, stage.directory)
            stage.record.update(
                rows_in=len(pairs),
                rows_out=len(pairs) - dropped,
                left={"dropped": dropped},
                recipe=taken.recipe,
                share=taken.share,
                alpha=config.alpha if RECIPES[taken.recipe].label == "smooth" else None,
                strength_scale=scale,
                chosen_by=chosen_by,
                candidates=[vars(candidate) for candidate in candidates] if chosen_by == "validation" else None,
                actions=dict(sorted(Counter(labels.action.tolist()).items())),
            )
        actions = ", ".join(f"{action} {count}" for action, count in stage.record["actions"].items())
        print(f"repair {stage.record['recipe']} (chosen by {stage.record['chosen_by']}): {actions}")
    return stage.directory


def find_scale(config: RepairConfig) -> float:
    """What strengths are multiplied by: the setting, or the scale that the noisy validation labels bear out.

    Never 0, even where those bear out none, or the order of the pairs would be lost, and with it which are lowest.
    """
    if config.strength_scale != "calibrated":
        return config.strength_scale
    validation = load_split(config.votes, "validation", (*PAIR_SIDES, "strength_mean"))
    return max(calibrate_scale(read_column(validation, "strength_mean", np.float64)), SMALLEST_SCALE)


def list_candidates(config: RepairConfig, record: dict[str, Any]) -> list[Candidate]:
    """The recipes and shares to choose from; one where the configuration leaves no choice."""
    recipes = config.recipes if config.recipe == "validation" else [config.recipe]
    estimate = record.get("noise_rate")
    estimated = [] if estimate is None else [estimate["rate"]]
    if config.share == "estimated" and not estimated:
        raise_input_error(
            "share: estimated",
            "votes with an estimated noise rate",
            Verbatim("none in its record"),
            "Vote with folds of 2 or more, or set a share.",
        )
    shares: list[float]
    if isinstance(config.share, str):
        shares = estimated if config.share == "estimated" else [*config.shares, *estimated]
    else:
        shares = [config.share]
    return [
        Candidate(recipe, share)
        for recipe in recipes
        for share in (shares if RECIPES[recipe].pairs == "lowest" else [None])
    ]


def write_repaired(pairs: Dataset, labels: Repair, directory: Path) -> int:
    """Write the pairs with their new labels; returns how many were dropped."""
    names = [name for name in PAIR_COLUMNS if name in pairs.column_names]

    def relabel(row: dict[str, Any], index: int) -> dict[str, Any]:
        changes = {
            "target": float(labels.target[index]),
            "margin": float(labels.margin[index]),
            "action": str(labels.action[index]),
        }
        if labels.swapped[index]:
            changes |= {"chosen": row["rejected"], "rejected": row["chosen"]}
        return changes

    repaired = pairs.select_columns(names).map(
        relabel, with_indices=True, load_from_cache_file=False, desc="Repairing labels"
    )
    write_table(repaired.select(np.flatnonzero(labels.keep)), directory / "train.parquet")
    dropped = np.flatnonzero(~labels.keep)
    if len(dropped):
        write_table(repaired.select(dropped), directory / "dropped.parquet")
    return len(dropped)
