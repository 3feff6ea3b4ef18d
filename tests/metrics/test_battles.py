import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rmkit.core.checks import InputError
from rmkit.metrics import PositionWeights, position_weights, win_matrix, wins_from_list, wins_from_verdicts

T9 = {(0, 1): (1, -1), (0, 2): (1, 1), (0, 3): (1, -1), (1, 2): (-1, -1), (1, 3): (1, 1), (2, 3): (1, -1)}
VERDICTS = arrays(np.float64, (3, 4, 4), elements=st.sampled_from([1.0, 0.0, -1.0, np.nan]))


def from_pairs(pairs, players):
    """Verdicts [player, player] from (r_mn, r_nm) of each pair."""
    verdicts = np.full((players, players), np.nan)
    for (one, other), (there, back) in pairs.items():
        verdicts[one, other], verdicts[other, one] = there, back
    return verdicts


def test_the_battle_matrix_is_the_papers():
    matrix = win_matrix(from_pairs(T9, 4), PositionWeights(0.4, 0.6))
    np.testing.assert_allclose(matrix, [[0, 1, 0.4, 1], [0, 0, 0.6, 0.4], [0.4, 0.6, 0, 1], [0, 0.4, 0, 0]])


@pytest.mark.parametrize(
    ("verdicts", "row", "column"),
    [((1, -1), 1.0, 0.0), ((1, 1), 0.3, 0.3), ((-1, -1), 0.7, 0.7), ((1, 0), 0.3, 0.0), ((0, -1), 0.7, 0.0),
     ((np.nan, -1), 0.7, 0.0), ((0, 0), 0.0, 0.0)],
)
def test_every_pair_of_outcomes(verdicts, row, column):
    matrix = win_matrix(from_pairs({(0, 1): verdicts}, 2), PositionWeights(0.3, 0.7))
    assert (matrix[0, 1], matrix[1, 0]) == (row, column)


@pytest.mark.parametrize(("wins", "weights"), [(4392, (0.5608, 0.4392)), (6811, (0.3189, 0.6811))])
def test_weights_of_the_published_shares(wins, weights):
    pairs = np.full((10000, 2, 2), np.nan)
    pairs[:, 0, 1] = np.where(np.arange(10000) < wins, 1, -1)
    found = position_weights(pairs)
    assert found == pytest.approx(weights, abs=1e-12)
    assert found != pytest.approx(weights[::-1], abs=0.1)


@settings(max_examples=50, deadline=None)
@given(VERDICTS)
def test_both_positions_weigh_the_same_in_all(verdicts):
    weights = position_weights(verdicts)
    off = np.where(np.eye(4, dtype=bool), np.nan, verdicts)
    assert float(weights.first + weights.second) == pytest.approx(1)
    if (np.abs(off) == 1).any():
        assert weights.first * (off == 1).sum() == pytest.approx(weights.second * (off == -1).sum())
        unweighted = 0.5 * (off == 1).sum() - 0.5 * (off == -1).sum()
        assert (unweighted == 0) == (weights.first == weights.second)


def test_scope_of_a_prompt_is_its_own():
    verdicts = np.full((3, 2, 2), np.nan)
    verdicts[0, 0, 1], verdicts[0, 1, 0], verdicts[1, 0, 1] = 1, 1, -1
    found = position_weights(verdicts, scope="prompt")
    np.testing.assert_array_equal(found.first, [0, 1, 0.5])
    assert position_weights(verdicts).first == pytest.approx(1 / 3)
    np.testing.assert_array_equal(win_matrix(verdicts, found), np.zeros((3, 2, 2)))


def test_a_judge_that_always_takes_the_first_has_said_nothing():
    always = np.ones((2, 5, 5))
    assert not win_matrix(always, position_weights(always)).any()


@settings(max_examples=30, deadline=None)
@given(VERDICTS)
def test_lists_and_matrices_count_alike_and_leave_out_what_is_missing(verdicts):
    places = np.array(np.nonzero(~np.eye(4, dtype=bool)))
    listed = wins_from_list(*places, verdicts[0][tuple(places)], players=4)
    tabled = wins_from_verdicts(verdicts)
    for one, other in zip(listed, tabled, strict=True):
        np.testing.assert_array_equal(one, other[0])
    assert sum(part.sum() for part in listed) == np.count_nonzero(~np.isnan(verdicts[0][tuple(places)]))
    halves = win_matrix(np.where(verdicts == 0, np.nan, verdicts), PositionWeights(1.0, 1.0))
    ties = np.where(np.eye(4, dtype=bool), 0, verdicts == 0) / 2
    np.testing.assert_allclose(tabled.matrix(), halves + ties + ties.swapaxes(-1, -2))


def test_a_missing_verdict_is_no_tie():
    first, second = [0, 0], [1, 1]
    missing, tie = (wins_from_list(first, second, [1, other], players=2).matrix() for other in (np.nan, 0))
    assert missing[0, 1] == 1 and missing[1, 0] == 0
    assert tie[0, 1] == 1.5 and tie[1, 0] == 0.5


def test_many_weightings_at_once():
    weights = np.random.default_rng(0).integers(0, 3, (2, 3, 5)).astype(float)
    first, second, verdicts = [0, 1, 2, 0, 1], [1, 0, 1, 2, 2], [1, -1, 0, np.nan, 1]
    whole = wins_from_list(first, second, verdicts, players=3, weights=weights)
    assert whole.first_wins.shape == (2, 3, 3, 3)
    for place in np.ndindex(2, 3):
        one = wins_from_list(first, second, verdicts, players=3, weights=weights[place])
        for part, every in zip(one, whole, strict=True):
            np.testing.assert_array_equal(part, every[place])


@pytest.mark.parametrize(
    ("call", "names"),
    [
        (lambda: position_weights([[2.0, 1], [1, 0]]), "verdicts.*got 2"),
        (lambda: position_weights(np.ones((2, 3))), "rows as columns"),
        (lambda: position_weights(np.ones(3)), "verdicts.*shape"),
        (lambda: wins_from_list([0], [0], [1], players=2), "itself"),
        (lambda: wins_from_list([0], [2], [1], players=2), "second.*0 to 1"),
        (lambda: wins_from_list([0.5], [1], [1], players=2), "first.*0 to 1"),
        (lambda: wins_from_list([0, 1], [1], [1], players=2), "first.*1 battles"),
        (lambda: wins_from_list([0], [1], [1], players=2, weights=[-1.0]), "weights"),
        (lambda: wins_from_list([0], [1], ["A"], players=2), "verdicts.*NaN"),
    ],
)
def test_battles_refuse(call, names):
    with pytest.raises(InputError, match=names):
        call()
