"""The figure of a benchmark: a dot for every defined score, and a line for its interval."""

import pytest

from rmkit.evaluation.benchmark_figures import plot_benchmark

SCORES = {"total": {"value": 0.75, "low": 0.7, "high": 0.8}, "hard": {"value": 0.5, "low": None, "high": None},
          "none": {"value": None, "low": None, "high": None}}
DROPS = {"typos": {"drop": 0.125, "low": 0.1, "high": 0.15}, "case": {"drop": -0.01, "low": -0.02, "high": 0.0}}


def lines_of(axes, label):
    return {line.get_label(): list(line.get_xdata()) for line in axes.lines}[label]


def test_dots_are_at_the_values():
    figure = plot_benchmark("RewardBench", {"one": {"scores": SCORES}, "other": {"scores": SCORES}})
    axes, = figure.axes
    assert axes.get_xlabel() == "RewardBench"
    assert [label.get_text() for label in axes.get_yticklabels()] == list(SCORES)
    for model in ("one", "other"):
        assert lines_of(axes, model) == [0.75, 0.5]
    assert [list(line.get_xdata()) for line in axes.lines if len(line.get_xdata()) == 2].count([0.7, 0.8]) == 2


@pytest.mark.parametrize("models", [1, 2, 5])
def test_drops_have_their_own_panel(models):
    result = {f"model {index}": {"scores": SCORES, "robustness": {"perturbations": DROPS}} for index in range(models)}
    left, right = plot_benchmark("RM-Bench", result).axes
    assert lines_of(left, "model 0") == [0.75, 0.5] and lines_of(right, "model 0") == [0.125, -0.01]
