"""Length-controlled selection: of a prompt's scored responses, one to prefer and one to avoid."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rmkit.core.arrays import finite_array
from rmkit.core.checks import Verbatim, raise_input_error

TOLERANCE = 1e-9  # of the largest score: scores are means, whose last digits depend on the order of adding up


def select_pairs(scores: ArrayLike, lengths: ArrayLike, *, rho: float) -> NDArray[np.intp]:
    """Places of the chosen and the rejected response of each prompt, [prompt, 2]; -1 twice where a prompt is skipped.

        chosen     the shortest response with a score in [(1 - rho) S_max + rho S_min, S_max]
        rejected   the longest response with a score in [S_min, (1 - rho) S_min + rho S_max]

    `scores` over [prompt, response], NaN where there is no response, no score, or one that may not be taken, such as
    what repeats another (`find_first`); S_max and S_min are the highest and lowest of a prompt. `lengths` over
    [prompt, response], characters in the paper; read where there is a score. `rho` in [0, 0.5): beyond, the ranges
    meet, and a chosen response might be worse than the rejected. The chosen one may be the longer of the two.

    Equally short: the higher score, then the first; equally long: the lower score, then the first. A prompt with
    fewer than two scores, or with equal ones, is skipped.

    Raises `InputError` for infinite scores, scores without a length, other shapes and another `rho`.

    Source: arXiv 2407.19594, Section 2.2, which says nothing of equal scores and lengths.
    """
    values, sizes = read_arrays(scores, lengths)
    if not 0 <= rho < 0.5:
        raise_input_error("rho", "a number in [0, 0.5)", rho, "0 chooses by score alone; the paper goes up to 0.4.")
    known = ~np.isnan(values)
    highest = np.where(known, values, -np.inf).max(axis=1, keepdims=True)
    lowest = np.where(known, values, np.inf).min(axis=1, keepdims=True)
    several = known.sum(axis=1) >= 2
    with np.errstate(invalid="ignore"):  # infinite bounds where a prompt has no score at all
        slack = TOLERANCE * np.maximum(np.abs(highest), np.abs(lowest))
        good = values >= (1 - rho) * highest + rho * lowest - slack
        bad = values <= (1 - rho) * lowest + rho * highest + slack
    pairs = np.stack([take_least(good, sizes, -values), take_least(bad, -sizes, values)], axis=1)
    above, below = np.take_along_axis(values, pairs, axis=1).T
    with np.errstate(invalid="ignore"):
        told = several & (above - below > slack[:, 0])
    return np.where(told[:, None], pairs, -1)


def select_pair(scores: ArrayLike, lengths: ArrayLike, *, rho: float) -> tuple[int, int] | None:
    """`select_pairs` of one prompt, with arrays over [response]: chosen and rejected place, None where skipped."""
    chosen, rejected = select_pairs(np.asarray(scores)[None], np.asarray(lengths)[None], rho=rho)[0].tolist()
    return None if chosen < 0 else (chosen, rejected)


def choose_rho(scores: ArrayLike, lengths: ArrayLike, *, target: float, grid: Sequence[float]) -> float:
    """The rho of `grid` under which the chosen responses are on average nearest to `target` in length.

    `scores`, `lengths` as in `select_pairs`, `target` in the unit of lengths. Of two as near, the smaller rho, which
    takes less from the score. Nothing but lengths is looked at: no win rate, no label.

    Raises `InputError` as `select_pairs`, for an empty grid, and where no prompt has a pair.

    Source: none; arXiv 2407.19594 chooses rho by hand in each iteration, as it seems from its Table 4 by length.
    """
    if not grid or not 0 < target < np.inf:
        raise_input_error(
            "grid and target", "at least one rho, and a length above 0", (list(grid), target), "0 to 0.4 is usual."
        )
    sizes = read_arrays(scores, lengths)[1]
    misses = []
    for rho in sorted(grid):
        chosen = select_pairs(scores, lengths, rho=rho)[:, 0]
        picked = sizes[np.arange(len(sizes)), chosen][chosen >= 0]
        if not len(picked):
            raise_input_error(
                "scores", "a prompt with two different ones", Verbatim("none"), "Look at the judge's scores."
            )
        misses.append(round(abs(float(picked.mean()) - target), 9))
    return float(sorted(grid)[int(np.argmin(misses))])


def take_least(allowed: NDArray[np.bool_], *keys: NDArray[np.float64]) -> NDArray[np.intp]:
    """The allowed place of each row with the least first key, of those the one with the least second, the first."""
    for key in keys:
        masked = np.where(allowed, key, np.inf)
        allowed = allowed & (masked == masked.min(axis=1, keepdims=True))
    return allowed.argmax(axis=1)


def read_arrays(scores: ArrayLike, lengths: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scores and lengths over [prompt, response]; NaN where there is no score, in both."""
    values, sizes = np.asarray(scores, dtype=np.float64), np.asarray(lengths, dtype=np.float64)
    known = ~np.isnan(values)
    finite_array("scores", np.where(known, values, 0.0), ("prompt", "response"))
    if sizes.shape != values.shape or not np.isfinite(sizes[known]).all() or (sizes[known] < 0).any():
        raise_input_error(
            "lengths",
            f"one that is not negative for each score, shape {values.shape}",
            Verbatim(f"shape {sizes.shape}"),
            "Count each response's characters.",
        )
    return values, np.where(known, sizes, np.nan)
