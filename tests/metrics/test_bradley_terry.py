import math

import evalica
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import brentq, minimize
from scipy.special import expit, log_expit
from sklearn.linear_model import LogisticRegression

from rmkit.core.checks import InputError
from rmkit.metrics import bradley_terry, wins_from_list

EXAMPLE = np.array([[0, 1, 0.4, 1], [0, 0, 0.6, 0.4], [0.4, 0.6, 0, 1], [0, 0.4, 0, 0]])
RIDGE = 1e-9  # where the maximum exists, such a ridge moves no digit that is looked at
WEIGHTS = arrays(np.float64, (5, 5), elements=st.sampled_from([0.0, 0.0, 0.4, 0.5, 1.0, 3.0]))


def draw_battles(seed, items=6, battles=200, ties=0.2):
    """A list of comparisons with ties, in which each item beats every other at least once."""
    generator = np.random.default_rng(seed)
    pairs = np.array(np.nonzero(~np.eye(items, dtype=bool)))
    first, second = np.concatenate([pairs, pairs[:, generator.integers(0, pairs.shape[1], battles)]], axis=1)
    verdicts = np.where(generator.random(len(first)) < expit(0.3 * (first - second)), 1, -1)
    verdicts = np.where(generator.random(len(first)) < ties, 0, verdicts)
    verdicts[:pairs.shape[1]] = 1
    return first, second, verdicts


def by_logistic_regression(matrix, ridge):
    """Ratings by scikit-learn: a row for each direction of each pair, weighted by its wins."""
    winner, loser = np.nonzero(~np.eye(len(matrix), dtype=bool))
    signs = np.zeros((len(winner), len(matrix)))
    signs[np.arange(len(winner)), winner], signs[np.arange(len(winner)), loser] = 1, -1
    model = LogisticRegression(C=1 / ridge, fit_intercept=False, solver="newton-cholesky", tol=1e-12, max_iter=1000)
    both = np.repeat([1, 0], len(winner))
    model.fit(np.concatenate([signs, -signs]), both, sample_weight=np.tile(matrix[winner, loser], 2) / 2)
    return model.coef_[0]


def loss(ratings, matrix):
    return -(matrix * log_expit(ratings[:, None] - ratings[None])).sum()


def test_the_papers_example():
    result = bradley_terry(EXAMPLE, ridge=0).ratings
    np.testing.assert_allclose(result, [1.45441557, -0.53326486, 0.53326486, -1.45441557], atol=1e-8)
    assert loss(result, EXAMPLE) == pytest.approx(2.57784899, abs=1e-8)
    assert np.abs(bradley_terry(EXAMPLE.T, ridge=0).ratings - result).max() > 1
    assert np.abs(bradley_terry(np.round(EXAMPLE + 0.1), ridge=0.01).ratings - result).max() > 0.1


def test_two_items_and_a_cycle():
    assert bradley_terry([[0, 3], [1, 0]], ridge=0).ratings == pytest.approx([math.log(3) / 2, -math.log(3) / 2])
    assert bradley_terry([[0, 1, 0], [0, 0, 1], [1, 0, 0]], ridge=0).ratings == pytest.approx([0, 0, 0], abs=1e-12)


@pytest.mark.parametrize(("ridge", "published"), [(0.01, 3.38645446), (0.1, 1.75836028), (1.0, 0.59106182)])
def test_a_ridge_keeps_one_sided_comparisons_finite(ridge, published):
    result = bradley_terry(np.triu(np.ones((3, 3)), 1), ridge=ridge)
    exact = brentq(lambda top: expit(-top) + expit(-2 * top) - ridge * top, 0.1, 9, xtol=1e-15)
    np.testing.assert_allclose(result.ratings, [exact, 0, -exact], atol=1e-9)
    assert result.ratings[0] == pytest.approx(published, abs=1e-7)
    assert result.components.tolist() == [0, 0, 0]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("ridge", [0.01, 1.0])
def test_equals_scikit_learn(seed, ridge):
    matrix = wins_from_list(*draw_battles(seed), n_items=6)
    np.testing.assert_allclose(bradley_terry(matrix, ridge=ridge).ratings, by_logistic_regression(matrix, ridge),
                               atol=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_equals_evalica(seed):
    first, second, verdicts = draw_battles(seed)
    weights = np.random.default_rng(seed).uniform(0.5, 2, len(first))
    winners = {1: evalica.Winner.X, -1: evalica.Winner.Y, 0: evalica.Winner.Draw}
    theirs = evalica.bradley_terry(first.tolist(), second.tolist(), [winners[verdict] for verdict in verdicts],
                                   weights=weights.tolist(), tolerance=1e-14, limit=10000).scores.sort_index()
    ours = bradley_terry(wins_from_list(first, second, verdicts, n_items=6, weights=weights), ridge=0).ratings
    logs = np.log(theirs.to_numpy())
    np.testing.assert_allclose(ours, logs - logs.mean(), atol=1e-6)
    unweighted = bradley_terry(wins_from_list(first, second, verdicts, n_items=6), ridge=0).ratings
    assert np.abs(unweighted - ours).max() > 1e-3


@settings(max_examples=60, deadline=None)
@given(WEIGHTS, st.sampled_from([0.001, 0.1, 1.0]))
def test_the_likelihood_is_at_its_maximum(matrix, ridge):
    matrix = matrix * ~np.eye(5, dtype=bool)
    result = bradley_terry(matrix, ridge=ridge)
    plain = minimize(lambda e: loss(e, matrix) + ridge / 2 * (e**2).sum(), np.zeros(5), tol=1e-10).x
    np.testing.assert_allclose(result.ratings, plain, atol=2e-3)
    wins = matrix * expit(result.ratings[None] - result.ratings[:, None])
    np.testing.assert_allclose(wins.sum(1) - wins.sum(0), ridge * result.ratings, atol=1e-8)
    for name in np.unique(result.components):
        assert result.ratings[result.components == name].mean() == pytest.approx(0, abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(WEIGHTS, st.permutations(range(5)))
def test_permutation_transposition_and_scale(matrix, order):
    matrix = matrix * ~np.eye(5, dtype=bool)
    result = bradley_terry(matrix, ridge=0.1).ratings
    np.testing.assert_allclose(bradley_terry(matrix[np.ix_(order, order)], ridge=0.1).ratings, result[order], atol=1e-8)
    np.testing.assert_allclose(bradley_terry(matrix.T, ridge=0.1).ratings, -result, atol=1e-8)
    np.testing.assert_allclose(bradley_terry(7 * matrix, ridge=0.7).ratings, result, atol=1e-8)


def test_many_prompts_in_one_call(monkeypatch):
    generator = np.random.default_rng(0)
    matrices = generator.integers(0, 3, (2, 30, 7, 7)) * ~np.eye(7, dtype=bool) * (generator.random((7, 7)) < 0.6)
    monkeypatch.setitem(bradley_terry.__globals__, "BLOCK", 8)
    whole = bradley_terry(matrices, ridge=0.01)
    for index in np.ndindex(2, 30):
        one = bradley_terry(matrices[index], ridge=0.01)
        np.testing.assert_allclose(whole.ratings[index], one.ratings, atol=1e-9)
        np.testing.assert_array_equal(whole.components[index], one.components)


def test_absent_items_are_zero():
    matrix = np.zeros((2, 4, 4))
    matrix[0, :3, :3] = [[0, 2, 1], [1, 0, 1], [1, 1, 0]]
    result = bradley_terry(matrix, ridge=0)
    assert result.ratings[0, 3] == 0 and not result.ratings[1].any()
    np.testing.assert_allclose(result.ratings[0, :3], bradley_terry(matrix[0, :3, :3], ridge=0).ratings, atol=1e-9)
    assert result.components.tolist() == [[0, 0, 0, 3], [0, 1, 2, 3]]


def test_components_have_separate_scales():
    matrix = np.zeros((5, 5))
    matrix[0, 1], matrix[1, 0], matrix[3, 2], matrix[2, 3], matrix[3, 4] = 3, 1, 4, 2, 1
    result = bradley_terry(matrix, ridge=1e-6)
    assert result.components.tolist() == [0, 0, 2, 2, 2]
    assert result.ratings[0] == pytest.approx(math.log(3) / 2, abs=1e-4)
    assert result.ratings[3] - result.ratings[2] == pytest.approx(math.log(2), abs=1e-3)
    assert result.ratings[2] - result.ratings[4] > 5
    with pytest.raises(InputError, match="ridge.*one-sided.*prompt 0"):
        bradley_terry(matrix, ridge=0)
    matrix[4, 3] = 1
    apart = bradley_terry(matrix, ridge=0)
    assert apart.ratings[2:].mean() == pytest.approx(0, abs=1e-12)


def test_a_long_chain_of_one_sided_comparisons():
    matrix = np.eye(30, k=1) * 50
    result = bradley_terry(matrix, ridge=1e-4)
    assert (np.diff(result.ratings) < -3).all()
    wins = matrix * expit(result.ratings[None] - result.ratings[:, None])
    np.testing.assert_allclose(wins.sum(1) - wins.sum(0), 1e-4 * result.ratings, atol=1e-8)


@pytest.mark.parametrize(("weight", "ridge"), [(1e3, 1e-12), (1e5, 1e-8), (1e6, 1e-9), (1.0, 1e-16)])
def test_a_ridge_far_below_the_weights(weight, ridge):
    result = bradley_terry([[0, weight], [0, 0]], ridge=ridge).ratings
    exact = brentq(lambda rating: math.log(weight / ridge / rating) - np.logaddexp(0, 2 * rating), 1, 50)
    assert result == pytest.approx([exact, -exact], abs=1e-8)
    chain = np.triu(np.full((6, 6), weight), 1)
    rated = bradley_terry(chain, ridge=ridge).ratings
    missed = chain * expit(rated[None] - rated[:, None])
    np.testing.assert_allclose(missed.sum(1) - missed.sum(0), ridge * rated, rtol=1e-6)


@pytest.mark.parametrize("weight", [1e-8, 1e8, 1e14, 1e18])
def test_odds_of_any_size(weight):
    result = bradley_terry([[0, weight], [1, 0]], ridge=0).ratings
    assert result == pytest.approx([math.log(weight) / 2, -math.log(weight) / 2], abs=1e-8)
    plain = bradley_terry(EXAMPLE, ridge=0).ratings
    assert bradley_terry(EXAMPLE * weight, ridge=0).ratings == pytest.approx(plain, abs=1e-9)


def test_weights_too_large_for_the_ridge():
    with pytest.raises(InputError, match="wins and ridge.*not converged.*larger ridge"):
        bradley_terry([[0, 1e6, 0], [1e6, 0, 1e6], [0, 0, 0]], ridge=1e-12)


@pytest.mark.parametrize("battles, changes, message", [
    (np.ones((2, 2)), {}, "diagonal"),
    (np.zeros((2, 3)), {}, "wins.*shape"),
    (-np.eye(2)[::-1], {}, "none negative"),
    ([[0, np.nan], [1, 0]], {}, "finite"),
    (np.eye(2)[::-1], {"ridge": -1.0}, "ridge"),
    (np.eye(2)[::-1], {"ridge": math.nan}, "ridge"),
])
def test_invalid_arguments(battles, changes, message):
    with pytest.raises(InputError, match=message):
        bradley_terry(battles, **({"ridge": 0.01} | changes))
