"""Battles: who beat whom, who was shown first, and what a win in either position is worth."""

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rmkit.core.arrays import finite_array
from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.metrics.agreement import verdict_array


class Battles(NamedTuple):
    """Weight of each outcome, over [.., player shown first, player shown second], or [.., set, player, player]."""

    first_wins: NDArray[np.float64]
    ties: NDArray[np.float64]
    second_wins: NDArray[np.float64]

    def matrix(self) -> NDArray[np.float64]:
        """Weight with which the row beat the column, wherever it was shown, a tie being half a win for both."""
        halves = self.ties / 2
        return self.first_wins + halves + np.swapaxes(self.second_wins + halves, -1, -2)


class PositionWeights(NamedTuple):
    """What a win of the one shown first, and of the one shown second, is worth; their sum is 1. Numbers or [..]."""

    first: NDArray[np.float64]
    second: NDArray[np.float64]


def position_weights(verdicts: ArrayLike, *, scope: Literal["all", "prompt"] = "all") -> PositionWeights:
    """Weights that make the wins of both positions count alike: a position that wins often is believed less.

        first = wins_second / (wins_first + wins_second),   second = wins_first / (wins_first + wins_second)

    `verdicts` over [.., player, player]: 1 where the row, shown first, was preferred, -1 where the column was, 0 for
    a tie, NaN for no verdict; the diagonal is not read. `scope`: "all" counts wins over all prompts (one judge, one
    bias), "prompt" over each prompt of its own. Without any win both weights are 1/2. A judge that always takes the
    first gets weights (0, 1), and so no battle: it has said nothing.

    Raises `InputError` for other values or shapes.

    Source: arXiv 2407.19594, Section 2.3 (Meta-Rewarding), which leaves the scope open.
    """
    array = square(verdicts)
    axes = tuple(range(array.ndim)) if scope == "all" else (-2, -1)
    first, second = (np.count_nonzero(array == side, axis=axes) for side in (1, -1))
    wins = np.maximum(first + second, 1)
    empty = (first + second == 0) / 2
    return PositionWeights(second / wins + empty, first / wins + empty)


def win_matrix(verdicts: ArrayLike, weights: PositionWeights) -> NDArray[np.float64]:
    """Battles from verdicts in both orders, B_mn = first [r_mn = 1] + second [r_nm = -1], over [.., player, player].

    `verdicts` r as in `position_weights`, whose answer is `weights` ((1/2, 1/2) leaves positions alike). Verdicts
    that contradict each other count for both sides; ties and missing verdicts for none.

    Raises `InputError` for other values or shapes.

    Source: arXiv 2407.19594, Section 2.3.
    """
    array = square(verdicts)
    first, second = (np.asarray(weight, dtype=np.float64)[..., None, None] for weight in weights)
    return first * (array == 1) + second * np.swapaxes(array == -1, -1, -2)


def wins_from_verdicts(verdicts: ArrayLike) -> Battles:
    """Verdicts over [.., player, player], as in `position_weights`, as battles of weight 1, the missing left out."""
    array = square(verdicts)
    return Battles(*((array == outcome).astype(np.float64) for outcome in (1, 0, -1)))


def wins_from_list(
    first: ArrayLike, second: ArrayLike, verdicts: ArrayLike, *, players: int, weights: ArrayLike | None = None
) -> Battles:
    """A list of battles as `Battles` over [player, player], or over [.., player, player] for weights over [.., battle].

    `first`, `second` over [battle]: numbers in [0, players) of the player shown first and of the other; `verdicts`
    over [battle]: 1, 0, -1, or NaN for those to leave out; `weights` 1 where not given.

    Raises `InputError` for other values or shapes, and a player against itself.
    """
    outcomes = verdict_array("verdicts", verdicts, ("battle",))
    sides = [item_array(name, side, outcomes, players) for name, side in (("first", first), ("second", second))]
    if (sides[0] == sides[1]).any():
        raise_input_error(
            "second", "another player than the first", Verbatim("a player against itself"), "Leave such battles out."
        )
    counted = np.ones_like(outcomes) if weights is None else np.asarray(weights, dtype=np.float64)
    if counted.shape[-1:] != outcomes.shape or not np.isfinite(counted).all() or counted.min() < 0:
        raise_input_error(
            "weights",
            f"finite numbers, none negative, over [.., {len(outcomes)} battles]",
            Verbatim(f"shape {counted.shape}"),
            "Pass one weight per battle.",
        )
    cell = sides[0] * players + sides[1]
    shape = (*counted.shape[:-1], players, players)

    lines = counted.reshape(-1, len(outcomes))

    def add_up(outcome: int) -> NDArray[np.float64]:
        """The weight of one outcome in each cell."""
        chosen = np.flatnonzero(outcomes == outcome)
        return np.stack([np.bincount(cell[chosen], line[chosen], players**2) for line in lines]).reshape(shape)

    return Battles(add_up(1), add_up(0), add_up(-1))


def square(verdicts: ArrayLike) -> NDArray[np.float64]:
    """Verdicts over [.., player, player] with nothing on the diagonal."""
    array = verdict_array("verdicts", verdicts, ("..", "player", "player"))
    if array.shape[-1] != array.shape[-2]:
        raise_input_error(
            "verdicts", "as many rows as columns", Verbatim(f"shape {array.shape}"), "Both axes name the same players."
        )
    return np.where(np.eye(array.shape[-1], dtype=np.bool_), np.nan, array)


def item_array(
    name: str, values: ArrayLike, like: NDArray[np.float64], players: int
) -> NDArray[np.intp]:
    """Players over [battle] as whole numbers in [0, players)."""
    array = finite_array(name, values, ("battle",))
    if array.shape != like.shape or (array % 1).any() or array.min() < 0 or array.max() >= players:
        raise_input_error(
            name,
            f"a number from 0 to {players - 1} for each of {len(like)} battles",
            Verbatim(f"{array.min():g} to {array.max():g}, shape {array.shape}"),
            "Number the players from 0.",
        )
    return array.astype(np.intp)
