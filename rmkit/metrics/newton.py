"""Newton's method for many small Bradley-Terry likelihoods at once.

Prompts are the last axis, so that every operation runs along it, however few items a prompt has.
"""

import numpy as np
from numpy.typing import NDArray

from rmkit.core.checks import Verbatim, raise_input_error

BLOCK = 1024  # prompts; their arrays fit the processor's cache
TOLERANCE = 1e-5  # of the last step in logits; convergence is quadratic, the remaining error is near its square
SMALLEST = np.finfo(np.float64).tiny  # where there are no comparisons
STEPS = 1000  # at most; ratings 500 logits apart take about 100


@np.errstate(over="ignore", divide="ignore", invalid="ignore")  # non-finite iterates end as "not converged"
def fit_ratings(
    wins: NDArray[np.float64], components: NDArray[np.intp], ridge: float
) -> NDArray[np.float64]:
    """Ratings [item, prompt] that `bradley_terry` defines, from wins [winner, loser, prompt].

    Each component (named over [item, prompt]) has mean zero. Adding one number between all items of a component makes
    the Hessian regular without a ridge too, and changes no step.

    The gradient sums the probabilities of what did not happen: wins minus their expectation would cancel where a ridge
    far below the weights lets ratings run far apart. Raises `InputError` if Newton's method does not converge.
    """
    surplus = (wins.sum(axis=1) - wins.sum(axis=0)) / 2
    ratings = initial_guess(surplus, wins.sum(axis=0) + wins.sum(axis=1), components)
    result = np.empty_like(ratings)
    active = np.arange(ratings.shape[1])
    same = (components[:, None] == components[None]).astype(np.float64)
    diagonal = np.arange(len(ratings))
    losses = -wins
    for _ in range(STEPS):
        probability = ratings[:, None] - ratings[None]
        np.exp(probability, out=probability)
        probability += 1
        np.reciprocal(probability, out=probability)  # that the column wins; SciPy's expit takes three times as long
        missed = probability * losses
        gradient = missed.sum(axis=0) - missed.sum(axis=1) - ridge * ratings
        missed *= probability.swapaxes(0, 1)
        hessian = np.add(missed, missed.swapaxes(0, 1), out=probability)
        curvature = ridge - hessian.sum(axis=1)
        hessian[diagonal, diagonal] = curvature
        hessian += np.multiply(same, np.maximum(curvature.max(axis=0), SMALLEST), out=missed)
        step = batched_solve(hessian, gradient)
        ratings += damped_step(step, np.ptp(step, axis=0))
        moving = ~(np.abs(step).max(axis=0) <= TOLERANCE)
        if not moving.all():
            result[:, active[~moving]] = ratings[:, ~moving]
            active, ratings = active[moving], ratings[:, moving]
            losses, same = losses[:, :, moving], same[:, :, moving]
        if not len(active):
            return result
    raise_input_error(
        "wins and ridge",
        "weights and a ridge of comparable size",
        Verbatim(f"ratings that have not converged after {STEPS} steps"),
        "Divide the weights by their largest, or take a larger ridge.",
    )


def initial_guess(
    surplus: NDArray[np.float64], counts: NDArray[np.float64], components: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Initial ratings: log-odds of each item's share of wins, scaled, with mean zero over each component."""
    share = surplus / (counts + 1)
    guess = 2.4 * np.arctanh(np.clip(2 * share, -0.999, 0.999))
    for name in np.unique(components):
        members = components == name
        guess -= members * ((members * guess).sum(axis=0) / np.maximum(members.sum(axis=0), 1))
    return guess


def damped_step(step: NDArray[np.float64], change: NDArray[np.float64]) -> NDArray[np.float64]:
    """The step times log(1 + change) / change where `change`, of a comparison's logit at most, is above 1.

    The likelihood then rises at every step, so no line search is needed.

    Source: Sun and Tran-Dinh 2019 (arXiv 1703.04599), Theorem 2 with nu = 2: the third derivative of a logistic loss
    along a step is at most its second times `change`; a full step gains at least (3 - e) times the square of Newton's
    decrement.
    """
    large = np.maximum(change, 1.0)
    return np.where(change > 1, np.log1p(large) / large, 1.0) * step


def batched_solve(matrix: NDArray[np.float64], vector: NDArray[np.float64]) -> NDArray[np.float64]:
    """Solutions [row, prompt] of positive definite systems [row, column, prompt]; both arguments are overwritten.

    Gaussian elimination without pivoting. With 11 items it takes half as long as one LAPACK call per prompt.
    """
    size = len(matrix)
    for row in range(size - 1):
        factor = matrix[row + 1:, row] / matrix[row, row]
        matrix[row + 1:, row + 1:] -= factor[:, None] * matrix[row, None, row + 1:]
        vector[row + 1:] -= factor * vector[row]
    for row in range(size - 1, -1, -1):
        vector[row] /= matrix[row, row]
        vector[:row] -= matrix[:row, row] * vector[row]
    return vector
