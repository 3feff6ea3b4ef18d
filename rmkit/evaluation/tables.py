"""Plain-text tables of metrics for terminals."""

from collections.abc import Mapping, Sequence
from typing import Any

Metrics = Mapping[str, Any]
MISSING = "-"
PAIR_COLUMNS = {
    "ties": "tie_rate",
    "log loss": "log_loss",
    "Brier": "brier",
    "ECE": "ece",
    "gap": "rewards.gap.mean",
    "prefers longer": "length.model_prefers_longer",
    "same length": "length.matched.accuracy",
}
POLICY_HEADER = [
    "policy", "wins", "ties", "losses", "win rate", "95 %", "equal length", "95 %", "arena", "95 %", "characters",
]


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """An aligned table: the first column flush left, the others flush right; short rows are filled with dashes."""
    cells = [list(header), *([*row, *[MISSING] * (len(header) - len(row))] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in cells]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def format_number(value: float | None, spec: str = ".3f") -> str:
    """Three decimals, or another format, or a dash for what is not defined."""
    return MISSING if value is None else f"{value:{spec}}"


def format_interval(low: float | None, high: float | None) -> str:
    """Two ends in square brackets, or a dash."""
    return MISSING if low is None or high is None else f"[{low:.3f}, {high:.3f}]"


def format_estimate(metrics: Metrics | None, key: str) -> list[str]:
    """Two cells: the value under `key`, and the interval under `low` and `high`."""
    if metrics is None:
        return [MISSING, MISSING]
    return [format_number(metrics[key]), format_interval(metrics["low"], metrics["high"])]


def get_path(record: Metrics, path: str) -> Any:
    """The value at a dotted path, or None where a part of the path is missing."""
    value: Any = record
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def format_pair_metrics(models: Mapping[str, Metrics]) -> str:
    """Tables of `evaluate_pairs` results by model: main metrics, then accuracy by source and by strength, if any."""
    rows = [
        [name, str(metrics["pairs"]), format_number(metrics["accuracy"]),
         format_interval(metrics["accuracy_low"], metrics["accuracy_high"]),
         *(format_number(get_path(metrics, path)) for path in PAIR_COLUMNS.values())]
        for name, metrics in models.items()
    ]
    tables = [format_table(["model", "pairs", "accuracy", "95 % interval", *PAIR_COLUMNS], rows)]
    sources = list(dict.fromkeys(source for metrics in models.values() for source in metrics["by_source"]))
    if len(sources) > 1:
        rows = [[name, *(format_number(metrics["by_source"].get(source, {}).get("accuracy")) for source in sources)]
                for name, metrics in models.items()]
        tables.append(format_table(["accuracy by source", *sources], rows))
    by_strength = {name: metrics["by_strength"] for name, metrics in models.items() if metrics["by_strength"]}
    if by_strength:
        header = ["accuracy by strength", *map(str, range(1, 1 + max(map(len, by_strength.values()))))]
        rows = [[name, *(format_number(group["accuracy"]) for group in groups)] for name, groups in by_strength.items()]
        tables.append(format_table(header, rows))
    return "\n\n".join(tables)


def format_policies(result: Metrics) -> str:
    """Tables of `rmkit compare`'s record: each policy against the baseline, then mean scores by turn, if any."""
    policies = {name: metrics for name, metrics in result["policies"].items() if name != result["baseline"]}
    rows = [
        [name, *(str(metrics[key]) for key in ("wins", "ties", "losses")), *format_estimate(metrics, "win_rate"),
         *format_estimate(metrics["length_controlled"], "rate"), *format_estimate(metrics["arena"], "score"),
         format_number(metrics["length"], ".0f")]
        for name, metrics in policies.items()
    ]
    missing = sum(metrics["missing"] for metrics in policies.values())
    tables = [f"{result['questions']} questions against {result['baseline']}; {missing} pairs without a preference",
              format_table(POLICY_HEADER, rows)]
    if "grades" in result:
        turns = sorted({turn for metrics in result["grades"].values() for turn in metrics["turns"]}, key=float)
        rows = [[name, *(format_number(metrics["turns"][turn]["mean"]) for turn in turns),
                 *format_estimate(metrics["all"], "mean")] for name, metrics in result["grades"].items()]
        tables.append(format_table(["mean score", *(f"turn {turn}" for turn in turns), "all", "95 %"], rows))
    return "\n\n".join(tables)


def format_benchmark(result: Metrics) -> str:
    """Tables of `evaluate_benchmark`'s result: scores, parts, extras, comparisons and robustness."""
    models = result["models"]
    names = list(models)
    tables = [format_scores(models, result["length_baseline"])]
    parts = {part: entry["items"] for model in models.values() for part, entry in model["parts"].items()}
    if parts:
        rows = [[part, str(items), *(format_number(models[name]["parts"][part]["value"]) for name in names)]
                for part, items in parts.items()]
        tables.append(format_table(["part", "items", *names], rows))
    extra = [f"{name}: {key} {format_value(value)}" for name in names for key, value in models[name]["extra"].items()]
    if extra:
        tables.append("\n".join(extra))
    if result["comparisons"]:
        tables.append(format_comparisons(result["comparisons"]))
    if any("robustness" in model for model in models.values()):
        drops = {name: model["robustness"] for name, model in models.items()}
        rows = [[perturbation, *(format_number(drops[name]["perturbations"][perturbation]["drop"], "+.3f")
                                 for name in names)] for perturbation in drops[names[0]]["perturbations"]]
        rows += [[key.replace("_", " "), *(format_number(drops[name][key], "+.3f") for name in names)]
                 for key in ("mean_drop", "worst_drop")]
        tables.append(format_table(["drop of accuracy under perturbation", *names], rows))
    return "\n\n".join(tables)


def format_scores(models: Mapping[str, Metrics], length_baseline: Metrics) -> str:
    """The published scores, a row per model and one for preferring the longest response."""
    scores = list(length_baseline)
    baseline = {"scores": length_baseline, "scored": length_baseline[scores[0]]["items"], "unscored": 0}
    rows = [
        [name, str(model["scored"]), str(model["unscored"]), *format_estimate(model["scores"][scores[0]], "value"),
         *(format_number(model["scores"][score]["value"]) for score in scores[1:])]
        for name, model in [*models.items(), ("(longest response)", baseline)]
    ]
    return format_table(["model", "items", "left out", scores[0], "95 % interval", *scores[1:]], rows)


def format_comparisons(comparisons: Sequence[Metrics]) -> str:
    """A table of `compare_models`' results, a row per pair of models."""
    rows = [
        [f"{result['first']} - {result['second']}", str(result["items"]), format_number(result["difference"], "+.3f"),
         format_interval(result["low"], result["high"]), str(result["better"]), str(result["worse"]),
         f"{result['p']:.3g}"]
        for result in comparisons
    ]
    return format_table(["difference", "items", "headline", "95 % interval", "better", "worse", "McNemar p"], rows)


def format_value(value: Any) -> str:
    """A number, a text, or a nested list of them."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(format_value, value))}]"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
