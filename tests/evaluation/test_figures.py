"""What the marks of the figures stand for, and their SVG."""

import re
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest

from rmkit.evaluation import figures

GENERATOR = np.random.default_rng(1)
MEAN = GENERATOR.normal(0.7, 1.0, 3000)
STD = GENERATOR.uniform(0.1, 0.6, 3000)
FLIPPED = MEAN < GENERATOR.normal(-0.5, 0.5, 3000)


def bars_of(axes: figures.Axes) -> list[tuple[float, float, float]]:
    """Left edge, right edge and height of each bar."""
    return [(bar.get_x(), bar.get_x() + bar.get_width(), bar.get_height()) for bar in axes.patches]  # type: ignore


@pytest.mark.parametrize("mean", [
    MEAN, [0.0], [0.0, 0.0], [2.0, 3.0], [-3.0, -2.0], [1.0] * 500 + [1e6], [5e-324, 1.0],
])
def test_histogram_has_every_pair_and_an_edge_at_zero(mean: list[float]) -> None:
    strengths = np.array(mean)
    axes = figures.plot_strength(strengths, np.zeros(len(mean))).axes[0]
    bars = bars_of(axes)
    assert sum(height for _, _, height in bars) == len(mean)
    assert sum(height for _, right, height in bars if right < 0) == np.sum(strengths < 0)
    assert not [bar for bar in bars if bar[0] < 0 < bar[1]]
    assert axes.get_xlim()[0] <= 0 <= axes.get_xlim()[1]


def test_histogram_overlays_flipped_labels() -> None:
    bars = bars_of(figures.plot_strength(MEAN, STD, FLIPPED).axes[0])
    alls, flips = bars[: len(bars) // 2], bars[len(bars) // 2:]
    assert sum(height for _, _, height in flips) == FLIPPED.sum()
    assert all(flip[2] <= every[2] for flip, every in zip(flips, alls, strict=True))


def test_std_panel_shows_a_sample_and_the_means_of_all() -> None:
    axes = figures.plot_strength(MEAN, STD, FLIPPED, ["std"]).axes[0]
    given, flips, groups = axes.lines[:3]
    assert len(given.get_xdata()) + len(flips.get_xdata()) == figures.MAX_POINTS
    order = np.argsort(MEAN).reshape(figures.GROUPS, -1)
    np.testing.assert_allclose(groups.get_xdata(), MEAN[order].mean(axis=1))
    np.testing.assert_allclose(groups.get_ydata(), STD[order].mean(axis=1))


def test_a_models_colour_does_not_depend_on_the_others() -> None:
    log = [{"step": 1, "loss": 0.7}, {"step": 2, "loss": 0.5}, {"step": 2, "eval_loss": 0.6}, {"train_loss": 0.6}]
    both = figures.plot_training_curves({"plain": log, "robust": log}, "loss", "loss").axes[0].lines
    alone = figures.plot_training_curves({"plain": [], "robust": log}, "loss", "loss").axes[0].lines
    assert list(both[0].get_xdata()) == [1, 2] and list(both[0].get_ydata()) == [0.7, 0.5]
    assert [line.get_label() for line in alone] == ["robust"]
    assert alone[0].get_color() == both[1].get_color() != both[0].get_color()


def test_only_the_baseline_is_grey() -> None:
    names = [figures.colour_name(index) for index in range(12)]
    assert names.count("series0") == 1 and set(names) <= set(figures.PALETTE)


def test_svg_uses_css_variables_and_is_deterministic() -> None:
    lines = {"<plain> & $x$": ([1, 2], [0.4, 0.6])}
    svgs = [figures.to_svg(figures.plot_accuracy(lines, "tenth"), "tenths", 'a "b" <c>') for _ in range(2)]
    assert svgs[0] == svgs[1]
    root = ElementTree.fromstring(svgs[0].replace("xlink:href", "href"))
    assert root.get("aria-label") == 'a "b" <c>' and root.get("role") == "img" and root.get("viewBox")
    assert "<plain> & $x$" in [text.text for text in root.iter("text")]
    assert "http" not in svgs[0] and "<style" not in svgs[0]
    assert not [light for light, _ in figures.PALETTE.values() if light in svgs[0]]
    ids = re.findall(r'\sid="([^"]*)"', svgs[0])
    assert ids and all(name.startswith("tenths-") for name in ids)
    assert set(re.findall(r'(?:href="|url\()#([^")]*)', svgs[0])) <= set(ids)


def test_global_settings_do_not_change() -> None:
    before = dict(matplotlib.rcParams)
    figures.to_svg(figures.plot_strength(MEAN, STD), "strength", "")
    assert dict(matplotlib.rcParams) == before
