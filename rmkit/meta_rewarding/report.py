"""The report of a run: a table over policies, plots with intervals, and the policies' responses side by side."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import matplotlib
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rmkit.core.stage import write_json
from rmkit.evaluation import figures as plots
from rmkit.evaluation.policy_metrics import load_policy_samples
from rmkit.evaluation.tables import MISSING, format_number, format_table

TEMPLATE = "report.html.jinja"
N_PROMPTS = 8  # prompts whose responses are shown side by side
COLUMNS = ("win_rate", "win_rate_lc", "gold", "judged_win_rate", "judged_win_rate_lc", "arena", "length", "distinct",
           "kl", "spearman_llm", "spearman_reward_model", "agreement_llm", "agreement_reward_model")
# plot -> label of its axis, and its lines: name -> metric
PLOTS: dict[str, tuple[str, dict[str, str]]] = {
    "wins": ("win rate against the first policy", {"plain": "win_rate", "length-controlled": "win_rate_lc"}),
    "judged": ("win rate by the judge", {"plain": "judged_win_rate", "length-controlled": "judged_win_rate_lc"}),
    "gold": ("mean gold reward", {"gold": "gold"}),
    "length": ("characters of a response", {"length": "length"}),
    "judge": ("judge's Spearman with gold", {"LLM": "spearman_llm", "reward models": "spearman_reward_model"}),
    "kl": ("nats from the first policy", {"KL": "kl"}),
}
DRIFT_LINES: dict[str, str] = {"mean score": "score", "top scores": "top", "first wins": "first",
                               "higher score wins": "higher", "distinct": "distinct"}
Metrics = Sequence[Mapping[str, Any]]  # by policy, the first one before the loop
Iterations = Sequence[Mapping[str, Any]]


def write_report(
    folder: Path, config: Mapping[str, Any], metrics: Metrics, iterations: Iterations, samples: Sequence[str]
) -> Path:
    """Write report.json and report.html into `folder`, print the table, and return the folder.

    `iterations` are those of `loop.meta_reward`, `samples` each policy's folder of `rmkit sample`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "report.json",
               {"key": "report", "config": config, "metrics": metrics, "iterations": iterations})
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined,
    )
    page = environment.get_template(TEMPLATE).render(
        palette=plots.PALETTE, header=list_columns(metrics), rows=list_rows(metrics), plots=draw(metrics, iterations),
        iterations=[describe_pairs(iteration) for iteration in iterations], alerts=list_alerts(iterations),
        samples=join_responses(samples), config=json.dumps(config, indent=2, default=str),
    )
    (folder / "report.html").write_text(page, encoding="utf-8")
    print(format_report(metrics, iterations))
    return folder


def list_columns(metrics: Metrics) -> list[str]:
    """The metrics that any policy has."""
    return ["policy", *(name for name in COLUMNS if any(policy.get(name) is not None for policy in metrics))]


def list_rows(metrics: Metrics) -> list[list[str]]:
    """A row for each policy, with intervals where there are some."""
    rows = []
    for index, policy in enumerate(metrics):
        row = [f"after {index}" if index else "before"]
        for name in list_columns(metrics)[1:]:
            ends = policy.get(f"{name}_interval")
            interval = f" [{format_number(ends[0])}, {format_number(ends[1])}]" if ends and ends[0] is not None else ""
            row.append(format_number(policy.get(name)) + interval)
        rows.append(row)
    return rows


def describe_pairs(iteration: Mapping[str, Any]) -> str:
    """The number of pairs of an iteration by role, and of skipped prompts by reason."""
    parts = [f"iteration {iteration['iteration']}"]
    if iteration["rho"] is not None:
        parts.append(f"rho {iteration['rho']:g}")
    for role, counts in iteration["pairs"].items():
        skipped = counts.get("skipped", {name: value for name, value in counts.items() if isinstance(value, int)})
        reasons = ", ".join(f"{value} {name}" for name, value in skipped.items() if name != "pairs")
        parts.append(f"{role} {counts.get('pairs', 0)} pairs" + (f" ({reasons})" if reasons else ""))
    return "; ".join(parts)


def list_alerts(iterations: Iterations) -> list[dict[str, str]]:
    """Severity and text of each alert."""
    return [{"severity": alert["severity"],
             "text": f"{alert['severity']} in iteration {iteration['iteration']}: {alert['text']}"}
            for iteration in iterations for alert in iteration["alerts"]]


def format_report(metrics: Metrics, iterations: Iterations) -> str:
    """The table, the numbers of pairs and the alerts as text."""
    table = [format_table(list_columns(metrics), list_rows(metrics))] if metrics else []
    return "\n".join([*table, *map(describe_pairs, iterations), *(alert["text"] for alert in list_alerts(iterations))])


def draw(metrics: Metrics, iterations: Iterations) -> dict[str, Markup]:
    """The plots that have data, by name, as inline SVG."""
    drawn: dict[str, tuple[Figure, str]] = {}
    for name, (label, lines) in PLOTS.items():
        points = {line: [(index, policy[metric], policy.get(f"{metric}_interval"))
                         for index, policy in enumerate(metrics) if policy.get(metric) is not None]
                  for line, metric in lines.items()}
        if any(points.values()):
            drawn[name] = draw_plot(points, label, "iterations"), f"{label} after each iteration."
    drift = {line: [(iteration["iteration"], iteration["drift"][metric], None) for iteration in iterations
                    if iteration["drift"] is not None and iteration["drift"][metric] is not None]
             for line, metric in DRIFT_LINES.items()}
    if any(drift.values()):
        drawn["drift"] = (draw_plot(drift, "fraction", "iteration"), "The drift monitor's fractions in each iteration.")
    return {name: Markup(plots.to_svg(figure, name, text)) for name, (figure, text) in drawn.items()}


def draw_plot(lines: Mapping[str, Sequence[tuple[int, float, Any]]], label: str, axis: str) -> Figure:
    """A line per name through points (x, y, interval), with intervals as bands."""
    with matplotlib.rc_context(plots.STYLE):
        figure, axes = plots.new_panel()
        plots.draw_lines(axes, {name: ([x for x, _, _ in points], [y for _, y, _ in points])
                                for name, points in lines.items()})
        for index, points in enumerate(lines.values()):
            bands = [(x, *ends) for x, _, ends in points if ends and ends[0] is not None]
            if bands:
                xs, low, high = zip(*bands, strict=True)
                colour = plots.PALETTE[plots.colour_name(index)][0]
                axes.fill_between(xs, low, high, color=colour, alpha=0.15, linewidth=0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel(axis)
        axes.set_ylabel(label)
    return figure


def join_responses(samples: Sequence[str]) -> list[dict[str, Any]]:
    """The first prompts with the first response of every policy."""
    policies = [{str(row["prompt"]): row for row in load_policy_samples(folder)} for folder in samples]
    first = list(policies[0].items())[:N_PROMPTS] if policies else []
    return [{
        "prompt": row["prompt"][-1]["content"],
        "responses": [policy[name]["responses"][0][-1]["content"] if name in policy else MISSING
                      for policy in policies],
    } for name, row in first]
