"""The study of iterative RLHF: figures by round, and differences between arms of one seed."""


import pytest

from benchmarks.metarm import iterative_rlhf as study


def test_arms_are_compared_within_a_seed():
    cells = [
        {arm: [{"gold": level + ahead * place, "win_rate": 0.5, "accuracy": 0.7} for place in range(3)]
         for arm, ahead in (("plain", 0.1), ("metarm", 0.3))}
        for level in (10.0, 12.0)  # seeds differ by far more than arms
    ]
    figures = study.gather(cells)
    assert figures["by_arm"]["metarm"][2]["gold"]["mean"] == pytest.approx(11.6)
    ahead = figures["ahead"][2]["gold"]
    assert ahead["mean"] == pytest.approx(0.4) and 0.39 < ahead["low"] <= ahead["high"] < 0.41
    assert figures["ahead"][0]["gold"]["mean"] == pytest.approx(0.0)
    assert "accuracy_before" not in figures["ahead"][0]
