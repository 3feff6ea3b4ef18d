"""Figures of benchmark scores, and of drops under perturbation, with the models side by side."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rmkit.evaluation.figures import HEIGHT, PALETTE, PERCENT, STYLE, TEXT, WIDTH, add_legend, colour_name

BAND = 0.7  # of a row's height, over which the models are spread
ROW_HEIGHT = 0.26  # inches


@rc_context({**STYLE, "axes.grid.axis": "x"})
def plot_benchmark(title: str, models: Mapping[str, Any]) -> Figure:
    """A benchmark's scores, a row per score and a dot per model with its 95 % interval; beside them the drops, if any.

    `models`: name -> an entry of `evaluate_benchmark`'s "models".
    """
    panels = [(title, "value", {name: model["scores"] for name, model in models.items()})]
    if all("robustness" in model for model in models.values()):
        drops = {name: model["robustness"]["perturbations"] for name, model in models.items()}
        panels.append(("drop of accuracy under perturbation", "drop", drops))
    rows = max(len(next(iter(panel.values()))) for _, _, panel in panels)
    height = max(HEIGHT, ROW_HEIGHT * rows * max(len(models), 1) ** 0.5 + 1.0)
    figure = Figure(figsize=(len(panels) * WIDTH * 1.2, height))
    for axes, (label, key, panel) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        draw_intervals(axes, panel, key)
        axes.set_xlabel(label)
    return figure


def draw_intervals(axes: Axes, models: Mapping[str, Mapping[str, Mapping[str, Any]]], key: str) -> None:
    """A row per name, and in it a dot per model at the value under `key`, with its interval as a line."""
    names = list(next(iter(models.values())))
    for index, (model, entries) in enumerate(models.items()):
        colour = PALETTE[colour_name(index)][0]
        rows = np.arange(len(names)) + BAND * ((index + 0.5) / len(models) - 0.5)
        given = [(row, entries[name]) for row, name in zip(rows, names, strict=True) if entries[name][key] is not None]
        for row, entry in given:
            if entry["low"] is not None:
                axes.plot([entry["low"], entry["high"]], [row, row], color=colour, linewidth=1.4)
        axes.plot([entry[key] for _, entry in given], [row for row, _ in given], "o", markersize=4.5, color=colour,
                  label=model)
    if key == "drop":
        axes.axvline(0, color=TEXT, linewidth=0.9)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)  # the first on top
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(PERCENT)
    add_legend(axes, len(models))
