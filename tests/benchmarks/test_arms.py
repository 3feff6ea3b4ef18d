"""A study's arms over seeds: means at every place, and differences between arms of one seed."""


import pytest

from benchmarks.shared import statistics as arms

CELLS = [
    {arm: [{"gold": level + ahead * place, "judge": None} for place in range(3)]
     for arm, ahead in (("one", 0.1), ("other", 0.3))}
    for level in (10.0, 12.0)  # seeds differ by far more than arms
]


def test_figures_are_summarised_by_arm_and_place():
    by_arm = arms.summarise_arms(CELLS, ("gold", "judge", "unheard of"))
    assert [[list(entry) for entry in places] for places in by_arm.values()] == [[["gold"]] * 3] * 2
    assert by_arm["other"][2]["gold"] == {
        "mean": pytest.approx(11.6), "std": pytest.approx(2**0.5), "values": [10.6, 12.6]}
    assert arms.format_arms(by_arm).splitlines() == [
        "one 0: gold 11.000", "one 1: gold 11.100", "one 2: gold 11.200",
        "other 0: gold 11.000", "other 1: gold 11.300", "other 2: gold 11.600",
    ]


def test_arms_are_compared_within_a_seed():
    lead = arms.estimate_lead(CELLS, "other", "one", -1, "gold")
    assert lead["mean"] == pytest.approx(0.4) and 0.39 < lead["low"] <= lead["high"] < 0.41
    assert arms.estimate_lead(CELLS, "one", "other", 0, "gold")["mean"] == pytest.approx(0.0)
