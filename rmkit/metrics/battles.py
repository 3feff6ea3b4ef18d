"""Matrices of wins from pairwise verdicts, and weights that correct them for position bias."""

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rmkit.core.arrays import finite_array, same_shape
from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.metrics.agreement import verdict_array


class PositionWeights(NamedTuple):
    """Weight of a win by the item shown first, and by the item shown second; they sum to 1. Scalars or [..]."""

    first: NDArray[np.float64]
    second: NDArray[np.float64]


def position_weights(verdicts: ArrayLike, *, scope: Literal["all", "prompt"] = "all") -> PositionWeights:
    """Weights under which wins in both positions have the same total: wins of a favoured position count less.

        first = wins_second / (wins_first + wins_second),   second = wins_first / (wins_first + wins_second)

    Args:
        verdicts: [.., item, item], 1 where the row, shown first, was preferred, -1 where the column was, 0 for a tie,
            NaN for no verdict; the diagonal is ignored.
        scope: "all" counts wins over all prompts, "prompt" separately for each matrix.

    Without any win both weights are 1/2. A judge that always prefers the first position gets weights (0, 1), so none
    of its wins count.

    Raises `InputError` for other values or shapes.

    Source: arXiv 2407.19594, Section 2.3 (Meta-Rewarding), which leaves the scope open.
    """
    array = square_verdicts(verdicts)
    axes = tuple(range(array.ndim)) if scope == "all" else (-2, -1)
    first, second = (np.count_nonzero(array == outcome, axis=axes) for outcome in (1, -1))
    wins = np.maximum(first + second, 1)
    empty = (first + second == 0) / 2
    return PositionWeights(second / wins + empty, first / wins + empty)


def win_matrix(verdicts: ArrayLike, weights: PositionWeights) -> NDArray[np.float64]:
    """Weighted wins B [.., item, item] from verdicts in both orders, B_mn = first [r_mn = 1] + second [r_nm = -1].

    `verdicts` r as in `position_weights`; `weights` is its result, or (1/2, 1/2) for no correction. Contradicting
    verdicts count once for each side; ties and missing verdicts do not count.

    Raises `InputError` for other values or shapes.

    Source: arXiv 2407.19594, Section 2.3, "battle matrix".
    """
    array = square_verdicts(verdicts)
    first, second = (np.asarray(weight, dtype=np.float64)[..., None, None] for weight in weights)
    return first * (array == 1) + second * np.swapaxes(array == -1, -1, -2)


def wins_from_verdicts(verdicts: ArrayLike) -> NDArray[np.float64]:
    """Wins [.., item, item] of row over column from verdicts as in `position_weights`; a tie is half a win for both."""
    array = square_verdicts(verdicts)
    wins = np.nan_to_num((array + 1) / 2)
    losses = np.nan_to_num((1 - array) / 2)
    return np.asarray(wins + np.swapaxes(losses, -1, -2))


def wins_from_list(
    first: ArrayLike, second: ArrayLike, verdicts: ArrayLike, *, n_items: int, weights: ArrayLike | None = None
) -> NDArray[np.float64]:
    """Wins [item, item] of row over column from a list of comparisons; a tie is half a win for both.

    Args:
        first, second: [battle], indices in [0, n_items) of the two items.
        verdicts: [battle], 1 (first), 0 (tie), -1 (second), or NaN, which is left out.
        weights: [.., battle], not negative, 1 by default; the result then has shape [.., item, item].

    Raises `InputError` for other values or shapes, and an item compared with itself.
    """
    outcomes = verdict_array("verdicts", verdicts, ("battle",))
    left, right = item_array("first", first, outcomes, n_items), item_array("second", second, outcomes, n_items)
    if (left == right).any():
        raise_input_error(
            "second", "another item than the first", Verbatim("an item against itself"), "Leave such comparisons out."
        )
    weight = np.ones_like(outcomes) if weights is None else np.asarray(weights, dtype=np.float64)
    if weight.shape[-1:] != outcomes.shape or not np.isfinite(weight).all() or weight.min() < 0:
        raise_input_error(
            "weights",
            f"finite numbers, none negative, over [.., {len(outcomes)} battles]",
            Verbatim(f"shape {weight.shape}"),
            "Pass one weight per comparison.",
        )
    judged = ~np.isnan(outcomes)
    cells = np.concatenate([left * n_items + right, right * n_items + left])[np.tile(judged, 2)]
    shares = np.concatenate([(1 + outcomes) / 2, (1 - outcomes) / 2])[np.tile(judged, 2)]
    rows = weight.reshape(-1, len(outcomes))[:, judged]
    wins = np.stack([np.bincount(cells, np.tile(row, 2) * shares, n_items**2) for row in rows])
    return np.asarray(wins, dtype=np.float64).reshape(*weight.shape[:-1], n_items, n_items)


def square_verdicts(verdicts: ArrayLike) -> NDArray[np.float64]:
    """Verdicts over [.., item, item] with NaN on the diagonal."""
    array = verdict_array("verdicts", verdicts, ("..", "item", "item"))
    if array.shape[-1] != array.shape[-2]:
        raise_input_error(
            "verdicts", "as many rows as columns", Verbatim(f"shape {array.shape}"), "Both axes name the same items."
        )
    return np.where(np.eye(array.shape[-1], dtype=np.bool_), np.nan, array)


def item_array(name: str, values: ArrayLike, verdicts: NDArray[np.float64], n_items: int) -> NDArray[np.intp]:
    """Item indices over [battle], whole numbers in [0, n_items)."""
    array = finite_array(name, values, ("battle",))
    same_shape(name, array, "verdicts", verdicts)
    if (array % 1).any() or array.min() < 0 or array.max() >= n_items:
        raise_input_error(
            name,
            f"indices from 0 to {n_items - 1}",
            Verbatim(f"{array.min():g} to {array.max():g}"),
            "Number the items from 0.",
        )
    return array.astype(np.intp)
