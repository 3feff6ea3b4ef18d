"""Combined scores of two judges, and labels of weak pairs."""

import numpy as np
import pytest
from scipy.special import expit

from rmkit.core.checks import InputError
from rmkit.meta_rewarding.score_fusion import combine_scores, label_weak_pairs

NAN = np.nan
EQUAL = {"llm": 1.0, "rm": 1.0}
SPREAD = np.sqrt([2 / 6, 20 / 6])  # of the first case


@pytest.mark.parametrize("llm, rm, weights, expected", [
    ([[5.0, 3.0, 4.0], [2.0, 2.0, 2.0]], [[-1.0, 1.0, 0.0], [10.0, 4.0, 7.0]], {"llm": 3.0, "rm": 1.0},
     [[0.75 / SPREAD[0] - 0.25 / SPREAD[1], -0.75 / SPREAD[0] + 0.25 / SPREAD[1], 0.0],
      [0.75 / SPREAD[1], -0.75 / SPREAD[1], 0.0]]),
    ([[5.0, 3.0, NAN, 0.0]], [[1.0, 0.0, 9.0, NAN]], EQUAL, [[1.0, -1.0, NAN, NAN]]),  # scored by both judges only
    ([[NAN, 1.0]], [[1.0, NAN]], EQUAL, [[NAN, NAN]]),
    # a judge whose scores never differ within a prompt adds nothing
    ([[0.1 + 0.2, 0.3], [4.0, 4.0]], [[1.0, 0.0], [0.0, 1.0]], EQUAL, [[0.5, -0.5], [-0.5, 0.5]]),
])
def test_combined_scores(llm, rm, weights, expected):
    np.testing.assert_allclose(combine_scores({"llm": llm, "rm": rm}, weights), expected, atol=1e-12)


def test_offset_and_scale_of_a_judge_cancel():
    generator = np.random.default_rng(0)
    llm, rm = generator.normal(size=(2, 50, 6))
    combined = combine_scores({"llm": llm, "rm": rm}, EQUAL)
    rescaled = combine_scores({"llm": llm, "rm": 90 * rm + generator.normal(size=(50, 1))}, EQUAL)
    np.testing.assert_allclose(combined, rescaled, atol=1e-12)
    alone = combine_scores({"llm": llm, "rm": rm}, {"llm": 2.0, "rm": 0.0})
    assert (alone.argmax(axis=1) == llm.argmax(axis=1)).all()
    assert (combined.argmax(axis=1) != llm.argmax(axis=1)).any()


GAPS = np.array([[2.0, 0.2, -1.0], [4.0, -0.4, -2.0]])  # means 3, -0.1, -1.5


def test_weak_pairs_are_kept_dropped_or_softened():
    kept, dropped, soft = (label_weak_pairs(GAPS, policy=name, threshold=0.0) for name in ("keep", "drop", "soft"))
    assert kept.target.tolist() == [1, 1, 1] and kept.keep.all() and not kept.margin.any()
    assert dropped.keep.tolist() == [True, False, False] and dropped.target.tolist() == [1, 1, 1]
    np.testing.assert_allclose(soft.target, [1, expit(-0.1), expit(-1.5)])
    assert soft.keep.all() and soft.weak.tolist() == [False, True, True]
    np.testing.assert_allclose(kept.strength, [3, -0.1, -1.5])


def test_scale_threshold_and_margin():
    labels = label_weak_pairs(GAPS, policy="soft", threshold=2.0, scale=0.5, margin_scale=0.4)
    assert labels.weak.all()
    np.testing.assert_allclose(labels.target, expit([1.5, -0.05, -0.75]))
    np.testing.assert_allclose(labels.margin, [0.6, -0.02, -0.3])
    assert label_weak_pairs([[1.0]], policy="drop", threshold=1.0).keep.all()  # not below the threshold


@pytest.mark.parametrize("scores, weights, match", [
    ({}, {}, "weights"), ({"a": [[1.0]]}, {"b": 1}, "weights"), ({"a": [[1.0]]}, {"a": 0.0}, "weights"),
    ({"a": [[1.0]]}, {"a": NAN}, "weights"), ({"a": [[1.0]], "b": [[1.0, 2.0]]}, {"a": 1, "b": 1}, "scores"),
    ({"a": [[np.inf]]}, {"a": 1}, "scores"),
])
def test_invalid_scores(scores, weights, match):
    with pytest.raises(InputError, match=match):
        combine_scores(scores, weights)


@pytest.mark.parametrize("gaps, margin_scale, match", [
    ([[1.0]], -1, "scale"), ([[NAN]], 0, "rewards_chosen"), ([1.0], 0, "rewards_chosen"),
])
def test_invalid_labels(gaps, margin_scale, match):
    with pytest.raises(InputError, match=match):
        label_weak_pairs(gaps, policy="soft", threshold=0, margin_scale=margin_scale)
