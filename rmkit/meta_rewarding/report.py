"""The report on a run: a table over iterations, its curves with intervals, and the policies' words side by side."""

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
from rmkit.evaluation import figures as drawing
from rmkit.evaluation.policy_metrics import load_policy_samples
from rmkit.evaluation.tables import MISSING, align, number

TEMPLATE = "report.html.jinja"
SHOWN = 8  # prompts whose responses stand side by side
COLUMNS = ("win_rate", "win_rate_lc", "gold", "judged_win_rate", "judged_win_rate_lc", "arena", "length", "distinct",
           "kl", "spearman_language", "spearman_reward", "agreement_language", "agreement_reward")
# panel -> what its axis says, and the lines on it: name -> key
PANELS: dict[str, tuple[str, dict[str, str]]] = {
    "wins": ("win rate against the first policy", {"plain": "win_rate", "length-controlled": "win_rate_lc"}),
    "judged": ("win rate by the judge", {"plain": "judged_win_rate", "length-controlled": "judged_win_rate_lc"}),
    "gold": ("mean gold reward", {"gold": "gold"}),
    "length": ("characters of a response", {"length": "length"}),
    "judge": ("judge's Spearman with gold", {"language": "spearman_language", "reward": "spearman_reward"}),
    "kl": ("nats from the first policy", {"KL": "kl"}),
}
DRIFT: dict[str, str] = {"mean score": "score", "at the top": "top", "shown first wins": "first",
                         "higher score wins": "higher", "distinct": "distinct"}


def report(
    folder: Path,
    config: Mapping[str, Any],
    figures: Sequence[Mapping[str, Any]],
    iterations: Sequence[Mapping[str, Any]],
    samples: Sequence[str],
) -> Path:
    """Write report.json and report.html into `folder`, print the table, and return the folder.

    figures: of each policy, the first one's before the loop; iterations: of each, as the loop tells them; samples:
    each policy's folder of `rmkit sample`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "report.json",
               {"key": "report", "config": config, "figures": figures, "iterations": iterations})
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined,
    )
    page = environment.get_template(TEMPLATE).render(
        palette=drawing.PALETTE, header=list_columns(figures), rows=list_rows(figures),
        pictures=draw_pictures(figures, iterations), alarms=[
            {"iteration": one["iteration"], **alarm} for one in iterations for alarm in one["alarms"]
        ],
        pairs=[describe_pairs(one) for one in iterations], samples=join_columns(samples),
        config=json.dumps(config, indent=2, default=str),
    )
    (folder / "report.html").write_text(page, encoding="utf-8")
    print(format_iterations(figures, iterations))
    return folder


def list_columns(figures: Sequence[Mapping[str, Any]]) -> list[str]:
    """The figures that any policy has."""
    return ["policy", *(name for name in COLUMNS if any(own.get(name) is not None for own in figures))]


def list_rows(figures: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """A row for each policy, with intervals where there are some."""
    rows = []
    for place, own in enumerate(figures):
        row = ["before" if not place else f"after {place}"]
        for name in list_columns(figures)[1:]:
            ends = own.get(f"{name}_interval")
            shown = f" [{number(ends[0])}, {number(ends[1])}]" if ends and ends[0] is not None else ""
            row.append(number(own.get(name)) + shown)
        rows.append(row)
    return rows


def describe_pairs(iteration: Mapping[str, Any]) -> str:
    """How many pairs an iteration gave, for whom, and why others left."""
    parts = [f"iteration {iteration['iteration']}"]
    if iteration["rho"] is not None:
        parts.append(f"rho {iteration['rho']:g}")
    for whom, counts in iteration["pairs"].items():
        left = counts.get("left", {name: value for name, value in counts.items() if isinstance(value, int)})
        others = ", ".join(f"{value} {name}" for name, value in left.items() if name != "pairs")
        parts.append(f"{whom} {counts.get('pairs', 0)} pairs" + (f" ({others})" if others else ""))
    return "; ".join(parts)


def format_iterations(figures: Sequence[Mapping[str, Any]], iterations: Sequence[Mapping[str, Any]]) -> str:
    """The table, the counts of pairs and the alarms as text."""
    lines = [describe_pairs(one) for one in iterations]
    lines += [f"{alarm['level']} in iteration {one['iteration']}: {alarm['text']}"
              for one in iterations for alarm in one["alarms"]]
    table = [align(list_columns(figures), list_rows(figures))] if figures else []
    return "\n".join([*table, *lines])


def draw_pictures(
    figures: Sequence[Mapping[str, Any]], iterations: Sequence[Mapping[str, Any]]
) -> dict[str, Markup]:
    """The curves for which there is anything to draw, by panel, as inline SVG."""
    drawn: dict[str, tuple[Figure, str]] = {}
    for name, (label, lines) in PANELS.items():
        values = {line: [(place, own[key], own.get(f"{key}_interval")) for place, own in enumerate(figures)
                         if own.get(key) is not None] for line, key in lines.items()}
        if any(values.values()):
            drawn[name] = draw_panel(values, label, "iterations behind the policy"), f"{label} after each iteration."
    seen = {line: [(one["iteration"], one["drift"][key], None) for one in iterations
                   if one["drift"] is not None and one["drift"][key] is not None] for line, key in DRIFT.items()}
    if any(seen.values()):
        drawn["drift"] = (draw_panel(seen, "share", "iteration"), "The drift monitor's shares in each iteration.")
    return {name: Markup(drawing.to_svg(figure, name, text)) for name, (figure, text) in drawn.items()}


def draw_panel(lines: Mapping[str, Sequence[tuple[int, float, Any]]], label: str, axis: str) -> Figure:
    """A line per name: points (place, value, interval), intervals as bands."""
    with matplotlib.rc_context(drawing.STYLE):
        figure, axes = drawing.open_panel()
        drawing.plot_lines(axes, {name: ([place for place, _, _ in points], [value for _, value, _ in points])
                                  for name, points in lines.items()})
        for index, points in enumerate(lines.values()):
            known = [(place, *ends) for place, _, ends in points if ends and ends[0] is not None]
            if known:
                places, low, high = zip(*known, strict=True)
                colour = drawing.PALETTE[drawing.colour_name(index)][0]
                axes.fill_between(places, low, high, color=colour, alpha=0.15, linewidth=0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel(axis)
        axes.set_ylabel(label)
    return figure


def join_columns(samples: Sequence[str]) -> list[dict[str, Any]]:
    """The first prompts with the first response of every policy."""
    policies = [load_policy_samples(folder) for folder in samples]
    if not policies:
        return []
    by_prompt = [{str(row["prompt"]): row for row in rows} for rows in policies]
    return [
        {"prompt": row["prompt"][-1]["content"],
         "responses": [own[str(row["prompt"])]["responses"][0][-1]["content"] if str(row["prompt"]) in own else MISSING
                       for own in by_prompt]}
        for row in policies[0][:SHOWN]
    ]
