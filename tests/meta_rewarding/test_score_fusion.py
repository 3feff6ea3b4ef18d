"""Two judges' scores made one, and weak pairs."""

import numpy as np
import pytest
from scipy.special import expit

from rmkit.core.checks import InputError
from rmkit.meta_rewarding.score_fusion import combine_scores, label_weak_pairs

NAN = np.nan
ALIKE = {"language": 1.0, "reward": 1.0}


def test_by_hand():
    language, reward = [[5.0, 3.0, 4.0], [2.0, 2.0, 2.0]], [[-1.0, 1.0, 0.0], [10.0, 4.0, 7.0]]
    # Spreads: language sqrt(2 / 6), reward sqrt((1 + 1 + 9 + 9) / 6).
    spread = np.sqrt([2 / 6, 20 / 6])
    found = combine_scores({"language": language, "reward": reward}, {"language": 3.0, "reward": 1.0})
    expected = [[0.75 / spread[0] - 0.25 / spread[1], -0.75 / spread[0] + 0.25 / spread[1], 0.0],
                [0.75 / spread[1], -0.75 / spread[1], 0.0]]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_scale_and_level_of_a_judge_have_no_part():
    generator = np.random.default_rng(0)
    one, other = generator.normal(size=(2, 50, 6))
    there = combine_scores({"language": one, "reward": other}, ALIKE)
    back = combine_scores({"language": one, "reward": 90 * other + generator.normal(size=(50, 1))}, ALIKE)
    np.testing.assert_allclose(there, back, atol=1e-12)
    alone = combine_scores({"language": one, "reward": other}, {"language": 2.0, "reward": 0.0})
    assert (alone.argmax(axis=1) == one.argmax(axis=1)).all()
    assert (there.argmax(axis=1) != one.argmax(axis=1)).any()


def test_a_judge_is_believed_where_it_is_sure():
    """Both disagree on both prompts; the first is torn on the first prompt, the second on the second."""
    language, reward = [[1.0, 1.1], [0.0, 5.0]], [[5.0, 0.0], [1.1, 1.0]]
    found = combine_scores({"language": language, "reward": reward}, ALIKE)
    assert found.argmax(axis=1).tolist() == [0, 1]


def test_what_one_judge_could_not_score_has_no_score():
    language, reward = [[5.0, 3.0, NAN, 0.0]], [[1.0, 0.0, 9.0, NAN]]
    found = combine_scores({"language": language, "reward": reward}, ALIKE)
    np.testing.assert_allclose(found, [[1.0, -1.0, NAN, NAN]])
    assert np.isnan(combine_scores({"a": [[NAN, 1.0]], "b": [[1.0, NAN]]}, {"a": 1, "b": 1})).all()


def test_a_judge_that_tells_nothing_apart_adds_nothing():
    found = combine_scores({"language": [[0.1 + 0.2, 0.3], [4.0, 4.0]], "reward": [[1.0, 0.0], [0.0, 1.0]]}, ALIKE)
    np.testing.assert_allclose(found, [[0.5, -0.5], [-0.5, 0.5]])


STRENGTHS = np.array([[2.0, 0.2, -1.0], [4.0, -0.4, -2.0]])  # means 3, -0.1, -1.5


def test_weak_pairs():
    kept, dropped, soft = (
        label_weak_pairs(STRENGTHS, treatment=name, threshold=0.0) for name in ("keep", "drop", "soft")
    )
    assert kept.target.tolist() == [1, 1, 1] and kept.keep.all() and not kept.margin.any()
    assert dropped.keep.tolist() == [True, False, False] and dropped.target.tolist() == [1, 1, 1]
    np.testing.assert_allclose(soft.target, [1, expit(-0.1), expit(-1.5)])
    assert soft.keep.all() and soft.weak.tolist() == [False, True, True]
    np.testing.assert_allclose(kept.strength, [3, -0.1, -1.5])


def test_scale_threshold_and_margin():
    found = label_weak_pairs(STRENGTHS, treatment="soft", threshold=2.0, scale=0.5, margin_scale=0.4)
    assert found.weak.tolist() == [True, True, True]
    np.testing.assert_allclose(found.target, expit([1.5, -0.05, -0.75]))
    np.testing.assert_allclose(found.margin, [0.6, -0.02, -0.3])
    edge = label_weak_pairs([[1.0]], treatment="drop", threshold=1.0)
    assert edge.keep.all()


@pytest.mark.parametrize(
    ("call", "names"),
    [
        (lambda: combine_scores({}, {}), "weights"),
        (lambda: combine_scores({"a": [[1.0]]}, {"b": 1}), "weights"),
        (lambda: combine_scores({"a": [[1.0]]}, {"a": 0.0}), "weights"),
        (lambda: combine_scores({"a": [[1.0]]}, {"a": NAN}), "weights"),
        (lambda: combine_scores({"a": [[1.0]], "b": [[1.0, 2.0]]}, {"a": 1, "b": 1}), "scores"),
        (lambda: combine_scores({"a": [[np.inf]]}, {"a": 1}), "scores"),
        (lambda: label_weak_pairs([[1.0]], treatment="flip", threshold=0), "treatment"),
        (lambda: label_weak_pairs([[1.0]], treatment="soft", threshold=NAN), "threshold"),
        (lambda: label_weak_pairs([[1.0]], treatment="soft", threshold=0, scale=0), "scale"),
        (lambda: label_weak_pairs([[1.0]], treatment="soft", threshold=0, margin_scale=-1), "scale"),
        (lambda: label_weak_pairs([[NAN]], treatment="soft", threshold=0), "rewards_chosen"),
        (lambda: label_weak_pairs([1.0], treatment="soft", threshold=0), "rewards_chosen"),
    ],
)
def test_combination_refuses(call, names):
    with pytest.raises(InputError, match=names):
        call()
