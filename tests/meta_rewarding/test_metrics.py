"""Figures of a policy and its judge, where they are known by hand."""

import json

import numpy as np
import pytest

from rmkit.evaluation.policy_metrics import gold_rewards
from rmkit.judges.results import JudgedSamples
from rmkit.meta_rewarding.metrics import compare, find_interval, measure_judge
from rmkit.meta_rewarding.report import describe_pairs, format_iterations, join_columns


def speak(prompt, *texts):
    return {"prompt": [{"role": "user", "content": prompt}],
            "responses": [[{"role": "assistant", "content": text}] for text in texts]}


def test_win_rates_and_gold_rewards():
    rows = [speak("p", "aa", "bb"), speak("q", "c" * 9, "d" * 9), speak("not there", "x")]
    others = [speak("q", "eee"), speak("p", "ff", "gg")]
    figures = compare(rows, others, [np.array([1.0, 3.0]), np.array([5.0, 0.0]), np.array([9.0])],
                      [np.array([5.0]), np.array([1.0, 2.0])], seed=0)
    # prompt p: 1 ties 1, loses to 2, 3 wins twice; prompt q: 5 ties 5, 0 loses
    assert figures["win_rate"] == pytest.approx((0.5 + 0 + 1 + 1 + 0.5 + 0) / 6)
    assert figures["gold"] == pytest.approx(18 / 5) and figures["gold_rows"] == 3
    assert figures["win_rate_interval"][0] <= figures["win_rate"] <= figures["win_rate_interval"][1]
    equal = compare([speak("p", "aa"), speak("q", "bb")], [speak("p", "cc"), speak("q", "dd")],
                    [np.array([1.0]), np.array([0.0])], [np.array([0.0]), np.array([0.0])], seed=0)
    assert equal["win_rate"] == equal["win_rate_lc"] == 0.75  # equal lengths change nothing
    assert find_interval(np.array([1.0]), np.array([0]), 0) is None
    nothing = np.full(2, np.nan)  # rows without a request
    figures = compare(rows, others, [nothing, np.array([5.0, 0.0]), np.array([9.0])],
                      [np.array([5.0]), np.array([1.0, 2.0])], seed=0)
    assert (figures["win_rate"], figures["gold"], figures["gold_rows"]) == (0.25, pytest.approx(14 / 3), 2)
    assert compare(rows, others, [nothing, nothing, nothing[:1]], [nothing[:1], nothing], seed=0) == {}


def test_a_judge_beside_gold():
    rows = [speak("p", "a", "b", "c"), speak("q", "d", "e")]
    scores = np.array([[[3, 3], [1, np.nan], [2, 2]], [[1, 1], [2, 2], [np.nan, np.nan]]], dtype=float)
    judged = JudgedSamples(
        ["1", "2"], [row["prompt"] for row in rows], [row["responses"] for row in rows], scores, scores, {}
    )
    figures = measure_judge(judged, rows, [np.array([9.0, 1.0, 5.0]), np.array([1.0, 0.0])])
    assert figures == {"score": pytest.approx(17 / 9), "spearman": pytest.approx(0.0), "agreement": 0.75}
    one_alone = measure_judge(judged, rows, [np.array([9.0, 1.0, 5.0]), np.full(2, np.nan)])
    assert one_alone == {"score": pytest.approx(17 / 9), "spearman": pytest.approx(1.0), "agreement": 1.0}
    assert measure_judge(judged, rows, gold_rewards(rows)) == {"score": pytest.approx(17 / 9)}


def test_the_table_says_what_there_is(tmp_path):
    figures = [{"win_rate": 0.5, "win_rate_interval": [0.4, 0.6], "length": 10.0, "kl": None}, {"win_rate": None}]
    one = {"iteration": 1, "rho": 0.32, "alarms": [{"level": "warn", "rule": "top", "text": "too many"}],
           "pairs": {"actor": {"pairs": 3, "left": {"weak": 2}}, "judge": {"pairs": 1, "too long": 4}}}
    text = format_iterations(figures, [one])
    assert "0.500 [0.400, 0.600]" in text and "kl" not in text and "after 1" in text
    assert "warn in iteration 1: too many" in text
    assert describe_pairs(one) == "iteration 1; rho 0.32; actor 3 pairs (2 weak); judge 1 pairs (4 too long)"
    for name, rows in (("one", [speak("p", "a", "b")]), ("two", [speak("q", "c"), speak("p", "d")])):
        (tmp_path / name).mkdir()
        (tmp_path / name / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert join_columns([str(tmp_path / "one"), str(tmp_path / "two")]) == [{"prompt": "p", "responses": ["a", "d"]}]
    assert join_columns([]) == []
