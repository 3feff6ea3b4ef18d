"""Statistics over seeds: differences are taken within seeds, and tables show what was met."""

import math

import pytest

from benchmarks.metarm import iterative_rlhf
from benchmarks.report import label_tables, policy_tables
from benchmarks.report.tables import compare
from benchmarks.shared import statistics
from benchmarks.shared.results import summarise


def make_cells(*ahead):
    """Two seeds that differ far more than their two arms, with three rounds each."""
    return [
        {arm: [{"gold": level + slope * place, "win_rate": 0.5, "accuracy": 0.7} for place in range(3)]
         for arm, slope in zip(ahead, (0.1, 0.3), strict=True)} for level in (10.0, 12.0)
    ]


def test_a_mean_has_the_t_interval_of_its_differences():
    gain = statistics.estimate_mean([0.01, 0.02, 0.03])
    # Sample standard deviation 0.01, and 4.302653 of Student's t with 2 degrees of freedom.
    assert gain["mean"] == pytest.approx(0.02)
    assert gain["high"] - gain["mean"] == pytest.approx(4.302653 * 0.01 / math.sqrt(3), rel=1e-6)
    assert statistics.estimate_mean([0.1])["low"] is None


def test_arms_are_summarised_and_compared_within_a_seed():
    figures = iterative_rlhf.gather(make_cells("plain", "metarm"))
    assert figures["by_arm"]["metarm"][2]["gold"] == {
        "mean": pytest.approx(11.6), "std": pytest.approx(2**0.5), "values": [10.6, 12.6]}
    lead = figures["ahead"][2]["gold"]
    assert lead["mean"] == pytest.approx(0.4) and 0.39 < lead["low"] <= lead["high"] < 0.41
    assert "accuracy_before" not in figures["ahead"][0] and "kl" not in figures["by_arm"]["metarm"][0]


def test_nested_figures_are_summarised_by_place():
    found = statistics.summarise_nested([{"a": [1.0, 2.0]}, {"a": [3.0, 4.0]}])
    assert [entry["values"] for entry in found["a"]] == [[1.0, 3.0], [2.0, 4.0]]
    with pytest.raises(ValueError):
        compare(summarise([0.5, 0.7]), summarise([0.4]))


def test_the_loop_s_aims_are_differences_within_seeds():
    policies = [
        {"win_rate": summarise([rate, rate + 0.02]), "length": summarise([length, 2 * length]),
         "spearman_language": summarise([spearman, spearman + 0.1])}
        for rate, length, spearman in zip([0.5, 0.7, 0.6], [100, 105, 115], [0.2, 0.1, 0.3], strict=True)
    ]
    row = policy_tables.tabulate_aims({"by_arm": {"meta": policies}}).splitlines()[-1]
    assert "**+20.0 [+20.0, +20.0]**" in row and "**-10.0" in row and "**+0.10" in row and "1.05 to 1.15" in row


def test_the_strongest_tenth_is_compared_with_the_five_before_it():
    levels = [0.0] * 4 + [0.9] * 5 + [0.8]
    world = {"tenths": {"symmetric": [
        {"as labelled": {"gold": summarise([level, level + 0.05, level + 0.1])}} for level in levels
    ]}}
    assert label_tables.compare_strongest(world, "gold") == "**-10.0 [-10.0, -10.0]**"
