"""Bradley-Terry ratings by maximum likelihood, for one matrix of wins or for tens of thousands in one call."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.metrics.newton import BLOCK, fit_ratings


class Ratings(NamedTuple):
    """Result of `bradley_terry`; leading axes are those of the wins.

    ratings: [.., item], logits, with mean zero over each component.
    components: [.., item], index of the first item that a chain of comparisons connects to this one. Ratings of
        different components share no scale.
    """

    ratings: NDArray[np.float64]
    components: NDArray[np.intp]


def bradley_terry(wins: ArrayLike, *, ridge: float) -> Ratings:
    """Ratings e that maximise the Bradley-Terry likelihood, less ridge / 2 times their sum of squares.

        sum over m, n of B_mn log P(m beats n) - ridge / 2 sum over m of e_m^2,   P(m beats n) = sigmoid(e_m - e_n)

    Args:
        wins: B [.., item, item], the weight with which the row beat the column, ties as half a win for both; see
            `win_matrix`, `wins_from_verdicts` and `wins_from_list`. Each matrix along the leading axes (a prompt) is
            fitted separately. Items without comparisons get 0.
        ridge: not negative. It keeps the ratings of items that won or lost everything finite, and draws all ratings
            towards zero; 0.01 is small beside a few dozen comparisons per item.

    Raises `InputError` for wrong shapes, negative weights, NaN, a diagonal that is not zero, weights that overflow or
    are too large for the ridge, and, without a ridge, for comparisons whose ratings are infinite (one-sided ones).

    Source: arXiv 2407.19594, Section 2.3 (maximum-likelihood Elo), which has no ridge, so that one-sided comparisons
    diverge there. Elo points are 400 / ln(10) times the logits.
    """
    if not 0 <= ridge < math.inf:
        raise_input_error("ridge", "a number that is not negative", ridge, "Take 0.01.")
    array = weight_array(wins)
    matrices = array.reshape(-1, *array.shape[-2:])
    components = label_components(matrices, "weak")
    if not ridge:
        check_finite_maximum(matrices, components)
    ratings = np.zeros(matrices.shape[:2])
    for start in range(0, len(matrices), BLOCK):
        block = slice(start, start + BLOCK)
        by_prompt = np.ascontiguousarray(matrices[block].transpose(1, 2, 0))
        ratings[block] = fit_ratings(by_prompt, components[block].T, ridge).T
    if not np.isfinite(ratings).all():
        raise_input_error(
            "wins", "weights that can be added up", Verbatim("an overflow"), "Divide all of them by their largest."
        )
    shape = array.shape[:-1]
    return Ratings(ratings.reshape(shape), components.reshape(shape))


def weight_array(values: ArrayLike) -> NDArray[np.float64]:
    """Wins as float64 over [.., item, item], finite, none negative, none on the diagonal."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim < 2 or array.shape[-1] != array.shape[-2] or 0 in array.shape:
        raise_input_error(
            "wins", "a filled array over [.., item, item]", Verbatim(f"shape {array.shape}"), "Check its axes."
        )
    if not (array.min() >= 0 and array.max() < np.inf):
        raise_input_error(
            "wins",
            "finite weights, none negative",
            Verbatim(f"{array.min():g} to {array.max():g}"),
            "Give a missing comparison weight 0.",
        )
    if np.diagonal(array, axis1=-2, axis2=-1).any():
        raise_input_error(
            "wins", "zeros on the diagonal", Verbatim("an item against itself"), "Leave such comparisons out."
        )
    return array


def label_components(wins: NDArray[np.float64], connection: str) -> NDArray[np.intp]:
    """First item of each item's "weak" or "strong" component, [prompt, item], from wins [prompt, item, item].

    One graph holds all prompts. In a strong component a chain of wins leads from each item to every other.
    """
    prompts, items, _ = wins.shape
    prompt, winner, loser = np.nonzero(wins)
    edges = prompt * items + winner, prompt * items + loser
    graph = csr_array((np.ones(len(prompt), dtype=np.int8), edges), shape=(prompts * items, prompts * items))
    _, labels = connected_components(graph, connection=connection)
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return np.asarray(first[inverse] % items).reshape(prompts, items)


def check_finite_maximum(wins: NDArray[np.float64], components: NDArray[np.intp]) -> None:
    """Raise `InputError` unless every component is strongly connected, so that the likelihood has a finite maximum.

    Source: Ford, Solution of a Ranking Problem from Binary Comparisons (1957).
    """
    one_sided = np.flatnonzero((label_components(wins, "strong") != components).any(axis=1))
    if len(one_sided):
        raise_input_error(
            "ridge",
            "a positive number, as comparisons are one-sided",
            Verbatim(f"0, with prompt {one_sided[0]} among {len(one_sided)}"),
            "Take 0.01: ratings would be infinite.",
        )
