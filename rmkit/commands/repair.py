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
    standard error of the best, the first listed). `fraction` is the fraction that flip and drop touch: a number,
    "estimated" (the noise rate that the votes found) or "validation" (the best of `fractions` and of the estimated one,
    chosen the same way). `label_smoothing` is the smoothing. The strength is brought to the scale of the
    labels' log-odds before it serves as margin or soft label: `strength_scale` times, "calibrated" meaning the scale
    that fits the validation labels best; the paper uses the votes as they are, 1.0. Test pairs are never looked at.
    """

    votes: str
    output_dir: str
    recipe: str = "validation"
    fraction: float | Literal["estimated", "validation"] = "validation"
    label_smoothing: float = 0.2
    margin: Literal["signed", "nonnegative"] = "signed"
    strength_scale: float | Literal["calibrated"] = "calibrated"
    recipes: list[str] = field(default_factory=lambda: list(PREFERENCE))
    fractions: list[float] = field(default_factory=lambda: [0.1, 0.2, 0.3, 0.4])
    seed: int = 0

    def __post_init__(self) -> None:
        if self.recipe not in (*RECIPES, "validation"):
            raise_input_error(
                "recipe", f"one of {', '.join(RECIPES)}, or validation", self.recipe, "Choose one by its name."
            )
        unknown = [name for name in self.recipes if name not in RECIPES]
        if unknown or not self.recipes:
            raise_input_error("recipes", f"some of {', '.join(RECIPES)}", self.recipes, "Name those to choose from.")
        fractions = [*self.fractions, *([] if isinstance(self.fraction, str) else [self.fraction])]
        if not self.fractions or not all(0 <= fraction <= 1 for fraction in fractions):
            raise_input_error(
                "fraction and fractions", "fractions of the pairs in [0, 1]", fractions, "Write 0.1 for 10 %."
            )
        if not 0 <= self.label_smoothing <= 0.5:
            raise_input_error(
                "label_smoothing", "a smoothing in [0, 0.5]", self.label_smoothing, "Beyond 0.5 it would be a flip."
            )
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
                    label_smoothing=config.label_smoothing, margin=config.margin, seed=config.seed,
                )
            labels = taken.repair(strength, label_smoothing=config.label_smoothing, margin=config.margin)
            dropped = write_repaired(pairs, labels, stage.directory)
            stage.record.update(
                rows_in=len(pairs),
                rows_out=len(pairs) - dropped,
                left={"dropped": dropped},
                recipe=taken.recipe,
                fraction=taken.fraction,
                label_smoothing=config.label_smoothing if RECIPES[taken.recipe].label == "smooth" else None,
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
    """The recipes and fractions to choose from; one where the configuration leaves no choice."""
    recipes = config.recipes if config.recipe == "validation" else [config.recipe]
    estimate = record.get("noise_rate")
    estimated = [] if estimate is None else [estimate["rate"]]
    if config.fraction == "estimated" and not estimated:
        raise_input_error(
            "fraction: estimated",
            "votes with an estimated noise rate",
            Verbatim("none in its record"),
            "Vote with folds of 2 or more, or set a fraction.",
        )
    fractions: list[float]
    if isinstance(config.fraction, str):
        fractions = estimated if config.fraction == "estimated" else [*config.fractions, *estimated]
    else:
        fractions = [config.fraction]
    return [
        Candidate(recipe, fraction)
        for recipe in recipes
        for fraction in (fractions if RECIPES[recipe].pairs == "lowest" else [None])
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
