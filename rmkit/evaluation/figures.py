"""Figures of preference strength, training and accuracy, in one style, as pictures or inline SVG."""

import html
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

# name -> colour on a light page, colour on a dark page
PALETTE = {
    "text": ("#1b2530", "#e6eaee"),
    "muted": ("#5f6b78", "#9ba7b3"),
    "grid": ("#d8dee4", "#36414c"),
    "positive": ("#8fb0cf", "#44688c"),
    "negative": ("#e2a07c", "#a8643f"),
    "flipped": ("#a3341b", "#ff8f6e"),
    "series0": ("#77828e", "#8d99a6"),
    "series1": ("#1f5f9e", "#6fb0ec"),
    "series2": ("#1c7a64", "#5cc6ab"),
    "series3": ("#8a5a00", "#e0b252"),
    "series4": ("#74448f", "#c497e0"),
}
TEXT, MUTED, GRID, POSITIVE, NEGATIVE, FLIPPED = (light for light, _ in list(PALETTE.values())[:6])
N_SERIES = sum(name.startswith("series") for name in PALETTE)
FONT_SIZE = 10
STYLE: Any = {  # Any, because only some releases of matplotlib type their settings
    "axes.axisbelow": True,
    "axes.edgecolor": GRID,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.labelcolor": MUTED,
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.constrained_layout.use": True,
    "font.family": "DejaVu Sans",
    "font.size": FONT_SIZE,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "legend.borderaxespad": 0.0,
    "legend.frameon": False,
    "legend.handlelength": 1.2,
    "svg.fonttype": "none",
    "text.color": TEXT,
    "text.parse_math": False,
    "xtick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.color": MUTED,
    "ytick.major.size": 0,
}
WIDTH, HEIGHT = 4.6, 3.1  # inches of one panel
BINS = 40
GROUPS = 20  # equal groups by strength, as in Fig. 2 of the paper on preference strength
MAX_POINTS = 1200
MAX_MARKERS = 15  # points on a line up to which each has a marker
PERCENT = PercentFormatter(1.0, decimals=0, symbol=" %")
DASHED: dict[str, Any] = {"color": MUTED, "linewidth": 0.9, "linestyle": (0, (4, 3))}
Line = tuple[Sequence[float], Sequence[float]]  # x and y of one model


@rc_context(STYLE)
def plot_strength(
    mean: np.ndarray, std: np.ndarray, is_flipped: np.ndarray | None = None,
    panels: Sequence[str] = ("histogram", "std"),
) -> Figure:
    """Histogram of the preference strength, and the members' standard deviation against it, side by side.

    `mean`, `std`: [pair], reward units; `is_flipped`: [pair], whether the label was flipped on purpose; `panels`: which
    of the two to draw.
    """
    figure = Figure(figsize=(len(panels) * WIDTH, HEIGHT))
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        if panel == "histogram":
            draw_histogram(axes, mean, is_flipped)
        else:
            draw_std(axes, mean, std, is_flipped)
    return figure


@rc_context(STYLE)
def plot_training_curves(histories: Mapping[str, Sequence[Mapping[str, Any]]], key: str, label: str) -> Figure:
    """One quantity of `transformers`' log history by step, a line per model that logged it.

    `histories`: model -> log entries; `key`: the key of the quantity; `label`: of the y axis.
    """
    lines = {}
    for name, history in histories.items():
        points = [(entry["step"], entry[key]) for entry in history if key in entry and "step" in entry]
        lines[name] = ([step for step, _ in points], [value for _, value in points])
    figure, axes = new_panel()
    draw_lines(axes, lines)
    if "accuracy" in key:
        axes.yaxis.set_major_formatter(PERCENT)
    axes.set(xlabel="step", ylabel=label)
    return figure


@rc_context(STYLE)
def plot_accuracy(lines: Mapping[str, Line], label: str, *, diagonal: bool = False) -> Figure:
    """Accuracy along a quantity, a line per model.

    `lines`: model -> (x, accuracies); `label`: of the x axis; `diagonal`: x is a probability, and the reference line is
    perfect calibration; otherwise the reference is chance level.
    """
    figure, axes = new_panel()
    if diagonal:
        axes.plot([0.5, 1], [0.5, 1], **DASHED)
        axes.xaxis.set_major_formatter(PERCENT)
    else:
        axes.axhline(0.5, **DASHED)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    draw_lines(axes, lines)
    axes.yaxis.set_major_formatter(PERCENT)
    axes.set(xlabel=label, ylabel="accuracy")
    return figure


def new_panel() -> tuple[Figure, Axes]:
    """An empty figure of one panel."""
    figure = Figure(figsize=(WIDTH, HEIGHT))
    return figure, figure.subplots()


def draw_histogram(axes: Axes, mean: np.ndarray, is_flipped: np.ndarray | None) -> None:
    """Bars with an edge at zero, so that no bar mixes both signs; the outermost bars hold what lies beyond."""
    edges, clipped = bin_strength(mean)
    counts, _ = np.histogram(clipped, edges)
    widths, centres = np.diff(edges) * 0.9, (edges[:-1] + edges[1:]) / 2
    axes.bar(centres, counts, widths, color=[NEGATIVE if edge < 0 else POSITIVE for edge in edges[:-1]])
    if is_flipped is not None and is_flipped.any():
        flips, _ = np.histogram(clipped[is_flipped], edges)
        axes.bar(centres, flips, widths, color=FLIPPED, label="flipped labels")
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1.02))
    axes.axvline(0, color=TEXT, linewidth=0.9)
    below = float(np.mean(mean < 0))
    axes.set_title(f"{100 * below:.1f} % below zero", loc="left", fontsize=FONT_SIZE, color=MUTED)
    axes.set(xlim=(edges[0], edges[-1]), xlabel="strength (mean gap, reward units)", ylabel="pairs")


def bin_strength(mean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Histogram edges [bin + 1], one of them zero, over all but the outer half percent; and `mean` clipped to them."""
    low, high = np.quantile(mean, [0.005, 0.995])
    low, high = min(low, 0.0), max(high, 0.0)
    width = (high - low) / BINS or 1.0
    first, last = int(np.floor(low / width)), int(np.ceil(high / width))
    edges = np.arange(min(first, -1), max(last, 1) + 1) * width
    return edges, np.clip(mean, edges[0], edges[-1])


def draw_std(axes: Axes, mean: np.ndarray, std: np.ndarray, is_flipped: np.ndarray | None) -> None:
    """A dot per pair (of at most `MAX_POINTS`, evenly by strength), and the mean in equal groups by strength."""
    order = np.argsort(mean, kind="stable")
    dots = order[np.unique(np.linspace(0, len(order) - 1, min(MAX_POINTS, len(order))).astype(int))]
    kinds = [("pairs", POSITIVE, np.ones(len(dots), bool))]
    if is_flipped is not None and is_flipped.any():
        kinds = [("original labels", POSITIVE, ~is_flipped[dots]), ("flipped labels", FLIPPED, is_flipped[dots])]
    for name, colour, kind in kinds:
        axes.plot(mean[dots][kind], std[dots][kind], ".", markersize=4.5, markeredgewidth=0, color=colour, label=name)
    groups = np.array_split(order, min(GROUPS, len(order)))
    axes.plot([mean[group].mean() for group in groups], [std[group].mean() for group in groups], color=TEXT,
              linewidth=1.4, label="group means")
    axes.axvline(0, color=TEXT, linewidth=0.9)
    edges, _ = bin_strength(mean)
    axes.set(xlim=(edges[0], edges[-1]), ylim=(0, float(np.quantile(std, 0.995)) * 1.15 or 1.0),
             xlabel="strength (mean gap, reward units)", ylabel="members' standard deviation")
    add_legend(axes, len(kinds) + 1, markerscale=2)


def draw_lines(axes: Axes, lines: Mapping[str, Line]) -> None:
    """A line per model in the model's colour; empty lines are left out."""
    drawn = {index: (name, x, y) for index, (name, (x, y)) in enumerate(lines.items()) if len(x)}
    for index, (name, x, y) in drawn.items():
        axes.plot(x, y, color=PALETTE[colour_name(index)][0], linewidth=1.6, label=name,
                  marker="o" if len(x) <= MAX_MARKERS else "", markersize=3.5)
    add_legend(axes, len(drawn))


def add_legend(axes: Axes, names: int, **options: Any) -> None:
    """The legend above the panel."""
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.02), ncols=min(names, 3), columnspacing=1.2, **options)


def colour_name(index: int) -> str:
    """The palette's name for the model at this index; the first, the baseline, is grey."""
    return f"series{0 if index == 0 else 1 + (index - 1) % (N_SERIES - 1)}"


def to_svg(figure: Figure, name: str, description: str) -> str:
    """The figure as an inline `<svg>` whose colours are CSS variables (`--text`, ...).

    `name`: unique on the page, prefixes every id inside; `description`: for screen readers.
    """
    buffer = io.StringIO()
    with rc_context({**STYLE, "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg"):]
    svg = re.sub(r"<(metadata|style).*?</\1>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r"\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}", svg)
    svg = re.sub(r'(\sid="|url\(#|xlink:href="#)', rf"\g<1>{name}-", svg)
    for colour, (light, _) in PALETTE.items():
        svg = svg.replace(light, f"var(--{colour})")
    opening = f'<svg role="img" aria-label="{html.escape(description)}"'
    return re.sub(r'<svg [^>]*?(viewBox="[^"]*")[^>]*>', rf"{opening} \1>", svg, count=1)
