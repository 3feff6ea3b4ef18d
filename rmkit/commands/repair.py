"""`rmkit repair`: from votes to the pairs that a robust reward model is trained on."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.core.config import configuration, option, output_settings
from rmkit.core.stage import open_stage, read_record

SMALLEST_SCALE = 1e-6
Fraction = Annotated[float, Field(ge=0, le=1)]


@configuration
class RepairConfig:
    """Repair the labels of training pairs by the strength that an ensemble gives them. Test pairs are never read."""

    votes: str = option(help="Folder of `rmkit vote`.")
    output_dir: str = option(help="Folder to write the repaired training pairs to.")
    recipe: str = option(
        "validation", "What to do, such as flip, soft or flip+margin (`rmkit.preferences.RECIPES`), or validation: the "
        "recipe under which small heads on the voters' frozen features are most accurate on noisy validation pairs."
    )
    fraction: Fraction | Literal["estimated", "validation"] = option(
        "validation", "Fraction of labels to flip or drop, estimated (the noise rate of the votes), or validation (the "
        "best of `fractions` and of the estimated one)."
    )
    label_smoothing: float = option(0.2, "Probability that a smoothed label is wrong.", ge=0, le=0.5)
    margin: Literal["signed", "nonnegative"] = option(
        "signed", "Margins of pairs that the ensemble doubts: negative, or zero."
    )
    strength_scale: Annotated[float, Field(gt=0)] | Literal["calibrated"] = option(
        "calibrated", "Factor from strengths to log-odds of the labels; calibrated: the one that fits the validation "
        "labels best; the paper's is 1.0."
    )
    recipes: list[str] = option(
        default_factory=list, help="Recipes that validation compares, the preferred ones first; all where empty."
    )
    fractions: list[Fraction] = option(
        default_factory=lambda: [0.1, 0.2, 0.3, 0.4], help="Fractions that validation compares.", min_length=1
    )
    seed: int = option(0, "Seed of the heads that compare recipes.")

    def __post_init__(self) -> None:
        from rmkit.preferences.repair import RECIPES

        if self.recipe not in (*RECIPES, "validation"):
            expected = f"one of {', '.join(RECIPES)}, or validation"
            raise_input_error("recipe", expected, self.recipe, "Choose one by its name.")
        if not set(self.recipes) <= RECIPES.keys():
            raise_input_error("recipes", f"some of {', '.join(RECIPES)}", self.recipes, "Name those to choose from.")


def repair(config: RepairConfig) -> Path:
    """Write the repaired `train.parquet`, and the pairs that were dropped to `dropped.parquet`; returns the folder.

    `stage.json` has the number of pairs by action and, where validation pairs chose the recipe or the fraction, every
    candidate with its validation accuracy.
    """
    from collections import Counter

    import numpy as np

    from rmkit.commands.repair_selection import list_candidates, select_candidate
    from rmkit.data.parquet import PAIR_SIDES, load_split, read_column
    from rmkit.data.repaired import write_repaired
    from rmkit.preferences import RECIPES, calibrate_scale

    columns = (*PAIR_SIDES, "strength_mean")
    pairs = load_split(config.votes, "train", columns)
    record = read_record(config.votes) or {}
    noise_rate = (record.get("noise_rate") or {}).get("rate")
    if config.fraction == "estimated" and noise_rate is None:
        expected = "votes with an estimated noise rate"
        hint = "Vote with folds of 2 or more, or set a fraction."
        raise_input_error("fraction: estimated", expected, Verbatim("none in its record"), hint)
    estimated = [] if noise_rate is None else [noise_rate]
    fractions = {"estimated": estimated, "validation": [*config.fractions, *estimated]}
    candidates = list_candidates(
        (config.recipes or RECIPES) if config.recipe == "validation" else [config.recipe],
        fractions[config.fraction] if isinstance(config.fraction, str) else [config.fraction],
    )
    if config.strength_scale == "calibrated":
        validation = load_split(config.votes, "validation", columns)
        scale = calibrate_scale(read_column(validation, "strength_mean", np.float64))
        scale = max(scale, SMALLEST_SCALE)  # 0 would lose the order of the pairs
    else:
        scale = config.strength_scale
    settings: dict[str, Any] = {"label_smoothing": config.label_smoothing, "margin": config.margin}
    with open_stage(config.output_dir, "repair", output_settings(config), {"votes": config.votes}) as stage:
        if not stage.done:
            strength = read_column(pairs, "strength_mean", np.float64) * scale
            chosen_by = "validation" if len(candidates) > 1 else "configuration"
            selected = candidates[0]
            if len(candidates) > 1:
                selected, candidates = select_candidate(
                    candidates, strength, config.votes, record, seed=config.seed, **settings
                )
            labels = selected.repair(strength, **settings)
            n_dropped = write_repaired(pairs, labels, stage.directory)
            stage.record.update(
                rows_in=len(pairs),
                rows_out=len(pairs) - n_dropped,
                left={"dropped": n_dropped},
                recipe=selected.recipe,
                fraction=selected.fraction,
                label_smoothing=config.label_smoothing if RECIPES[selected.recipe].label == "smooth" else None,
                strength_scale=scale,
                chosen_by=chosen_by,
                candidates=[vars(candidate) for candidate in candidates] if chosen_by == "validation" else None,
                actions=dict(sorted(Counter(labels.action.tolist()).items())),
            )
        actions = ", ".join(f"{action} {count}" for action, count in stage.record["actions"].items())
        print(f"repair {stage.record['recipe']} (chosen by {stage.record['chosen_by']}): {actions}")
    return stage.directory
