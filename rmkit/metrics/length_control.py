"""Length-controlled win rates: a policy's win rate if its responses were as long as the baseline's."""

import itertools
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit
from sklearn.model_selection import GroupKFold

from rmkit.core.arrays import finite_array, same_shape
from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.metrics.newton import damped_step
from rmkit.metrics.significance import QUANTILES, cluster_bootstrap

TOLERANCE = 1e-7  # of the last step in logits; convergence is quadratic
STEPS = 200
FOLDS = 5
STRENGTHS = np.logspace(-4, 4, 10)  # C of the L1 penalty, scikit-learn's default grid


class ControlledRate(NamedTuple):
    """Win rate at equal lengths in [0, 1] with the ends of its bootstrap interval, None for fewer than two groups.

    intercept, length, difficulty: fitted coefficients in logits; None where all pairs have the same winner, or for a
    feature that was not given.
    """

    rate: float
    low: float | None
    high: float | None
    intercept: float | None
    length: float | None
    difficulty: float | None


def length_controlled_rate(
    preferences: ArrayLike,
    differences: ArrayLike,
    *,
    difficulty: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    ridge: float = 0.01,
    seed: int = 0,
    n_bootstrap: int = 1000,
) -> ControlledRate:
    """Mean preference for the policy that a logistic model predicts for responses of equal length.

        P(policy preferred) = sigmoid(a + b tanh(difference / std of differences) + c difficulty)

    fitted by maximum likelihood less ridge / 2 (b^2 + c^2); the rate is the mean of sigmoid(a + c difficulty). As `a`
    is not penalised, pairs of equal length give the plain win rate. Exchanging policy and baseline gives one minus the
    rate.

    Args:
        preferences: [pair], how far the policy's response is preferred, in [0, 1], 1/2 a tie.
        differences: [pair], length of the policy's response less that of the baseline's, any unit.
        difficulty: [pair], of the prompt, any scale; AlpacaEval has it from a fit to its whole leaderboard.
        groups: [pair], the prompt of each pair; the bootstrap draws whole groups. Each pair alone by default.
        ridge: penalty on b and c, positive.
        seed, n_bootstrap: of the 95 % percentile bootstrap interval.

    Raises `InputError` for preferences outside [0, 1], NaN, different shapes, and a ridge that is not positive.

    Source: Dubois et al. 2024 (arXiv 2404.04475), AlpacaEval 2. There all three coefficients have an L1 penalty chosen
    by cross-validation (`alpaca_rate`), which draws the rate towards 1/2.
    """
    wins, features, names = validate_pairs(preferences, differences, difficulty, groups)
    if not 0 < ridge < np.inf:
        raise_input_error("ridge", "a positive number", ridge, "0.01 keeps b finite where the longer one always wins.")
    penalty = np.array([0.0, ridge, ridge])[:features.shape[1]]

    def rate(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """The rate in each resample [resample]."""
        return predict_rate(fit_ridge(features, wins, weights, penalty), features, wins, weights)

    ones = np.ones((1, len(wins)))
    bounds: tuple[float | None, float | None] = (None, None)
    if len(np.unique(names)) > 1:
        resampled = cluster_bootstrap(rate, names, seed=seed, n_bootstrap=n_bootstrap)
        low, high = np.quantile(resampled, QUANTILES)
        bounds = (float(low), float(high))
    fitted = fit_ridge(features, wins, ones, penalty)[0]
    coefficients: list[float | None] = [float(value) if np.isfinite(value) else None for value in fitted]
    return ControlledRate(float(rate(ones)[0]), *bounds, *coefficients, *[None] * (3 - len(coefficients)))


def alpaca_rate(
    preferences: ArrayLike, differences: ArrayLike, *, difficulty: ArrayLike | None = None,
    groups: ArrayLike | None = None,
) -> float:
    """The same mean with AlpacaEval 2's own penalty; arguments as in `length_controlled_rate`.

        minimise |a| + |b| + |c| - C log likelihood

    C is the one of ten values from 1e-4 to 1e4 with the lowest log loss in five-fold cross-validation. AlpacaEval also
    adds, at a fifth of the weight, answers of two policies that game length; these are not included here.

    Raises `InputError` as there, and for fewer groups than five.

    Source: AlpacaEval's `length_controlled_v1`.
    """
    wins, features, names = validate_pairs(preferences, differences, difficulty, groups)
    if len(np.unique(names)) < FOLDS:
        raise_input_error("groups", f"at least {FOLDS}, a fold each", len(np.unique(names)), "Compare on more prompts.")
    loss = np.zeros(len(STRENGTHS))
    for train, test in GroupKFold(FOLDS).split(features, wins, names):
        for index, strength in enumerate(STRENGTHS):
            logits = features[test] @ fit_lasso(features[train], wins[train], strength)
            loss[index] += (np.logaddexp(0, logits) - wins[test] * logits).mean()
    coefficients = fit_lasso(features, wins, float(STRENGTHS[np.argmin(loss)]))
    return float(expit(at_equal_length(features) @ coefficients).mean())


def validate_pairs(
    preferences: ArrayLike, differences: ArrayLike, difficulty: ArrayLike | None, groups: ArrayLike | None
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.generic]]:
    """Preferences [pair], features [pair, feature] (constant, length, difficulty), and groups [pair]."""
    wins = finite_array("preferences", preferences, ("pair",))
    difference = finite_array("differences", differences, ("pair",))
    same_shape("differences", difference, "preferences", wins)
    if wins.min() < 0 or wins.max() > 1:
        raise_input_error(
            "preferences", "numbers in [0, 1]", Verbatim(f"{wins.min():g} to {wins.max():g}"), "1/2 is a tie."
        )
    std = difference.std(ddof=1) if len(difference) > 1 else 0.0
    columns = [np.ones_like(wins), np.tanh(difference / std) if std > 0 else np.sign(difference)]
    if difficulty is not None:
        columns.append(finite_array("difficulty", difficulty, ("pair",)))
        same_shape("difficulty", columns[-1], "preferences", wins)
    names: NDArray[Any] = np.arange(len(wins)) if groups is None else np.asarray(groups)
    same_shape("groups", names, "preferences", wins)
    return wins, np.stack(columns, axis=1), names


def at_equal_length(features: NDArray[np.float64]) -> NDArray[np.float64]:
    """The features of the same pairs with the length feature set to zero."""
    return features * np.array([1.0, 0.0, 1.0])[:features.shape[1]]


def predict_rate(
    coefficients: NDArray[np.float64], features: NDArray[np.float64], wins: NDArray[np.float64],
    weights: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Mean predicted preference at equal length [resample]; the plain mean where coefficients are not finite."""
    total = weights.sum(axis=1)
    with np.errstate(invalid="ignore"):
        predicted = (weights * expit(coefficients @ at_equal_length(features).T)).sum(axis=1) / total
    return np.where(np.isfinite(coefficients).all(axis=1), predicted, weights @ wins / total)


def fit_ridge(
    features: NDArray[np.float64], wins: NDArray[np.float64], weights: NDArray[np.float64], penalty: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Coefficients [resample, feature] for weights [resample, pair]; NaN where all pairs have the same winner."""
    coefficients = np.zeros((len(weights), features.shape[1]))
    share = weights @ wins / weights.sum(axis=1)
    mixed = (share > 0) & (share < 1)
    coefficients[~mixed] = np.nan
    active = np.flatnonzero(mixed)
    for _ in range(STEPS):
        if not len(active):
            break
        probability = expit(coefficients[active] @ features.T)
        gradient = (weights[active] * (wins - probability)) @ features - penalty * coefficients[active]
        curvature = weights[active] * probability * (1 - probability)
        hessian = np.einsum("rp,pi,pj->rij", curvature, features, features, optimize=True)
        step = np.linalg.solve(hessian + np.diag(penalty), gradient[..., None])[..., 0]
        change = np.abs(step @ features.T).max(axis=1)
        coefficients[active] += damped_step(step, change[:, None])
        active = active[change > TOLERANCE]
    return coefficients


def fit_lasso(features: NDArray[np.float64], wins: NDArray[np.float64], strength: float) -> NDArray[np.float64]:
    """Coefficients [feature] that minimise their absolute sum less `strength` times the log likelihood."""
    coefficients = np.zeros(features.shape[1])
    for _ in range(STEPS):
        probability = expit(features @ coefficients)
        gradient = strength * (features.T @ (probability - wins))
        hessian = strength * (features.T * (probability * (1 - probability))) @ features
        step = solve_lasso(hessian, gradient - hessian @ coefficients) - coefficients
        change = np.abs(features @ step).max()
        coefficients += damped_step(step, change)
        if change <= TOLERANCE:
            break
    return coefficients


def solve_lasso(matrix: NDArray[np.float64], gradient: NDArray[np.float64]) -> NDArray[np.float64]:
    """The x that minimises x matrix x / 2 + gradient x + |x|_1: the best over all patterns of signs and zeros."""
    best, lowest = np.zeros_like(gradient), 0.0
    regular = matrix + 1e-12 * np.trace(matrix) * np.eye(len(gradient)) + np.finfo(float).tiny * np.eye(len(gradient))
    for signs in map(np.array, itertools.product((-1.0, 0.0, 1.0), repeat=len(gradient))):
        support = np.flatnonzero(signs)
        x = np.zeros_like(gradient)
        x[support] = np.linalg.solve(regular[np.ix_(support, support)], -gradient[support] - signs[support])
        loss = x @ regular @ x / 2 + gradient @ x + np.abs(x).sum()
        if (x * signs >= 0).all() and loss < lowest:
            best, lowest = x, loss
    return best
