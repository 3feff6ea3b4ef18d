import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rmkit.core.checks import InputError
from rmkit.metrics import PositionWeights, position_weights, win_matrix, wins_from_list, wins_from_verdicts

# (r_mn, r_nm) of each pair: the example of arXiv 2407.19594, Section 2.3
EXAMPLE = {(0, 1): (1, -1), (0, 2): (1, 1), (0, 3): (1, -1), (1, 2): (-1, -1), (1, 3): (1, 1), (2, 3): (1, -1)}
VERDICTS = arrays(np.float64, (3, 4, 4), elements=st.sampled_from([1.0, 0.0, -1.0, np.nan]))
OFF_DIAGONAL = ~np.eye(4, dtype=bool)


def from_pairs(pairs, items):
    verdicts = np.full((items, items), np.nan)
    for (first, second), (given_order, swapped) in pairs.items():
        verdicts[first, second], verdicts[second, first] = given_order, swapped
    return verdicts


def test_win_matrix_of_the_papers_example():
    matrix = win_matrix(from_pairs(EXAMPLE, 4), PositionWeights(0.4, 0.6))
    np.testing.assert_allclose(matrix, [[0, 1, 0.4, 1], [0, 0, 0.6, 0.4], [0.4, 0.6, 0, 1], [0, 0.4, 0, 0]])


@pytest.mark.parametrize(
    ("verdicts", "row", "column"),
    [((1, -1), 1.0, 0.0), ((1, 1), 0.3, 0.3), ((-1, -1), 0.7, 0.7), ((1, 0), 0.3, 0.0), ((0, -1), 0.7, 0.0),
     ((np.nan, -1), 0.7, 0.0), ((0, 0), 0.0, 0.0)],
)
def test_win_matrix_of_two_items(verdicts, row, column):
    matrix = win_matrix(from_pairs({(0, 1): verdicts}, 2), PositionWeights(0.3, 0.7))
    assert (matrix[0, 1], matrix[1, 0]) == (row, column)


@pytest.mark.parametrize(("wins", "weights"), [(4392, (0.5608, 0.4392)), (6811, (0.3189, 0.6811))])
def test_position_weights_of_the_published_shares(wins, weights):
    pairs = np.full((10000, 2, 2), np.nan)
    pairs[:, 0, 1] = np.where(np.arange(10000) < wins, 1, -1)
    assert position_weights(pairs) == pytest.approx(weights, abs=1e-12)


@settings(max_examples=50, deadline=None)
@given(VERDICTS)
def test_both_positions_have_the_same_total(verdicts):
    weights = position_weights(verdicts)
    off = np.where(OFF_DIAGONAL, verdicts, np.nan)
    assert float(weights.first + weights.second) == pytest.approx(1)
    if (np.abs(off) == 1).any():
        assert weights.first * (off == 1).sum() == pytest.approx(weights.second * (off == -1).sum())


def test_scope_prompt_counts_each_prompt_separately():
    verdicts = np.full((3, 2, 2), np.nan)
    verdicts[0, 0, 1], verdicts[0, 1, 0], verdicts[1, 0, 1] = 1, 1, -1
    by_prompt = position_weights(verdicts, scope="prompt")
    np.testing.assert_array_equal(by_prompt.first, [0, 1, 0.5])
    assert position_weights(verdicts).first == pytest.approx(1 / 3)
    np.testing.assert_array_equal(win_matrix(verdicts, by_prompt), np.zeros((3, 2, 2)))


def test_a_judge_that_always_prefers_the_first_position_has_no_wins():
    always = np.ones((2, 5, 5))
    assert not win_matrix(always, position_weights(always)).any()


@settings(max_examples=30, deadline=None)
@given(VERDICTS)
def test_lists_and_matrices_agree_and_leave_out_missing_verdicts(verdicts):
    pairs = np.array(np.nonzero(OFF_DIAGONAL))
    listed = wins_from_list(*pairs, verdicts[0][tuple(pairs)], n_items=4)
    wins = wins_from_verdicts(verdicts)
    np.testing.assert_array_equal(listed, wins[0])
    assert listed.sum() == np.count_nonzero(~np.isnan(verdicts[0][tuple(pairs)]))
    ties = np.where(OFF_DIAGONAL, verdicts == 0, 0) / 2
    np.testing.assert_allclose(wins, win_matrix(verdicts, PositionWeights(1.0, 1.0)) + ties + ties.swapaxes(-1, -2))


def test_many_weightings_in_one_call():
    weights = np.random.default_rng(0).integers(0, 3, (2, 3, 5)).astype(float)
    first, second, verdicts = [0, 1, 2, 0, 1], [1, 0, 1, 2, 2], [1, -1, 0, np.nan, 1]
    wins = wins_from_list(first, second, verdicts, n_items=3, weights=weights)
    assert wins.shape == (2, 3, 3, 3)
    for index in np.ndindex(2, 3):
        single = wins_from_list(first, second, verdicts, n_items=3, weights=weights[index])
        np.testing.assert_array_equal(wins[index], single)


@pytest.mark.parametrize("call, message", [
    (lambda: position_weights([[2.0, 1], [1, 0]]), "verdicts.*got 2"),
    (lambda: position_weights(np.ones((2, 3))), "rows as columns"),
    (lambda: position_weights(np.ones(3)), "verdicts.*shape"),
    (lambda: wins_from_list([0], [0], [1], n_items=2), "itself"),
    (lambda: wins_from_list([0], [2], [1], n_items=2), "second.*0 to 1"),
    (lambda: wins_from_list([0.5], [1], [1], n_items=2), "first.*0 to 1"),
    (lambda: wins_from_list([0, 1], [1], [1], n_items=2), "first.*shape"),
    (lambda: wins_from_list([0], [1], [1], n_items=2, weights=[-1.0]), "weights"),
    (lambda: wins_from_list([0], [1], ["A"], n_items=2), "verdicts.*NaN"),
])
def test_invalid_arguments(call, message):
    with pytest.raises(InputError, match=message):
        call()
