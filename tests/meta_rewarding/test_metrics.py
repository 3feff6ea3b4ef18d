"""Metrics of a policy and its judge that are known by hand, and the report's text."""

import json

import numpy as np
import pytest

from rmkit.evaluation.policy_metrics import gold_rewards
from rmkit.judges.judged_samples import JudgedSamples
from rmkit.meta_rewarding.metrics import compare_gold, mean_interval, measure_judge
from rmkit.meta_rewarding.report import format_report, join_responses

NO_GOLD = np.full(2, np.nan)  # of a row without a request


def sample_row(prompt, *texts):
    return {"prompt": [{"role": "user", "content": prompt}],
            "responses": [[{"role": "assistant", "content": text}] for text in texts]}


def test_win_rates_and_gold_rewards():
    rows = [sample_row("p", "aa", "bb"), sample_row("q", "c" * 9, "d" * 9), sample_row("not there", "x")]
    reference = [sample_row("q", "eee"), sample_row("p", "ff", "gg")]
    reference_gold = [np.array([5.0]), np.array([1.0, 2.0])]
    gold = [np.array([1.0, 3.0]), np.array([5.0, 0.0]), np.array([9.0])]
    metrics = compare_gold(rows, reference, gold, reference_gold, seed=0)
    # prompt p: 1 ties 1, loses to 2, 3 wins twice; prompt q: 5 ties 5, 0 loses
    assert metrics["win_rate"] == pytest.approx((0.5 + 0 + 1 + 1 + 0.5 + 0) / 6)
    assert metrics["gold"] == pytest.approx(18 / 5) and metrics["gold_rows"] == 3
    assert metrics["win_rate_interval"][0] <= metrics["win_rate"] <= metrics["win_rate_interval"][1]
    metrics = compare_gold(rows, reference, [NO_GOLD, *gold[1:]], reference_gold, seed=0)
    assert (metrics["win_rate"], metrics["gold"], metrics["gold_rows"]) == (0.25, pytest.approx(14 / 3), 2)
    assert compare_gold(rows, reference, [NO_GOLD, NO_GOLD, NO_GOLD[:1]], [NO_GOLD[:1], NO_GOLD], seed=0) == {}
    assert mean_interval(np.array([1.0]), np.array([0]), 0) is None


def test_length_control_changes_nothing_at_equal_lengths():
    rows, reference = ([sample_row("p", texts[0]), sample_row("q", texts[1])] for texts in (("aa", "bb"), ("cc", "dd")))
    zero = np.array([0.0])
    metrics = compare_gold(rows, reference, [np.array([1.0]), zero], [zero, zero], seed=0)
    assert metrics["win_rate"] == metrics["win_rate_lc"] == 0.75


def test_a_judge_beside_gold_rewards():
    rows = [sample_row("p", "a", "b", "c"), sample_row("q", "d", "e")]
    scores = np.array([[[3, 3], [1, np.nan], [2, 2]], [[1, 1], [2, 2], [np.nan, np.nan]]], dtype=float)
    judged = JudgedSamples(
        ["1", "2"], [row["prompt"] for row in rows], [row["responses"] for row in rows], scores, scores, {}
    )
    score, gold = pytest.approx(17 / 9), np.array([9.0, 1.0, 5.0])
    assert measure_judge(judged, rows, [gold, np.array([1.0, 0.0])]) == {
        "score": score, "spearman": pytest.approx(0.0), "agreement": 0.75}
    assert measure_judge(judged, rows, [gold, NO_GOLD]) == {
        "score": score, "spearman": pytest.approx(1.0), "agreement": 1.0}
    assert measure_judge(judged, rows, gold_rewards(rows)) == {"score": score}


def test_the_report_as_text():
    metrics = [{"win_rate": 0.5, "win_rate_interval": [0.4, 0.6], "length": 10.0, "kl": None}, {"win_rate": None}]
    iteration = {"iteration": 1, "rho": 0.32, "alerts": [{"severity": "warn", "rule": "top", "text": "too many"}],
                 "pairs": {"actor": {"pairs": 3, "skipped": {"weak": 2}}, "judge": {"pairs": 1, "too long": 4}}}
    *table, pairs, alert = format_report(metrics, [iteration]).splitlines()
    assert "0.500 [0.400, 0.600]" in table[2] and "kl" not in table[0] and table[3].startswith("after 1")
    assert pairs == "iteration 1; rho 0.32; actor 3 pairs (2 weak); judge 1 pairs (4 too long)"
    assert alert == "warn in iteration 1: too many"


def test_responses_side_by_side(tmp_path):
    policies = {"first": [sample_row("p", "a", "b")], "second": [sample_row("q", "c"), sample_row("p", "d")]}
    for name, rows in policies.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    folders = [str(tmp_path / "first"), str(tmp_path / "second")]
    assert join_responses(folders) == [{"prompt": "p", "responses": ["a", "d"]}]
    assert join_responses([]) == []
