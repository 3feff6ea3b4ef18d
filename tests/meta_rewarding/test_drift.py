"""The drift monitor (METHODS 2.7)."""

import dataclasses

import numpy as np
import pytest

from rmkit.core.checks import InputError
from rmkit.core.legacy_config import load_config
from rmkit.judges.base import Scale
from rmkit.meta_rewarding.drift import DriftMetrics, DriftRules, Threshold, check_drift, drift_metrics

NAN = np.nan
FIVE = Scale(0.0, 5.0)
CALM = DriftMetrics(score=0.5, top=0.1, length=100.0, distinct=1.0, first=0.5, higher=0.6, kl=1.0, agreement=0.7)


def test_figures_by_hand():
    verdicts = np.array([[[NAN, 1, 1], [-1, NAN, 0], [1, NAN, NAN]]])
    found = drift_metrics(
        [[[5.0, 4.8, NAN], [4.0, 0.0, 1.2]], [[NAN] * 3, [2.5, NAN, NAN]]],
        [["abcd", "abcd "], ["ab", "x"]],
        scale=FIVE,
        battles=(verdicts, [[3.0, 2.0, 3.0]]),
        log_ratios=[1.0, -0.5, 2.0],
        held_out=([1, 0, -1, NAN], [1, 1, 1, 1]),
    )
    # Decided: (0, 1) first, (0, 2) first, (1, 0) second, (2, 0) first; 0 and 2 have the same score.
    assert found == DriftMetrics(
        score=pytest.approx((5 + 4.8 + 4 + 0 + 1.2 + 2.5) / 30), top=pytest.approx(2 / 6), length=3.0, distinct=0.75,
        first=0.75, higher=1.0, kl=pytest.approx(2.5 / 3), agreement=0.5,
    )


def test_what_is_not_measured_is_none():
    found = drift_metrics([[[NAN]]], [["a"]], scale=FIVE)
    assert found == DriftMetrics(score=None, top=None, length=1.0, distinct=1.0)
    tied = drift_metrics([[[1.0]]], [["a"]], scale=FIVE, battles=([[[NAN, 0], [0, NAN]]], [[1.0, 2.0]]))
    assert (tied.first, tied.higher) == (None, None)
    assert check_drift([found, found], DriftRules()) == []


def test_a_judge_that_writes_five_less_a_little_is_at_the_top():
    assert drift_metrics([[[4.75, 4.9, 4.5]]], [["a"]], scale=FIVE).top == pytest.approx(2 / 3)
    assert drift_metrics([[[95.0, 94.0]]], [["a"]], scale=Scale(0, 100)).top == 0.5


def test_the_papers_iterations():
    """Meta-Rewarding's first two iterations: scores of 4.1 and 4.7, first 43.92 and 68.11 %, higher 63.04 and 97.68."""
    first = dataclasses.replace(CALM, score=0.82, first=0.4392, higher=0.6304)
    second = dataclasses.replace(CALM, score=0.94, first=0.6811, higher=0.9768)
    assert check_drift([first], DriftRules()) == []
    assert {(alarm.level, alarm.rule) for alarm in check_drift([first, second], DriftRules())} == {
        ("warn", "score"), ("warn", "position"), ("warn", "higher")}
    grown = [dataclasses.replace(CALM, length=length) for length in (1092.0, 1552.0, 2552.0)]
    assert {(alarm.level, alarm.rule) for alarm in check_drift(grown, DriftRules())} == {
        ("stop", "length"), ("stop", "length_step")}


@pytest.mark.parametrize(
    ("change", "rule", "level"),
    [
        ({"score": 0.61}, "score", "warn"), ({"top": 0.6}, "top", "warn"), ({"top": 0.95}, "top", "stop"),
        ({"first": 0.3}, "position", "warn"), ({"first": 0.9}, "position", "stop"),
        ({"distinct": 0.7}, "distinct", "warn"), ({"distinct": 0.4}, "distinct", "stop"),
        ({"kl": 3.5}, "kl", "warn"), ({"higher": 0.96}, "higher", "warn"),
    ],
)
def test_each_rule(change, rule, level):
    alarms = check_drift([CALM, dataclasses.replace(CALM, **change)], DriftRules())
    assert [(alarm.level, alarm.rule) for alarm in alarms] == [(level, rule)]
    off = dataclasses.replace(DriftRules(), **{rule: Threshold(None, None)})
    assert check_drift([CALM, dataclasses.replace(CALM, **change)], off) == []


def test_the_first_iteration_and_the_one_before_are_told_apart():
    slow = [dataclasses.replace(CALM, length=100 * 1.08**step, kl=float(step + 1), agreement=0.7 - 0.02 * step)
            for step in range(4)]
    assert check_drift(slow[:2], DriftRules()) == []
    assert [alarm.rule for alarm in check_drift(slow, DriftRules())] == ["length", "agreement"]
    back = [CALM, dataclasses.replace(CALM, length=130.0), CALM]
    assert [alarm.rule for alarm in check_drift(back, DriftRules())] == ["length_step"]
    shrunk = check_drift([CALM, dataclasses.replace(CALM, length=80.0)], DriftRules())
    assert [alarm.rule for alarm in shrunk] == ["length", "length_step"]


def test_rules_come_from_a_configuration(tmp_path):
    path = tmp_path / "rules.yaml"
    path.write_text("length: {warn: 0.3, stop: null}\ntop: {warn: null, stop: 0.05}\n")
    rules = load_config(DriftRules, path)
    assert rules.length == Threshold(0.3, None) and rules.higher == DriftRules().higher
    assert [alarm[:2] for alarm in check_drift([CALM, dataclasses.replace(CALM, length=105.0)], rules)] == [
        ("stop", "top")]
    path.write_text("length: {warn: 0.3}\n")
    with pytest.raises(InputError, match="stop"):
        load_config(DriftRules, path)


@pytest.mark.parametrize(
    ("call", "names"),
    [
        (lambda: drift_metrics([[[6.0]]], [["a"]], scale=FIVE), "scores"),
        (lambda: drift_metrics([[[1.0]]], [[]], scale=FIVE), "responses"),
        (lambda: drift_metrics([[[1.0]]], [["a"]], scale=FIVE, battles=([[[0.0]]], [[1.0, 2.0]])), "scores of"),
        (lambda: check_drift([], DriftRules()), "history"),
        (lambda: Threshold(0.5, 0.1), "stop"),
    ],
)
def test_drift_refuses(call, names):
    with pytest.raises(InputError, match=names):
        call()
