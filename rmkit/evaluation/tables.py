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


HEADER = ["policy", "wins", "ties", "losses", "win rate", "95 %", "equal length", "95 %", "arena", "95 %", "characters"]


def format_standings(found: Mapping[str, Any]) -> str:
    """An aligned table of `rmkit compare`'s record, the baseline last; then, where there are any, scores by turn."""
    baseline = found["baseline"]
    policies = {name: own for name, own in found["policies"].items() if name != baseline}
    rows = [[name, *(str(own[kind]) for kind in ("wins", "ties", "losses")), *show(own), *show_controlled(own),
             *show(own["arena"], "score"), MISSING if own["length"] is None else f"{own['length']:.0f}"]
            for name, own in policies.items()]
    missing = sum(own["missing"] for own in policies.values())
    blocks = [f"{found['questions']} questions against {baseline}; {missing} pairs without a preference",
              align(HEADER, rows)]
    if "grades" in found:
        turns = sorted({turn for own in found["grades"].values() for turn in own["turns"]}, key=float)
        header = ["mean score", *(f"turn {turn}" for turn in turns), "all", "95 %"]
        grades = [[name, *(number(own["turns"][turn]["mean"]) for turn in turns), *show(own["all"], "mean")]
                  for name, own in found["grades"].items()]
        blocks.append(align(header, grades))
    return "\n\n".join(blocks)


def show(figures: Mapping[str, Any], name: str = "win_rate") -> list[str]:
    """A figure and its interval."""
    return [number(figures[name]), interval(figures["low"], figures["high"])]


def show_controlled(figures: Mapping[str, Any]) -> list[str]:
    """The length-controlled rate and its interval."""
    return [MISSING, MISSING] if figures["length_controlled"] is None else show(figures["length_controlled"], "rate")


def format_benchmark(metrics: Metrics) -> str:
    """Everything that `metrics.json` holds of a benchmark, as aligned tables one below the other."""
    models = metrics["models"]
    blocks = [format_scores(models, metrics["longest"])]
    names = list(models)
    parts = {part: found for model in models.values() for part, found in model["parts"].items()}
    if parts:
        rows = [[part, str(found["items"]), *(number(models[name]["parts"][part]["value"]) for name in names)]
                for part, found in parts.items()]
        blocks.append(align(["part", "items", *names], rows))
    extra = [f"{name}: {key} {spell(value)}" for name in names for key, value in models[name]["extra"].items()]
    if extra:
        blocks.append("\n".join(extra))
    if metrics["comparisons"]:
        blocks.append(format_comparisons(metrics["comparisons"]))
    if any("robustness" in model for model in models.values()):
        blocks.append(format_robustness({name: model["robustness"] for name, model in models.items()}))
    return "\n\n".join(blocks)


def format_scores(models: Metrics, longest: Metrics) -> str:
    """The published scores, models as rows, with the headline's interval and how many items were not scored.

    The last row is for taking the longest response, whatever it says.
    """
    scores = list(next(iter(models.values()))["scores"])
    rows = []
    for name, model in models.items():
        headline, *others = (model["scores"][score] for score in scores)
        rows.append([name, str(model["scored"]), str(model["unscored"]), number(headline["value"]),
                     interval(headline["low"], headline["high"]), *(number(other["value"]) for other in others)])
    taken = [longest[score] for score in scores]
    rows.append(["(the longest)", str(taken[0]["items"]), "0", number(taken[0]["value"]),
                 interval(taken[0]["low"], taken[0]["high"]), *(number(other["value"]) for other in taken[1:])])
    return align(["model", "items", "left out", scores[0], "95 % interval", *scores[1:]], rows)


def format_comparisons(comparisons: Sequence[Metrics]) -> str:
    """Two models a row."""
    rows = [
        [f"{found['first']} - {found['second']}", str(found["items"]), signed(found["difference"]),
         interval(found["low"], found["high"]), str(found["better"]), str(found["worse"]), f"{found['p']:.3g}"]
        for found in comparisons
    ]
    return align(["difference", "items", "headline", "95 % interval", "better", "worse", "McNemar p"], rows)


def format_robustness(models: Metrics) -> str:
    """The drop of accuracy by rewording, with the mean and the worst."""
    names = list(models)
    rows = [
        [rewording, *(signed(models[name]["rewordings"][rewording]["drop"]) for name in names)]
        for rewording in models[names[0]]["rewordings"]
    ]
    rows += [[title, *(signed(models[name][key]) for name in names)]
             for title, key in (("mean drop", "mean_drop"), ("worst drop", "worst_drop"))]
    return align(["drop of accuracy when reworded", *names], rows)


def signed(value: float | None) -> str:
    """Three decimals with their sign, or a dash."""
    return MISSING if value is None else f"{value:+.3f}"


def spell(value: Any) -> str:
    """A value of any shape."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(spell, value))}]"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
