"""Bradley-Terry with terms for who was shown first, and for ties, which all prompts of a set share."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rmkit.core.checks import raise_input_error
from rmkit.metrics.battles import Battles
from rmkit.metrics.newton import TOLERANCE, damped_step

STEPS = 200


class Fit(NamedTuple):
    """Ratings [set, prompt, player]; over [set]: position (0 unless asked for), tie (-inf), and `separate`'s answer."""

    ratings: NDArray[np.float64]
    position: NDArray[np.float64]
    tie: NDArray[np.float64]
    separable: NDArray[np.bool_]


def fit_with_terms(
    battles: Battles, components: NDArray[np.intp], ridge: float, *, position: bool, tie: bool
) -> Fit:
    """Maximum of the penalised likelihood that `bradley_terry` states, by Newton's method.

    `battles` over [set, prompt, first, second], `components` over [set, prompt, player]. Ratings of different
    prompts meet only in the terms, so each step solves small systems and one of the terms' size (Schur complement).
    """
    separable = separate(battles, components)
    if position and not (ridge or separable.all()):
        raise_input_error(
            "ridge",
            "a positive number, as battles do not tell position from ratings",
            ridge,
            "Show some of the same pairs in both orders, or let a ridge of 0.01 divide what they share.",
        )
    first_wins, ties, second_wins = battles
    count = first_wins + ties + second_wins
    surplus = (first_wins - second_wins) / 2
    asked = np.array([position, tie])
    same = components[..., :, None] == components[..., None, :]
    ratings = np.zeros(components.shape)
    terms = np.zeros((len(count), 2))
    if not tie:
        terms[:, 1] = -np.inf
    for _ in range(STEPS):
        logit = ratings[..., :, None] - ratings[..., None, :] + terms[:, 0, None, None, None]
        tied, lean, spread = chances(logit, terms[:, 1, None, None, None])
        miss = surplus - count * lean
        gradient = balance(miss) - ridge * ratings
        slopes = np.stack([miss.sum((1, 2, 3)), (ties - count * tied).sum((1, 2, 3))], axis=-1)[:, asked]
        slopes -= ridge * terms[:, asked]
        crossed = count * lean * tied
        weight = count * spread
        link = weight + weight.swapaxes(-1, -2)
        matrix = same - link
        matrix[..., np.arange(link.shape[-1]), np.arange(link.shape[-1])] += link.sum(-1) + ridge
        coupling = np.stack([balance(weight), -balance(crossed)], axis=-1)[..., asked]
        own = np.empty((len(count), 2, 2))
        own[:, 0, 0], own[:, 1, 1] = weight.sum((1, 2, 3)), (count * tied * (1 - tied)).sum((1, 2, 3))
        own[:, 0, 1] = own[:, 1, 0] = -crossed.sum((1, 2, 3))
        own = own[:, asked][:, :, asked] + ridge * np.eye(asked.sum())
        try:
            step, change = solve_step(matrix, coupling, own, gradient, slopes)
        except np.linalg.LinAlgError:
            break
        reach = np.ptp(step, axis=-1).max(axis=-1) + np.abs(change).sum(axis=-1)
        ratings += damped_step(step, reach[:, None, None])
        terms[:, asked] += damped_step(change, reach[:, None])
        if max(np.abs(step).max(), np.abs(change).max()) <= TOLERANCE:
            return Fit(ratings, terms[:, 0], terms[:, 1], separable)
    raise_input_error(
        "ridge",
        "a ridge that keeps position and tie terms finite",
        ridge,
        "Take 0.01; without one there is no finite answer where one side always wins, or none or all are ties.",
    )


def solve_step(
    matrix: NDArray[np.float64], coupling: NDArray[np.float64], own: NDArray[np.float64],
    gradient: NDArray[np.float64], slopes: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Newton's step for ratings [set, prompt, player] and terms [set, term]; LinAlgError where there is none."""
    solved = np.linalg.solve(matrix, np.concatenate([gradient[..., None], coupling], axis=-1))
    alone, through = solved[..., 0], solved[..., 1:]
    schur = own - np.einsum("spik,spil->skl", coupling, through)
    change = np.linalg.solve(schur, (slopes - np.einsum("spik,spi->sk", coupling, alone))[..., None])[..., 0]
    return alone - np.einsum("spik,sk->spi", through, change), change


def chances(
    logit: NDArray[np.float64], tie: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """P(tie); mean and variance of the outcome counted as 1/2 (first), 0 (tie) and -1/2 (second)."""
    lean = np.tanh(logit / 2) / 2
    half = np.abs(logit) / 2
    win = np.logaddexp(half, -half)  # log of the weight of the two decided outcomes
    decided = np.exp(win - np.logaddexp(win, tie))
    mean = decided * lean
    return 1 - decided, mean, decided / 4 - np.square(mean)


def balance(array: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums of rows, where a player was shown first, less sums of columns."""
    difference: NDArray[np.float64] = array.sum(axis=-1) - array.sum(axis=-2)
    return difference


def separate(battles: Battles, components: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Over [set]: whether battles tell position from ratings, which they cannot where ratings explain who was first.

    That is so unless some numbers f have f_first - f_second = 1 for every battle, found by least squares.
    """
    held = ((battles.first_wins + battles.ties + battles.second_wins) > 0).astype(np.float64)
    link = held + held.swapaxes(-1, -2)
    matrix = (components[..., :, None] == components[..., None, :]) - link
    matrix[..., np.arange(link.shape[-1]), np.arange(link.shape[-1])] += link.sum(axis=-1)
    lead = balance(held)
    explained = (lead * np.linalg.solve(matrix, lead[..., None])[..., 0]).sum(axis=(1, 2))
    count = held.sum(axis=(1, 2, 3))
    return np.asarray(count - explained > 1e-9 * count)
