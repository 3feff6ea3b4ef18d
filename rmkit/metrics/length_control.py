"""Length-controlled win rates: what a policy's win rate would be, were its responses as long as the baseline's."""

import itertools
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit
from sklearn.model_selection import GroupKFold

from rmkit.core.arrays import finite_array, same_shape
from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.metrics.newton import damped_step
from rmkit.metrics.significance import cluster_bootstrap, quantiles

TOLERANCE = 1e-7  # of the last step in logits; convergence is quadratic
STEPS = 200
FOLDS = 5
STRENGTHS = np.logspace(-4, 4, 10)  # of the data beside the penalty, scikit-learn's default grid


class ControlledRate(NamedTuple):
    """The win rate at equal lengths in [0, 1], with the ends of its bootstrap interval, None for fewer than two groups.

    intercept, length, difficulty: the fit's coefficients, logits; None where all pairs have the same side, or for a
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
    level: float = 0.95,
) -> ControlledRate:
    """Mean over pairs of the preference that a logistic model predicts where both responses are equally long.

        P(policy preferred) = sigmoid(a + b tanh(difference / std of differences) + c difficulty)

    by maximum likelihood, less ridge / 2 (b^2 + c^2); the rate is the mean of sigmoid(a + c difficulty). As `a` is not
    penalised, equal lengths give the plain win rate. To exchange policy and baseline gives one minus the rate.

    Args:
        preferences: [pair], how far the policy's response is preferred, in [0, 1], 1/2 a tie.
        differences: [pair], length of the policy's response less that of the baseline's.
        difficulty: [pair], of the prompt, any scale; AlpacaEval has it from a fit to its whole leaderboard.
        groups: [pair], the prompt of each pair, which the bootstrap draws together; every pair alone where not given.

    Raises `InputError` for preferences outside [0, 1], NaN, different shapes, and a ridge that is not positive.

    Source: Dubois et al. 2024 (arXiv 2404.04475), AlpacaEval 2. There all three coefficients have an L1 penalty found
    by cross-validation (`alpaca_rate`), which draws the rate towards 1/2.
    """
    wins, features, names = read_pairs(preferences, differences, difficulty, groups)
    if not 0 < ridge < np.inf:
        raise_input_error("ridge", "a positive number", ridge, "0.01 keeps b finite where the longer one always wins.")
    penalty = np.array([0.0, ridge, ridge])[:features.shape[1]]

    def rate(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """The rate in each resample [resample]."""
        return predict(fit_ridge(features, wins, weights, penalty), features, wins, weights)

    even = np.ones((1, len(wins)))
    bounds: tuple[float | None, float | None] = (None, None)
    if len(np.unique(names)) > 1:
        drawn = cluster_bootstrap(rate, names, seed=seed, n_bootstrap=n_bootstrap)
        low, high = np.quantile(drawn, quantiles(level))
        bounds = (float(low), float(high))
    found = fit_ridge(features, wins, even, penalty)[0]
    known: list[float | None] = [float(value) if np.isfinite(value) else None for value in found]
    return ControlledRate(float(rate(even)[0]), *bounds, *known, *[None] * (3 - len(known)))


def alpaca_rate(
    preferences: ArrayLike, differences: ArrayLike, *, difficulty: ArrayLike | None = None,
    groups: ArrayLike | None = None,
) -> float:
    """The same mean under AlpacaEval 2's own penalty; arguments as in `length_controlled_rate`.

        minimise |a| + |b| + |c| - C log likelihood

    with C of ten from 1e-4 to 1e4, the one whose predictions of left-out fifths have the least log loss. AlpacaEval
    also adds, at a fifth of the weight, the answers of two policies that game length, which are its own and not here.

    Raises `InputError` as there, and for fewer groups than five.

    Source: its `length_controlled_v1`.
    """
    wins, features, names = read_pairs(preferences, differences, difficulty, groups)
    if len(np.unique(names)) < FOLDS:
        raise_input_error("groups", f"at least {FOLDS}, a fold each", len(np.unique(names)), "Compare on more prompts.")
    loss = np.zeros(len(STRENGTHS))
    for kept, left_out in GroupKFold(FOLDS).split(features, wins, names):
        for place, strength in enumerate(STRENGTHS):
            logits = features[left_out] @ fit_lasso(features[kept], wins[kept], strength)
            loss[place] += (np.logaddexp(0, logits) - wins[left_out] * logits).mean()
    found = fit_lasso(features, wins, float(STRENGTHS[np.argmin(loss)]))
    return float(expit(level_lengths(features) @ found).mean())


def read_pairs(
    preferences: ArrayLike, differences: ArrayLike, difficulty: ArrayLike | None, groups: ArrayLike | None
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.generic]]:
    """Preferences [pair], features [pair, feature] (one, length, difficulty), and groups [pair]."""
    wins = finite_array("preferences", preferences, ("pair",))
    apart = finite_array("differences", differences, ("pair",))
    same_shape("differences", apart, "preferences", wins)
    if wins.min() < 0 or wins.max() > 1:
        raise_input_error(
            "preferences", "numbers in [0, 1]", Verbatim(f"{wins.min():g} to {wins.max():g}"), "1/2 is a tie."
        )
    spread = apart.std(ddof=1) if len(apart) > 1 else 0.0
    scaled = np.tanh(apart / spread) if spread > 0 else np.sign(apart)
    columns = [np.ones_like(wins), scaled]
    if difficulty is not None:
        columns.append(finite_array("difficulty", difficulty, ("pair",)))
        same_shape("difficulty", columns[-1], "preferences", wins)
    names = np.arange(len(wins)) if groups is None else np.asarray(groups)
    if names.shape != wins.shape:
        raise_input_error(
            "groups", f"one name per pair, shape {wins.shape}", Verbatim(f"shape {names.shape}"), "Pass all of them."
        )
    return wins, np.stack(columns, axis=1), names


def level_lengths(features: NDArray[np.float64]) -> NDArray[np.float64]:
    """The features of the same pairs, were both responses equally long."""
    return features * np.array([1.0, 0.0, 1.0])[:features.shape[1]]


def predict(
    found: NDArray[np.float64], features: NDArray[np.float64], wins: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The mean predicted preference at equal lengths [resample]; the plain one where coefficients are infinite."""
    total = weights.sum(axis=1)
    with np.errstate(invalid="ignore"):
        at_once = (weights * expit(found @ level_lengths(features).T)).sum(axis=1) / total
    return np.where(np.isfinite(found).all(axis=1), at_once, weights @ wins / total)


def fit_ridge(
    features: NDArray[np.float64], wins: NDArray[np.float64], weights: NDArray[np.float64], penalty: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Coefficients [resample, feature] under weights [resample, pair]; NaN where all pairs have the same side."""
    found = np.zeros((len(weights), features.shape[1]))
    share = weights @ wins / weights.sum(axis=1)
    mixed = (share > 0) & (share < 1)
    found[~mixed] = np.nan
    place = np.flatnonzero(mixed)
    for _ in range(STEPS):
        if not len(place):
            break
        chance = expit(found[place] @ features.T)
        gradient = (weights[place] * (wins - chance)) @ features - penalty * found[place]
        matrix = np.einsum("rp,pi,pj->rij", weights[place] * chance * (1 - chance), features, features, optimize=True)
        step = np.linalg.solve(matrix + np.diag(penalty), gradient[..., None])[..., 0]
        change = np.abs(step @ features.T).max(axis=1)
        found[place] += damped_step(step, change[:, None])
        place = place[change > TOLERANCE]
    return found


def fit_lasso(features: NDArray[np.float64], wins: NDArray[np.float64], strength: float) -> NDArray[np.float64]:
    """Coefficients [feature] that minimise their absolute sum less `strength` times the log likelihood."""
    found = np.zeros(features.shape[1])
    for _ in range(STEPS):
        chance = expit(features @ found)
        slope = strength * (features.T @ (chance - wins))
        matrix = strength * (features.T * (chance * (1 - chance))) @ features
        step = solve_lasso(matrix, slope - matrix @ found) - found
        change = np.abs(features @ step).max()
        found += damped_step(step, change)
        if change <= TOLERANCE:
            break
    return found


def solve_lasso(matrix: NDArray[np.float64], slope: NDArray[np.float64]) -> NDArray[np.float64]:
    """The x that minimises x matrix x / 2 + slope x + |x|_1: the best of those for each choice of signs and zeros."""
    best, least = np.zeros_like(slope), 0.0
    steady = matrix + 1e-12 * np.trace(matrix) * np.eye(len(slope)) + np.finfo(float).tiny * np.eye(len(slope))
    for signs in map(np.array, itertools.product((-1.0, 0.0, 1.0), repeat=len(slope))):
        held = np.flatnonzero(signs)
        candidate = np.zeros_like(slope)
        candidate[held] = np.linalg.solve(steady[np.ix_(held, held)], -slope[held] - signs[held])
        lost = candidate @ steady @ candidate / 2 + slope @ candidate + np.abs(candidate).sum()
        if (candidate * signs >= 0).all() and lost < least:
            best, least = candidate, lost
    return best
