"""The audit: what one run found, changed and gained, as one self-contained HTML page.

Every number on the page comes out of `ReportInputs` and stands in a `<data value="...">` element with its full
precision, so that a program can read back what a person reads rounded.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from rmkit.evaluation import figures

TEMPLATE = "audit.html.jinja"
Record = Mapping[str, Any]

MEANINGS = {
    "keep": "The label stays as it was given.",
    "flip": "Chosen and rejected change places: here the members prefer the other response most clearly.",
    "smooth": "The label stays but counts less than fully: the members prefer the other response.",
    "soft": "The label gives way to the probability the members see in it, the sigmoid of the strength.",
    "drop": "The pair leaves the training set: the members contradict its label most clearly.",
}
MARGIN = "The model has to reach a gap as large as the members' (the adaptive margin)."

# what the table of the evaluation shows: label, how to read it, how to print it, where it stands in the metrics
MEASURES = [
    ("Accuracy", "pairs ordered as labelled, ties half; guessing gives 50 %", "percent", "accuracy"),
    ("Ties", "pairs with equal rewards", "percent", "tie_rate"),
    ("Log-loss", "lower is better; knowing nothing gives 0.69", "decimal", "log_loss"),
    ("Brier score", "lower is better; knowing nothing gives 0.25", "decimal", "brier"),
    ("Calibration error", "ECE: how far confidence and accuracy lie apart", "decimal", "ece"),
    ("Mean gap", "chosen less rejected, reward units", "decimal", "rewards.gap.mean"),
    ("Mean reward, chosen", "reward units", "decimal", "rewards.chosen.mean"),
    ("Mean reward, rejected", "reward units", "decimal", "rewards.rejected.mean"),
    ("Accuracy of \u201cthe longer wins\u201d", "how far the labels follow length", "percent", "length.chosen_longer"),
    ("Model prefers the longer", "where lengths differ", "percent", "length.model_prefers_longer"),
    ("Gap and length difference", "rank correlation, 0 is free of length", "decimal", "length.gap_correlation"),
    ("Accuracy at matched length", "lengths within 10 %", "percent", "length.matched.accuracy"),
]
CURVES = {"loss": "training loss", "eval_loss": "validation loss", "eval_accuracy": "validation accuracy"}


@dataclass(frozen=True)
class ReportInputs:
    """What the finished stages of one run left behind; a part that was not given is None or empty.

    `votes`, `pairs`, `repaired`, `evaluation` and the values of `models` are the records in `stage.json`.
    `mean`, `std`: strength over [pair] in reward units; `planted`: label flipped on purpose, over [pair].
    `suspects`: rows of the votes, the most suspicious first, each with the `action` the repair took (or None).
    `planted_by_action`: how many planted flips met each action. `baseline`: the model the others are held against.
    """

    votes: Record
    mean: np.ndarray
    std: np.ndarray
    suspects: Sequence[Record]
    planted: np.ndarray | None = None
    pairs: Record | None = None
    repaired: Record | None = None
    planted_by_action: Mapping[str, int] = field(default_factory=dict)
    models: Mapping[str, Record] = field(default_factory=dict)
    evaluation: Record | None = None
    baseline: str = "plain"


def render_report(evidence: ReportInputs) -> str:
    """The page. The same evidence gives the same page, byte for byte."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )
    environment.filters.update(
        count=show_count, percent=show_percent, decimal=show_decimal, explain=explain_action, pick=get_path,
        settings=lambda value: json.dumps(value, indent=2, ensure_ascii=False, default=str),
    )
    measured = (evidence.evaluation or {}).get("metrics", {})
    names = list(dict.fromkeys([evidence.baseline, *evidence.models, *measured]))  # its place is a model's colour
    metrics = {name: measured[name] for name in names if name in measured}
    models = {name: evidence.models[name] for name in names if name in evidence.models}
    return environment.get_template(TEMPLATE).render(
        evidence=evidence,
        palette=figures.PALETTE,
        measures=MEASURES,
        below_zero=float(np.mean(evidence.mean < 0)),
        planted_count=None if evidence.planted is None else int(evidence.planted.sum()),
        suspects=[describe_pair(row) for row in evidence.suspects],
        models=models,
        metrics=metrics,
        verdicts=compare_to_baseline(metrics, evidence.baseline),
        scale=accuracy_scale(metrics),
        colours={name: figures.colour_name(index) for index, name in enumerate(names)},
        deciles=collect_groups(metrics, "by_strength"),
        confidences=collect_groups(metrics, "by_confidence"),
        sources={source: part["pairs"] for values in metrics.values() for source, part in values["by_source"].items()},
        pictures=draw_pictures(evidence, names, metrics),
        stages=list_stages(evidence, models),
    )


def show_count(value: float | None) -> Markup:
    """A number of things."""
    return show(value, lambda number: f"{number:,}")


def show_percent(value: float | None, places: int = 1) -> Markup:
    """A share as a percentage."""
    return show(value, lambda number: f"{100 * number:.{places}f}\N{NO-BREAK SPACE}%")


def show_decimal(value: float | None, places: int = 2) -> Markup:
    """Any other number."""
    return show(value, lambda number: f"{number:.{places}f}")


def show(value: float | None, spell: Callable[[float], str]) -> Markup:
    """A `<data>` element with the number as a person reads it and, in full precision, as a program does."""
    if value is None or not math.isfinite(value):
        return Markup('<span class="none">not available</span>')
    text = spell(value)
    if text.startswith("-"):
        text = "\N{MINUS SIGN}" + text[1:]
    return Markup('<data value="{}">{}</data>').format(repr(value), text)


def get_path(record: Record, path: str) -> Any:
    """The value at a dotted path, or None where it, or a part on the way, is missing."""
    value: Any = record
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def explain_action(action: str) -> str:
    """What a repair's action did to a pair, in a sentence or two."""
    return " ".join(MARGIN if part == "margin" else MEANINGS.get(part, "") for part in action.split("+"))


def describe_pair(row: Record) -> dict[str, Any]:
    """One suspicious pair: its prompt's last turn apart from the earlier ones, and each member's gap with its bar."""
    gaps = [chosen - rejected for chosen, rejected in zip(row["rewards_chosen"], row["rewards_rejected"], strict=True)]
    longest = max(map(abs, gaps)) or 1.0
    return {
        **row,
        "earlier": row["prompt"][:-1],
        "asked": row["prompt"][-1:],
        "gaps": [{"value": gap, "height": round(50 * abs(gap) / longest, 1)} for gap in gaps],
        "mean_chosen": float(np.mean(row["rewards_chosen"])),
        "mean_rejected": float(np.mean(row["rewards_rejected"])),
    }


def compare_to_baseline(metrics: Mapping[str, Record], baseline: str) -> dict[str, dict[str, str | None]]:
    """Where each model's accuracy interval lies against guessing and against the baseline's interval.

    `chance` is "near" when the interval holds one half, "below" when it ends under it, else None. `against` is
    "above", "below" or "overlap", and None for the baseline itself and where an interval is missing.
    """
    intervals = {
        name: (values["accuracy_low"], values["accuracy_high"])
        for name, values in metrics.items() if values["accuracy_low"] is not None
    }
    verdicts: dict[str, dict[str, str | None]] = {}
    for name, (low, high) in intervals.items():
        chance = "near" if low <= 0.5 <= high else "below" if high < 0.5 else None
        against = None
        if name != baseline and baseline in intervals:
            base_low, base_high = intervals[baseline]
            against = "above" if low > base_high else "below" if high < base_low else "overlap"
        verdicts[name] = {"chance": chance, "against": against}
    return verdicts


def accuracy_scale(metrics: Mapping[str, Record]) -> tuple[float, float]:
    """Ends of an axis, in tenths, that holds one half and every accuracy with its interval."""
    keys = ("accuracy", "accuracy_low", "accuracy_high")
    values = [values[key] for values in metrics.values() for key in keys if values[key] is not None]
    return math.floor(10 * min([0.5, *values])) / 10, math.ceil(10 * max([0.6, *values])) / 10


def collect_groups(metrics: Mapping[str, Record], key: str) -> dict[str, Sequence[Record]]:
    """The models that have the groups `key` in their metrics, with those."""
    return {name: values[key] for name, values in metrics.items() if values.get(key)}


def draw_pictures(evidence: ReportInputs, names: Sequence[str], metrics: Mapping[str, Record]) -> dict[str, Markup]:
    """The figures there is evidence for, by name, as inline SVG; a model's place in `names` gives its colour."""
    mean, std, planted = evidence.mean, evidence.std, evidence.planted
    drawn = {
        "histogram": (figures.draw_histogram(mean, planted), "Histogram of the strength, with a line at zero."),
        "spread": (figures.draw_spread(mean, std, planted), "Standard deviation of the members' gaps by their mean."),
    }
    histories = {name: evidence.models.get(name, {}).get("log_history") or [] for name in names}
    for measure, label in CURVES.items():
        if any(measure in entry for log in histories.values() for entry in log):
            drawn[measure] = (figures.draw_curves(histories, measure, label), f"A line per model: {label} by step.")
    deciles = collect_groups(metrics, "by_strength")
    if deciles:
        profiles = {name: place_groups(deciles.get(name, ()), None) for name in names}
        drawn["deciles"] = (figures.draw_profiles(profiles, "tenth of the pairs, by strength"),
                            "A line per model: accuracy from the weakest to the strongest tenth of the pairs.")
    confidences = collect_groups(metrics, "by_confidence")
    if confidences:
        profiles = {name: place_groups(confidences.get(name, ()), "confidence") for name in names}
        drawn["confidences"] = (figures.draw_profiles(profiles, "confidence", diagonal=True),
                                "A line per model: accuracy by confidence, with the diagonal of perfect calibration.")
    return {name: Markup(figures.to_svg(figure, name, text)) for name, (figure, text) in drawn.items()}


def place_groups(groups: Sequence[Record], position: str | None) -> figures.Line:
    """Accuracy of each group that has pairs, at its value of `position`, or at its number from 1."""
    filled = [group for group in groups if group["accuracy"] is not None]
    places = [group[position] if position else number for number, group in enumerate(filled, 1)]
    return places, [group["accuracy"] for group in filled]


def list_stages(evidence: ReportInputs, models: Mapping[str, Record]) -> dict[str, Record]:
    """The stages the page rests on, by the name a reader knows them under."""
    stages = {"read": evidence.pairs, "vote": evidence.votes, "repair": evidence.repaired}
    stages |= {f"train {name}": record for name, record in models.items()} | {"evaluate": evidence.evaluation}
    return {name: record for name, record in stages.items() if record is not None}
