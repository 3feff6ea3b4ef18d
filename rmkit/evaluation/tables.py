"""Plain-text tables for terminals: several models' metrics side by side."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

Metrics = Mapping[str, Any]

MISSING = "-"
COLUMNS: dict[str, Callable[[Metrics], str]] = {
    "pairs": lambda metrics: str(metrics["pairs"]),
    "accuracy": lambda metrics: number(metrics["accuracy"]),
    "95 % interval": lambda metrics: interval(metrics["accuracy_low"], metrics["accuracy_high"]),
    "ties": lambda metrics: number(metrics["tie_rate"]),
    "log loss": lambda metrics: number(metrics["log_loss"]),
    "Brier": lambda metrics: number(metrics["brier"]),
    "ECE": lambda metrics: number(metrics["ece"]),
    "gap": lambda metrics: number(metrics["rewards"]["gap"]["mean"]),
    "prefers longer": lambda metrics: number(metrics["length"]["model_prefers_longer"]),
    "same length": lambda metrics: number(metrics["length"]["matched"]["accuracy"]),
}


def format_comparison(models: Mapping[str, Metrics]) -> str:
    """Aligned tables of `evaluate_pairs` answers by model name: the main numbers, then accuracy by part.

    Models are rows. Accuracy by source follows where there is more than one source, accuracy by strength (from the
    most doubted group up) where there is strength. A number that is not defined is shown as a dash.
    """
    blocks = [align(["model", *COLUMNS], [[name, *(show(metrics) for show in COLUMNS.values())]
                                          for name, metrics in models.items()])]
    sources = list(dict.fromkeys(source for metrics in models.values() for source in metrics["by_source"]))
    if len(sources) > 1:
        rows = [[name, *(number(metrics["by_source"].get(source, {}).get("accuracy")) for source in sources)]
                for name, metrics in models.items()]
        blocks.append(align(["accuracy by source", *sources], rows))
    voted = {name: metrics["by_strength"] for name, metrics in models.items() if metrics["by_strength"]}
    if voted:
        header = ["accuracy by strength", *(str(place + 1) for place in range(max(map(len, voted.values()))))]
        rows = [[name, *(number(group["accuracy"]) for group in groups)] for name, groups in voted.items()]
        blocks.append(align(header, rows))
    return "\n\n".join(blocks)


def align(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table as text: two spaces between columns, the first column flush left, the others flush right.

    Rows shorter than the header are filled with dashes.
    """
    filled = [list(header), *([*row, *[MISSING] * (len(header) - len(row))] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*filled, strict=True)]
    lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in filled]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def number(value: float | None) -> str:
    """Three decimals, or a dash for what is not defined."""
    return MISSING if value is None else f"{value:.3f}"


def interval(low: float | None, high: float | None) -> str:
    """Two ends in square brackets, or a dash."""
    return MISSING if low is None or high is None else f"[{low:.3f}, {high:.3f}]"
