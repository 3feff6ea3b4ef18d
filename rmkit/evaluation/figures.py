"""Figures: one restrained style for the report's inline SVG and for the picture a stage leaves in its folder."""

import html
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

# name -> colour on a light page, colour on a dark page
PALETTE = {
    "ink": ("#1b2530", "#e6eaee"),
    "muted": ("#5f6b78", "#9ba7b3"),
    "rule": ("#d8dee4", "#36414c"),
    "trust": ("#8fb0cf", "#44688c"),
    "doubt": ("#e2a07c", "#a8643f"),
    "planted": ("#a3341b", "#ff8f6e"),
    "series0": ("#77828e", "#8d99a6"),
    "series1": ("#1f5f9e", "#6fb0ec"),
    "series2": ("#1c7a64", "#5cc6ab"),
    "series3": ("#8a5a00", "#e0b252"),
    "series4": ("#74448f", "#c497e0"),
}
INK, MUTED, RULE, TRUST, DOUBT, PLANTED = (light for light, _ in list(PALETTE.values())[:6])
SERIES = sum(name.startswith("series") for name in PALETTE)
STYLE: Any = {  # Any, because only some releases of matplotlib type their settings
    "axes.axisbelow": True,
    "axes.edgecolor": RULE,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.labelcolor": MUTED,
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.facecolor": "white",
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "legend.borderaxespad": 0.0,
    "legend.fontsize": 10,
    "legend.frameon": False,
    "legend.handlelength": 1.2,
    "legend.labelcolor": INK,
    "path.simplify": True,
    "svg.fonttype": "none",
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.color": MUTED,
    "ytick.major.size": 0,
}
WIDTH, HEIGHT = 4.6, 3.1  # inches of one panel: at a phone's 350 px its text is still 10 px high
BINS = 40
GROUPS = 20  # equal groups by strength, as in Fig. 2 of the paper on preference strength
DOTS = 1200  # more dots than this hide one another and weigh on the page
Line = tuple[Sequence[float], Sequence[float]]  # positions and values of one model
FEW = 15  # points on a line up to which each is marked
PERCENT = PercentFormatter(1.0, decimals=0, symbol=" %")


def draw_strength(mean: np.ndarray, std: np.ndarray, planted: np.ndarray | None = None) -> Figure:
    """Both views of the preference strength, side by side: its histogram, and its standard deviation against it.

    `mean`, `std`: reward units [pair]; `planted`: whether the label was flipped on purpose [pair].
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(2 * WIDTH, HEIGHT), layout="constrained")
        left, right = figure.subplots(1, 2)
        plot_histogram(left, mean, planted)
        plot_spread(right, mean, std, planted)
    return figure


def draw_histogram(mean: np.ndarray, planted: np.ndarray | None = None) -> Figure:
    """How many pairs have which strength, those below zero in the colour of doubt; `planted` as `draw_strength`."""
    with matplotlib.rc_context(STYLE):
        figure, axes = open_panel()
        plot_histogram(axes, mean, planted)
    return figure


def draw_spread(mean: np.ndarray, std: np.ndarray, planted: np.ndarray | None = None) -> Figure:
    """How much the members disagree at each strength; arguments as in `draw_strength`."""
    with matplotlib.rc_context(STYLE):
        figure, axes = open_panel()
        plot_spread(axes, mean, std, planted)
    return figure


def open_panel(width: float = WIDTH, height: float = HEIGHT) -> tuple[Figure, Axes]:
    """An empty figure of one panel."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def plot_histogram(axes: Axes, mean: np.ndarray, planted: np.ndarray | None) -> None:
    """Bars whose edges meet at zero, so that no bar mixes the two sides; the outer bars hold what lies beyond."""
    edges, shown = bin_strength(mean)
    counts, _ = np.histogram(shown, edges)
    colours = [DOUBT if edge < 0 else TRUST for edge in edges[:-1]]
    widths = np.diff(edges) * 0.9
    centres = (edges[:-1] + edges[1:]) / 2
    axes.bar(centres, counts, widths, color=colours)
    if planted is not None and planted.any():
        flips, _ = np.histogram(shown[planted], edges)
        axes.bar(centres, flips, widths, color=PLANTED, label="planted flips")
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1.02))
    axes.axvline(0, color=INK, linewidth=0.9)
    below = float(np.mean(mean < 0))
    axes.set_title(f"{100 * below:.1f} % below zero", loc="left", fontsize=STYLE["font.size"], color=MUTED)
    axes.set_xlim(edges[0], edges[-1])
    axes.set_xlabel("strength (mean gap, reward units)")
    axes.set_ylabel("pairs")


def bin_strength(mean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Histogram edges [bin + 1], one of them zero, that span all but the outer half percent, and `mean` within."""
    low, high = np.quantile(mean, [0.005, 0.995])
    low, high = min(low, 0.0), max(high, 0.0)
    width = (high - low) / BINS or 1.0
    first, last = int(np.floor(low / width)), int(np.ceil(high / width))
    edges = np.arange(min(first, -1), max(last, 1) + 1) * width
    return edges, np.clip(mean, edges[0], edges[-1])


def plot_spread(axes: Axes, mean: np.ndarray, std: np.ndarray, planted: np.ndarray | None) -> None:
    """A dot per pair (an even sample of them when there are many) and the mean in equal groups by strength."""
    order = np.argsort(mean, kind="stable")
    dots = order[np.unique(np.linspace(0, len(order) - 1, min(DOTS, len(order))).astype(int))]
    kinds = [("pairs", TRUST, np.ones(len(dots), bool))]
    if planted is not None and planted.any():
        kinds = [("as given", TRUST, ~planted[dots]), ("planted flips", PLANTED, planted[dots])]
    for name, colour, kind in kinds:
        axes.plot(mean[dots][kind], std[dots][kind], ".", markersize=4.5, markeredgewidth=0, color=colour, label=name)
    groups = np.array_split(order, min(GROUPS, len(order)))
    axes.plot([mean[group].mean() for group in groups], [std[group].mean() for group in groups], color=INK,
              linewidth=1.4, label="group means")
    axes.axvline(0, color=INK, linewidth=0.9)
    axes.set_ylim(0, float(np.quantile(std, 0.995)) * 1.15 or 1.0)
    edges, _ = bin_strength(mean)
    axes.set_xlim(edges[0], edges[-1])
    add_legend(axes, len(kinds) + 1, markerscale=2)
    axes.set_xlabel("strength (mean gap, reward units)")
    axes.set_ylabel("members' standard deviation")


def draw_curves(histories: Mapping[str, Sequence[Mapping[str, Any]]], measure: str, label: str) -> Figure:
    """One measure of `transformers`' log over the steps, a line per model that logged it.

    `histories`: model -> log dicts; `measure`: the key to draw, where a dict has it; `label`: what the axis says.
    """
    lines = {}
    for name, history in histories.items():
        points = [(entry["step"], entry[measure]) for entry in history if measure in entry and "step" in entry]
        lines[name] = ([step for step, _ in points], [value for _, value in points])
    with matplotlib.rc_context(STYLE):
        figure, axes = open_panel()
        plot_lines(axes, lines)
        if "accuracy" in measure:
            axes.yaxis.set_major_formatter(PERCENT)
        axes.set_xlabel("step")
        axes.set_ylabel(label)
    return figure


def draw_profiles(profiles: Mapping[str, Line], label: str, *, diagonal: bool = False) -> Figure:
    """Accuracy along a quantity, a line per model, with the line it is to be read against.

    `profiles`: model -> (positions, accuracies); `label`: what the axis of the positions says; `diagonal`: positions
    are probabilities, to be matched by the accuracy; otherwise the reference is the level of guessing.
    """
    with matplotlib.rc_context(STYLE):
        figure, axes = open_panel()
        dashed: dict[str, Any] = {"color": MUTED, "linewidth": 0.9, "linestyle": (0, (4, 3))}
        if diagonal:
            axes.plot([0.5, 1], [0.5, 1], **dashed)
            axes.xaxis.set_major_formatter(PERCENT)
        else:
            axes.axhline(0.5, **dashed)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        plot_lines(axes, profiles)
        axes.yaxis.set_major_formatter(PERCENT)
        axes.set_xlabel(label)
        axes.set_ylabel("accuracy")
    return figure


def plot_lines(axes: Axes, lines: Mapping[str, Line]) -> None:
    """A line per model in the colour of its place, dotted where it has few points; empty ones leave no trace."""
    drawn = {index: (name, x, y) for index, (name, (x, y)) in enumerate(lines.items()) if len(x)}
    for index, (name, x, y) in drawn.items():
        axes.plot(x, y, color=PALETTE[colour_name(index)][0], linewidth=1.6, label=name,
                  marker="o" if len(x) <= FEW else "", markersize=3.5)
    add_legend(axes, len(drawn))


def add_legend(axes: Axes, names: int, **options: Any) -> None:
    """The legend above the panel, where nothing drawn can cross it."""
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.02), ncols=min(names, 3), columnspacing=1.2, **options)


def colour_name(index: int) -> str:
    """The palette's name for the model at this place; the first, which is the baseline, is grey."""
    return f"series{0 if index == 0 else 1 + (index - 1) % (SERIES - 1)}"


def to_svg(figure: Figure, name: str, text: str) -> str:
    """The figure as an inline `<svg>` whose colours are CSS variables (`--ink`, ...), so that it follows the page.

    `name`: unique on the page, prefixes every id inside; `text`: what a reader who cannot see it is told.
    """
    buffer = io.StringIO()
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    drawing = buffer.getvalue()
    drawing = drawing[drawing.index("<svg"):]
    drawing = re.sub(r"<(metadata|style).*?</\1>\s*", "", drawing, flags=re.DOTALL)
    drawing = re.sub(r"\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}", drawing)
    drawing = re.sub(r'(\sid="|url\(#|xlink:href="#)', rf"\g<1>{name}-", drawing)
    for colour, (light, _) in PALETTE.items():
        drawing = drawing.replace(light, f"var(--{colour})")
    opening = f'<svg role="img" aria-label="{html.escape(text)}"'
    return re.sub(r'<svg [^>]*?(viewBox="[^"]*")[^>]*>', rf"{opening} \1>", drawing, count=1)
