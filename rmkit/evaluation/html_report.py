"""The HTML report of one run: what it found, changed and gained, as one self-contained page.

Every number on the page is in a `<data value="...">` element with its full precision, so that programs can read it.
"""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pyarrow
import pyarrow.parquet as parquet
from markupsafe import Markup

from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.evaluation import figures
from rmkit.evaluation.tables import get_path

TEMPLATE = "report.html.jinja"
Record = Mapping[str, Any]

ACTIONS = {
    "keep": "The label stays as it was given.",
    "flip": "Chosen and rejected are exchanged: here the members prefer the other response most clearly.",
    "smooth": "The label stays but counts less than fully: the members prefer the other response.",
    "soft": "The label is replaced by the probability that the members give it, the sigmoid of the strength.",
    "drop": "The pair leaves the training set: the members contradict its label most clearly.",
    "margin": "The model has to reach a gap as large as the members' (the adaptive margin).",
}

# rows of the evaluation table: label, how to read it, filter, path in the metrics
ROWS = [
    ("Accuracy", "pairs ordered as labelled, ties half; guessing gives 50 %", "percent", "accuracy"),
    ("Ties", "pairs with equal rewards", "percent", "tie_rate"),
    ("Log-loss", "lower is better; constant rewards give 0.69", "decimal", "log_loss"),
    ("Brier score", "lower is better; constant rewards give 0.25", "decimal", "brier"),
    ("Calibration error", "ECE: difference of confidence and accuracy", "decimal", "ece"),
    ("Mean gap", "chosen less rejected, reward units", "decimal", "rewards.gap.mean"),
    ("Mean reward, chosen", "reward units", "decimal", "rewards.chosen.mean"),
    ("Mean reward, rejected", "reward units", "decimal", "rewards.rejected.mean"),
    ("Accuracy of \u201cthe longer wins\u201d", "how far the labels follow length", "percent", "length.chosen_longer"),
    ("Model prefers the longer", "where lengths differ", "percent", "length.model_prefers_longer"),
    ("Gap and length difference", "rank correlation, 0 is free of length", "decimal", "length.gap_correlation"),
    ("Accuracy at matched length", "lengths within 10 %", "percent", "length.matched.accuracy"),
]
CURVES = {"loss": "training loss", "eval_loss": "validation loss", "eval_accuracy": "validation accuracy"}


def render_report(
    records: Mapping[str, Record], *, votes: str, repaired: str | None, baseline: str, n_suspicious: int
) -> str:
    """The page; the same inputs give the same bytes.

    `records`: each stage's `stage.json` by role: "votes", "pairs", "repaired", "evaluation", "models.NAME". `votes`,
    `repaired`: folders of these stages. `baseline`: the model that others are compared with. `n_suspicious`: how many
    pairs of lowest strength are shown. Raises `InputError` for votes without the strength of training pairs.
    """
    path = Path(votes) / "train.parquet"
    table = read_strength(path)
    ids, mean, std = table["id"].to_pylist(), table["strength_mean"].to_numpy(), table["strength_std"].to_numpy()
    is_flipped = None
    if "is_flipped" in table.column_names:
        is_flipped = np.array([bool(flag) for flag in table["is_flipped"].to_pylist()])
    actions = read_actions(Path(repaired)) if repaired else {}
    lowest = [ids[index] for index in np.argsort(mean, kind="stable")[:n_suspicious]]
    rows = {row["id"]: row for row in parquet.read_table(path, filters=[("id", "in", lowest)]).to_pylist()}
    flips = [] if is_flipped is None else [name for name, flag in zip(ids, is_flipped, strict=True) if flag]

    trained = {role.removeprefix("models."): record for role, record in records.items() if role.startswith("models.")}
    evaluated = records.get("evaluation", {}).get("metrics", {})
    names = list(dict.fromkeys([baseline, *trained, *evaluated]))  # a model's index is its colour
    metrics = {name: evaluated[name] for name in names if name in evaluated}
    models = {name: trained[name] for name in names if name in trained}
    stages = {"read": records.get("pairs"), "vote": records["votes"], "repair": records.get("repaired")}
    stages |= {f"train {name}": record for name, record in models.items()} | {"evaluate": records.get("evaluation")}
    lines = {key: {name: values[key] for name, values in metrics.items() if values.get(key)}
             for key in ("by_strength", "by_confidence")}
    return make_environment().get_template(TEMPLATE).render(
        votes=records["votes"],
        read=records.get("pairs"),
        repaired=records.get("repaired"),
        baseline=baseline,
        palette=figures.PALETTE,
        measures=ROWS,
        pairs=len(mean),
        below_zero=float(np.mean(mean < 0)),
        n_flipped=None if is_flipped is None else int(is_flipped.sum()),
        flipped_by_action=Counter(actions[name] for name in flips if name in actions),
        suspicious_pairs=[describe_pair(rows[name], actions.get(name)) for name in lowest],
        models=models,
        metrics=metrics,
        comparisons=compare_to_baseline(metrics, baseline),
        scale=accuracy_scale(metrics),
        colours={name: figures.colour_name(index) for index, name in enumerate(names)},
        deciles=lines["by_strength"],
        confidences=lines["by_confidence"],
        sources={source: part["pairs"] for values in metrics.values() for source, part in values["by_source"].items()},
        svgs=render_figures(mean, std, is_flipped, {name: models.get(name, {}) for name in names}, **lines),
        stages={name: record for name, record in stages.items() if record is not None},
    )


def make_environment() -> jinja2.Environment:
    """Jinja with the filters of the template; a missing variable is an error."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )
    environment.filters.update(
        count=lambda value: format_data(value, ","),
        percent=lambda value, places=1: format_data(value, f".{places}%"),
        decimal=lambda value, places=2: format_data(value, f".{places}f"),
        get_path=get_path,
        describe_action=lambda action: " ".join(ACTIONS.get(part, "") for part in action.split("+")),
        as_json=lambda value: json.dumps(value, indent=2, ensure_ascii=False, default=str),
    )
    return environment


def read_strength(path: Path) -> pyarrow.Table:
    """Ids, strength and, if there, `is_flipped` of the votes' training pairs."""
    available = parquet.read_schema(path).names if path.is_file() else []
    columns = ["id", "strength_mean", "strength_std"]
    missing = sorted(set(columns) - set(available))
    if missing:
        raise_input_error(
            f"votes {path.parent}", "a train.parquet with the votes of an ensemble",
            Verbatim(f"none with {', '.join(missing)}"), "Name the output_dir of `rmkit vote`.",
        )
    return parquet.read_table(path, columns=columns + ["is_flipped"] * ("is_flipped" in available))


def read_actions(folder: Path) -> dict[str, str]:
    """The repair's action on each pair by id, dropped pairs included."""
    actions: dict[str, str] = {}
    for path in (folder / "train.parquet", folder / "dropped.parquet"):
        if path.is_file():
            table = parquet.read_table(path, columns=["id", "action"])
            actions |= dict(zip(table["id"].to_pylist(), table["action"].to_pylist(), strict=True))
    return actions


def format_data(value: float | None, spec: str) -> Markup:
    """A `<data>` element with the formatted number as text and the exact number as value."""
    if value is None or not math.isfinite(value):
        return Markup('<span class="none">not available</span>')
    text = f"{value:{spec}}".replace("%", "\N{NO-BREAK SPACE}%")
    if text.startswith("-"):
        text = "\N{MINUS SIGN}" + text[1:]
    return Markup('<data value="{}">{}</data>').format(repr(value), text)


def describe_pair(row: Record, action: str | None) -> dict[str, Any]:
    """A suspicious pair with its repair, its prompt in two parts, and each member's gap with a bar height."""
    gaps = [chosen - rejected for chosen, rejected in zip(row["rewards_chosen"], row["rewards_rejected"], strict=True)]
    largest = max(map(abs, gaps)) or 1.0
    return {
        **row,
        "action": action,
        "earlier_turns": row["prompt"][:-1],
        "last_turn": row["prompt"][-1:],
        "gaps": [{"value": gap, "height": round(50 * abs(gap) / largest, 1)} for gap in gaps],
        "mean_chosen": float(np.mean(row["rewards_chosen"])),
        "mean_rejected": float(np.mean(row["rewards_rejected"])),
    }


def compare_to_baseline(metrics: Mapping[str, Record], baseline: str) -> dict[str, dict[str, str | None]]:
    """Each model's accuracy interval compared with chance and with the baseline's interval.

    `chance` is "near" when the interval contains one half, "below" when it ends below, else None. `against` is "above",
    "below" or "overlap", and None for the baseline itself and where an interval is missing.
    """
    intervals = {
        name: (values["accuracy_low"], values["accuracy_high"])
        for name, values in metrics.items() if values["accuracy_low"] is not None
    }
    comparisons: dict[str, dict[str, str | None]] = {}
    for name, (low, high) in intervals.items():
        chance = "near" if low <= 0.5 <= high else "below" if high < 0.5 else None
        against = None
        if name != baseline and baseline in intervals:
            base_low, base_high = intervals[baseline]
            against = "above" if low > base_high else "below" if high < base_low else "overlap"
        comparisons[name] = {"chance": chance, "against": against}
    return comparisons


def accuracy_scale(metrics: Mapping[str, Record]) -> tuple[float, float]:
    """Ends of an axis, in tenths, that contains one half and every accuracy with its interval."""
    keys = ("accuracy", "accuracy_low", "accuracy_high")
    values = [values[key] for values in metrics.values() for key in keys if values[key] is not None]
    return math.floor(10 * min([0.5, *values])) / 10, math.ceil(10 * max([0.6, *values])) / 10


def render_figures(
    mean: np.ndarray, std: np.ndarray, is_flipped: np.ndarray | None, models: Mapping[str, Record],
    by_strength: Mapping[str, Sequence[Record]], by_confidence: Mapping[str, Sequence[Record]],
) -> dict[str, Markup]:
    """Inline SVG by name, of the figures for which there is data; a model's index in `models` gives its colour."""
    strength = mean, std, is_flipped
    plots = {
        "histogram": (figures.plot_strength(*strength, ["histogram"]), "Histogram of the strength, with a line at 0."),
        "spread": (figures.plot_strength(*strength, ["std"]), "Standard deviation of the members' gaps by their mean."),
    }
    histories = {name: record.get("log_history") or [] for name, record in models.items()}
    for key, label in CURVES.items():
        if any(key in entry for log in histories.values() for entry in log):
            plots[key] = (figures.plot_training_curves(histories, key, label), f"A line per model: {label} by step.")
    if by_strength:
        lines = {name: accuracy_line(by_strength.get(name, ()), None) for name in models}
        plots["deciles"] = (figures.plot_accuracy(lines, "tenth of the pairs, by strength"),
                            "A line per model: accuracy from the weakest to the strongest tenth of the pairs.")
    if by_confidence:
        lines = {name: accuracy_line(by_confidence.get(name, ()), "confidence") for name in models}
        plots["confidences"] = (figures.plot_accuracy(lines, "confidence", diagonal=True),
                                "A line per model: accuracy by confidence, with the diagonal of perfect calibration.")
    return {name: Markup(figures.to_svg(figure, name, text)) for name, (figure, text) in plots.items()}


def accuracy_line(groups: Sequence[Record], key: str | None) -> figures.Line:
    """Accuracy of each group that has pairs, at its value of `key`, or at its number from 1."""
    filled = [group for group in groups if group["accuracy"] is not None]
    x = [group[key] if key else number for number, group in enumerate(filled, 1)]
    return x, [group["accuracy"] for group in filled]
