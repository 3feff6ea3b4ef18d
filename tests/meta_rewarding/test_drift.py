"""The drift monitor (METHODS 2.7)."""

import dataclasses

import numpy as np
import pytest

from rmkit.core.checks import InputError
from rmkit.core.config import load_config
from rmkit.judges.base import Scale
from rmkit.meta_rewarding.config import DriftRules, Threshold
from rmkit.meta_rewarding.drift import DriftMetrics, check_drift, drift_metrics

NAN = np.nan
FIVE = Scale(0.0, 5.0)
STABLE = DriftMetrics(score=0.5, top=0.1, length=100.0, distinct=1.0, first=0.5, higher=0.6, kl=1.0, agreement=0.7)


def change(**changes):
    return dataclasses.replace(STABLE, **changes)


def alerts_for(*history, rules=None):
    return [(alert.severity, alert.rule) for alert in check_drift(history, rules or DriftRules())]


def test_metrics_by_hand():
    verdicts = np.array([[[NAN, 1, 1], [-1, NAN, 0], [1, NAN, NAN]]])
    metrics = drift_metrics(
        [[[5.0, 4.8, NAN], [4.0, 0.0, 1.2]], [[NAN] * 3, [2.5, NAN, NAN]]], [["abcd", "abcd "], ["ab", "x"]],
        scale=FIVE, meta_judgments=(verdicts, [[3.0, 2.0, 3.0]]),
    )
    # Decided: (0, 1) first, (0, 2) first, (1, 0) second, (2, 0) first; 0 and 2 have the same score.
    assert metrics == DriftMetrics(score=pytest.approx((5 + 4.8 + 4 + 0 + 1.2 + 2.5) / 30), top=pytest.approx(2 / 6),
                                   length=3.0, distinct=0.75, first=0.75, higher=1.0)


def test_what_is_not_measured_is_none_and_gives_no_alert():
    metrics = drift_metrics([[[NAN]]], [["a"]], scale=FIVE)
    assert metrics == DriftMetrics(score=None, top=None, length=1.0, distinct=1.0)
    tied = drift_metrics([[[1.0]]], [["a"]], scale=FIVE, meta_judgments=([[[NAN, 0], [0, NAN]]], [[1.0, 2.0]]))
    assert (tied.first, tied.higher) == (None, None)
    assert alerts_for(metrics, metrics) == []


@pytest.mark.parametrize("scores, scale, top", [([4.75, 4.9, 4.5], FIVE, 2 / 3), ([95.0, 94.0], Scale(0, 100), 0.5)])
def test_the_top_is_a_twentieth_of_the_scale(scores, scale, top):
    assert drift_metrics([[scores]], [["a"]], scale=scale).top == pytest.approx(top)


def test_published_values():
    """Meta-Rewarding's first two iterations (scores 4.1 and 4.7), and Self-Rewarding's lengths."""
    first, second = (change(score=score, first=position, higher=higher)
                     for score, position, higher in ((0.82, 0.4392, 0.6304), (0.94, 0.6811, 0.9768)))
    assert alerts_for(first) == []
    assert set(alerts_for(first, second)) == {("warn", "score"), ("warn", "position"), ("warn", "higher")}
    lengths = [change(length=length) for length in (1092.0, 1552.0, 2552.0)]
    assert set(alerts_for(*lengths)) == {("stop", "length"), ("stop", "length_step")}


@pytest.mark.parametrize("changes, rule, severity", [
    ({"score": 0.61}, "score", "warn"), ({"top": 0.6}, "top", "warn"), ({"top": 0.95}, "top", "stop"),
    ({"first": 0.3}, "position", "warn"), ({"first": 0.9}, "position", "stop"),
    ({"distinct": 0.7}, "distinct", "warn"), ({"distinct": 0.4}, "distinct", "stop"),
    ({"kl": 3.5}, "kl", "warn"), ({"higher": 0.96}, "higher", "warn"),
])
def test_each_rule(changes, rule, severity):
    assert alerts_for(STABLE, change(**changes)) == [(severity, rule)]
    off = dataclasses.replace(DriftRules(), **{rule: Threshold(warn=None, stop=None)})
    assert alerts_for(STABLE, change(**changes), rules=off) == []


def test_comparison_with_the_first_and_the_last_iteration():
    slow = [change(length=100 * 1.08**step, kl=float(step + 1), agreement=0.7 - 0.02 * step) for step in range(4)]
    assert alerts_for(*slow[:2]) == []
    assert [rule for _, rule in alerts_for(*slow)] == ["length", "agreement"]
    assert [rule for _, rule in alerts_for(STABLE, change(length=130.0), STABLE)] == ["length_step"]
    assert [rule for _, rule in alerts_for(STABLE, change(length=80.0))] == ["length", "length_step"]


def test_rules_come_from_a_configuration(tmp_path):
    path = tmp_path / "rules.yaml"
    path.write_text("length: {warn: 0.3, stop: null}\ntop: {warn: null, stop: 0.05}\n")
    rules = load_config(DriftRules, path)
    assert rules.length == Threshold(warn=0.3, stop=None) and rules.higher == DriftRules().higher
    assert alerts_for(STABLE, change(length=105.0), rules=rules) == [("stop", "top")]
    path.write_text("length: {warn: 0.3}\n")
    with pytest.raises(InputError, match="stop"):
        load_config(DriftRules, path)


@pytest.mark.parametrize("call, match", [
    (lambda: drift_metrics([[[6.0]]], [["a"]], scale=FIVE), "scores"),
    (lambda: drift_metrics([[[1.0]]], [[]], scale=FIVE), "responses"),
    (lambda: drift_metrics([[[1.0]]], [["a"]], scale=FIVE, meta_judgments=([[[0.0]]], [[1.0, 2.0]])), "scores of"),
    (lambda: check_drift([], DriftRules()), "history"),
    (lambda: Threshold(warn=0.5, stop=0.1), "stop"),
])
def test_invalid_input(call, match):
    with pytest.raises(InputError, match=match):
        call()
