"""Charts: a benchmark's scores with their intervals, and the drops under rewordings, models side by side."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rmkit.evaluation.figures import HEIGHT, INK, PALETTE, PERCENT, STYLE, WIDTH, add_legend, colour_name

BAND = 0.7  # of the distance between two names, over which the models are spread
STEP = 0.26  # inches for each mark


def draw_benchmark(title: str, models: Mapping[str, Any]) -> Figure:
    """Scores from top to bottom, a dot for each model with its 95 % interval; beside them the drops, where measured."""
    panels = [{name: model["scores"] for name, model in models.items()}]
    labels = [title]
    if all("robustness" in model for model in models.values()):
        panels.append({name: model["robustness"]["rewordings"] for name, model in models.items()})
        labels.append("drop of accuracy when reworded")
    rows = max(len(next(iter(panel.values()))) for panel in panels)
    height = max(HEIGHT, STEP * rows * max(len(models), 1) ** 0.5 + 1.0)
    with matplotlib.rc_context({**STYLE, "axes.grid.axis": "x"}):
        figure = Figure(figsize=(len(panels) * WIDTH * 1.2, height), layout="constrained")
        for axes, panel, label, key in zip(
            np.atleast_1d(figure.subplots(1, len(panels))), panels, labels, ("value", "drop"), strict=False
        ):
            plot_dots(axes, panel, key)
            axes.set_xlabel(label)
    return figure


def plot_dots(axes: Axes, models: Mapping[str, Mapping[str, Mapping[str, Any]]], key: str) -> None:
    """A row for each name and a dot for each model, in the colour of its place, with its interval as a line."""
    names = list(next(iter(models.values())))
    for index, (model, found) in enumerate(models.items()):
        rows = np.arange(len(names)) + BAND * ((index + 0.5) / len(models) - 0.5)
        known = [(row, found[name]) for row, name in zip(rows, names, strict=True) if found[name][key] is not None]
        colour = PALETTE[colour_name(index)][0]
        for row, entry in known:
            if entry["low"] is not None:
                axes.plot([entry["low"], entry["high"]], [row, row], color=colour, linewidth=1.4)
        axes.plot([entry[key] for _, entry in known], [row for row, _ in known], "o", markersize=4.5, color=colour,
                  label=model)
    if key == "drop":
        axes.axvline(0, color=INK, linewidth=0.9)
    set_names(axes, names)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))  # whole per cent
    axes.xaxis.set_major_formatter(PERCENT)
    add_legend(axes, len(models))


def set_names(axes: Axes, names: Sequence[str]) -> None:
    """Names at the rows, the first on top."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
