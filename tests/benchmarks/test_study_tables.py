"""Tables of the studies: differences are within seeds, and an aim is met or missed by what the figures say."""


import pytest

from benchmarks.report import denoising as tables_denoising
from benchmarks.report import meta_rewarding as loop
from benchmarks.report import strength as tables_strength
from benchmarks.report.studies import compare
from benchmarks.shared.results import summarise


def test_differences_are_within_seeds():
    found = compare(summarise([0.5, 0.7, 0.9]), summarise([0.4, 0.6, 0.8]))  # seeds differ by more than figures
    assert found["mean"] == pytest.approx(0.1) and found["low"] == pytest.approx(0.1)
    with pytest.raises(ValueError):
        compare(summarise([0.5, 0.7]), summarise([0.4]))


def make_policies(rates, lengths, spearmans, judge):
    """Policies of an arm: each figure for two seeds, the second a little off."""
    return [
        {"win_rate": summarise([rate, rate + 0.02]), "length": summarise([length, 2 * length]),
         **({f"spearman_{judge}": summarise([spearman, spearman + 0.1])} if spearman is not None else {})}
        for rate, length, spearman in zip(rates, lengths, spearmans, strict=True)
    ]


def test_aims_are_met_or_missed_by_the_means():
    figures = {
        "by_arm": {
            "meta": make_policies([0.5, 0.6, 0.7], [100, 95, 91], [0.2, 0.1, 0.3], "language"),
            "reward": make_policies([0.5, 0.7, 0.6], [100, 105, 115], [None, 0.3, 0.2], "reward"),
        },
        "ahead": {"reward over meta": {"mean": -0.1, "low": -0.2, "high": -0.05}},
    }
    met = {(aim.split()[0], arm): met for aim, arm, met, _ in loop.list_aims(figures)}
    assert met == {
        ("win", "Meta-Rewarding"): "met", ("judge's", "Meta-Rewarding"): "met", ("length", "Meta-Rewarding"): "met",
        ("win", "reward models judge"): loop.MISSED, ("judge's", "reward models judge"): loop.MISSED,
        ("length", "reward models judge"): loop.MISSED, ("reward", "at the end"): loop.MISSED,
    }
    assert loop.tell_whether({"mean": 0.1, "low": -0.1}) == "met, within chance" == loop.tell_whether(
        {"mean": 0.1, "low": None})
    told = {(aim.split()[0], arm): told for aim, arm, _, told in loop.list_aims(figures)}
    assert told["win", "reward models judge"].startswith("points: **+20.0") and "-10.0" in told[
        "win", "reward models judge"]
    assert told["length", "reward models judge"] == "farthest mean 1.15; seeds 1.05 to 1.15"  # of each seed's own first
    assert "Of 7 aims 4 are missed and 3 met, 3 of these beyond chance" in loop.answer_meta_rewarding(figures)
    assert "| reward models judge, SFT |" in loop.tabulate_policies(figures)


def test_the_strongest_tenth_is_set_against_the_five_before_it():
    levels = [0.0] * 4 + [0.9] * 5 + [0.8]
    world = {"tenths": {"symmetric": [
        {"as labelled": {"gold": summarise([level, level + 0.05, level + 0.1])}} for level in levels
    ]}}
    assert tables_strength.compare_strongest(world, "gold") == "**-10.0 [-10.0, -10.0]**"


def test_the_noisiest_cell_and_the_best_line():
    cells = {f"uniform {rate:g}": {"accuracy": {
        "plain BT": summarise([0.8 - rate]), "soft": summarise([0.8]), "best recipe": summarise([0.9])}}
        for rate in (0.0, 0.4, 0.2)}
    key = tables_denoising.find_noisiest(cells, "uniform")
    assert key == "uniform 0.4" and tables_denoising.show_cell(key) == "40 % by chance"
    assert tables_denoising.find_best(cells[key]) == "soft"
    assert tables_denoising.show_gains(cells, "soft", [key, "uniform 0"]) == ["+40.0", "+0.0"]
