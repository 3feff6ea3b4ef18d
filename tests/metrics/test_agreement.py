import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rmkit.core.checks import InputError
from rmkit.metrics import agreement, score_saturation, self_consistency

NAN = np.nan


@pytest.mark.parametrize(
    ("wins", "ties", "pairs", "with_ties", "without_ties"),
    [(87, 14, 168, 55.95, 56.49), (79, 39, 168, 58.63, 61.24), (397, 59, 640, 66.64, 68.33),
     (256, 227, 640, 57.73, 61.98)],
)
def test_counts_give_the_papers_percentages(wins, ties, pairs, with_ties, without_ties):
    """arXiv 2407.19594 truncates percentages to two decimals."""
    labels = np.random.default_rng(0).choice([1.0, -1.0], pairs)
    verdicts = labels * np.repeat([1, 0, -1], [wins, ties, pairs - wins - ties])
    result = agreement(verdicts, labels)
    assert result[2:5] == (wins, ties, pairs - wins - ties)
    assert [np.floor(1e4 * share) / 100 for share in result[:2]] == [with_ties, without_ties]


def test_missing_verdicts_are_neither_ties_nor_losses():
    assert agreement([1, NAN, 0, -1, NAN, 1], [1, 1, 1, 1, NAN, 0]) == (0.5, 0.5, 1, 1, 1, 2, 1)
    as_ties = agreement([1, 0, 0, -1, 0, 1], [1, 1, 1, 1, NAN, 0])
    assert as_ties.ties == 2 and as_ties.unjudged == 0
    assert agreement([NAN], [1]) == (None, None, 0, 0, 0, 1, 0)
    assert agreement([0], [1])[:2] == (0.5, None)


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from([1.0, 0, -1, NAN]), st.sampled_from([1.0, 0, -1, NAN])), min_size=1))
def test_agreement_properties(rows):
    verdicts, labels = np.array(rows).T
    result = agreement(verdicts, labels)
    assert sum(result[2:]) == len(rows)
    assert agreement(-verdicts, -labels) == result
    if result.with_ties is not None:
        assert agreement(-verdicts, labels).with_ties == pytest.approx(1 - result.with_ties)


def test_self_consistency_by_hand():
    result = self_consistency([[4, 4, 5], [1, 1, NAN], [2, NAN, NAN]])
    assert result.equal == pytest.approx((1 / 3 + 1) / 2)
    assert result.spread == pytest.approx((np.std([4, 4, 5]) + 0) / 2)
    assert (result.responses, result.missing) == (2, 3)
    assert self_consistency([[3, 3], [5, 5]])[:3] == (1.0, 0.0, 1.0)
    assert self_consistency([[3, NAN]]) == (None, None, None, 0, 1)
    assert self_consistency([[3, 4]]).reliability is None


def test_reliability_is_the_share_of_variance_between_responses():
    generator = np.random.default_rng(0)
    scores = generator.normal(0, 2, (4000, 1)) + generator.normal(0, 1, (4000, 6))
    assert self_consistency(scores).reliability == pytest.approx(0.8, abs=0.02)
    holes = np.where(generator.random(scores.shape) < 0.3, NAN, scores)
    assert self_consistency(holes).reliability == pytest.approx(0.8, abs=0.02)
    assert self_consistency(generator.normal(size=(4000, 6))).reliability == pytest.approx(0, abs=0.02)
    shrout = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
    assert self_consistency(shrout).reliability == pytest.approx(0.17, abs=0.005)  # Shrout and Fleiss, Table 4


def test_saturation_by_hand():
    result = score_saturation([[5, 5, 4], [5, NAN, NAN], [3, 4, NAN]], top=5)
    assert result.top == pytest.approx(3 / 6)
    assert result.entropy == pytest.approx(-(1 / 2 * np.log(1 / 2) + 1 / 3 * np.log(1 / 3) + 1 / 6 * np.log(1 / 6)))
    assert (result.ties, result.missing) == (pytest.approx((1 / 3 + 0) / 2), 3)
    assert score_saturation([[5, 5]], top=5)[:3] == (1.0, 0.0, 1.0)
    assert np.exp(score_saturation([[1, 2, 3, 4, 5]], top=5).entropy) == pytest.approx(5)
    assert score_saturation([[5], [4]], top=5).ties is None


@pytest.mark.parametrize("call, message", [
    (lambda: agreement([1, 1], [1]), "labels.*shape"),
    (lambda: agreement([2], [1]), "verdicts.*got 2"),
    (lambda: self_consistency([1, 2]), "scores.*shape"),
    (lambda: self_consistency([[np.inf, 2]]), "scores.*finite"),
    (lambda: score_saturation([[NAN]], top=5), "at least one score"),
    (lambda: score_saturation([[6.0]], top=5), "above the top"),
])
def test_invalid_arguments(call, message):
    with pytest.raises(InputError, match=message):
        call()
