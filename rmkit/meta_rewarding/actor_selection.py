"""Length-controlled selection of one chosen and one rejected response per prompt (Meta-Rewarding, Section 2.2)."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rmkit.core.arrays import finite_array
from rmkit.core.checks import Verbatim, raise_input_error

TOLERANCE = 1e-9  # relative to the largest score: scores are means, whose last digits depend on the order of summation


def select_pairs(scores: ArrayLike, lengths: ArrayLike, *, rho: float) -> NDArray[np.intp]:
    """Indices of the chosen and the rejected response of each prompt, [prompt, 2]; -1 twice where there is no pair.

        chosen     the shortest response with a score in [(1 - rho) S_max + rho S_min, S_max]
        rejected   the longest response with a score in [S_min, (1 - rho) S_min + rho S_max]

    S_max and S_min are the highest and lowest score of the prompt. Ties in length: chosen takes the higher score,
    rejected the lower, then the first one. A prompt with fewer than two scores, or only equal scores, has no pair.

    Args:
        scores: [prompt, response], NaN where there is no response or score, or the response must not be selected.
        lengths: [prompt, response], characters in the paper; needed wherever there is a score.
        rho: in [0, 0.5); beyond that, the ranges overlap and the chosen response could be the worse one.

    Raises `InputError` for infinite scores, scores without a length, other shapes and another `rho`.

    Source: arXiv 2407.19594, Section 2.2, which does not say how ties are broken.
    """
    values, sizes = validate_scores(scores, lengths)
    if not 0 <= rho < 0.5:
        raise_input_error("rho", "a number in [0, 0.5)", rho, "0 chooses by score alone; the paper goes up to 0.4.")
    scored = ~np.isnan(values)
    highest = np.where(scored, values, -np.inf).max(axis=1, keepdims=True)
    lowest = np.where(scored, values, np.inf).min(axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):  # infinite bounds where a prompt has no score at all
        slack = TOLERANCE * np.maximum(np.abs(highest), np.abs(lowest))
        good = values >= (1 - rho) * highest + rho * lowest - slack
        bad = values <= (1 - rho) * lowest + rho * highest + slack
    pairs = np.stack([masked_argmin(good, sizes, -values), masked_argmin(bad, -sizes, values)], axis=1)
    chosen_score, rejected_score = np.take_along_axis(values, pairs, axis=1).T
    with np.errstate(invalid="ignore"):
        is_pair = (scored.sum(axis=1) >= 2) & (chosen_score - rejected_score > slack[:, 0])
    return np.where(is_pair[:, None], pairs, -1)


def choose_rho(scores: ArrayLike, lengths: ArrayLike, *, target: float, grid: Sequence[float]) -> float:
    """The rho of `grid` for which the mean length of the chosen responses is closest to `target`.

    `scores` and `lengths` are as in `select_pairs`, `target` is in the unit of lengths. Ties take the smaller rho. The
    choice looks at lengths alone, not at win rates or labels.

    Raises `InputError` as `select_pairs`, for an empty grid, and where no prompt has a pair.

    Source: none; the paper chooses rho by hand for each iteration, apparently by length (arXiv 2407.19594, Table 4).
    """
    if not grid or not 0 < target < np.inf:
        raise_input_error(
            "grid and target", "at least one rho, and a length above 0", (list(grid), target), "0 to 0.4 is usual."
        )
    sizes = validate_scores(scores, lengths)[1]
    differences = []
    for rho in sorted(grid):
        chosen = select_pairs(scores, lengths, rho=rho)[:, 0]
        chosen_lengths = sizes[np.arange(len(sizes)), chosen][chosen >= 0]
        if not len(chosen_lengths):
            raise_input_error("scores", "a prompt with two different ones", Verbatim("none"), "Look at the judge.")
        differences.append(round(abs(float(chosen_lengths.mean()) - target), 9))
    return float(sorted(grid)[int(np.argmin(differences))])


def masked_argmin(allowed: NDArray[np.bool_], *keys: NDArray[np.float64]) -> NDArray[np.intp]:
    """Index of the allowed entry of each row with the smallest keys, compared in order; ties take the first entry."""
    for key in keys:
        masked = np.where(allowed, key, np.inf)
        allowed = allowed & (masked == masked.min(axis=1, keepdims=True))
    return allowed.argmax(axis=1)


def validate_scores(scores: ArrayLike, lengths: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scores and lengths as float64 arrays [prompt, response], both NaN where there is no score."""
    values, sizes = np.asarray(scores, dtype=np.float64), np.asarray(lengths, dtype=np.float64)
    scored = ~np.isnan(values)
    finite_array("scores", np.where(scored, values, 0.0), ("prompt", "response"))
    if sizes.shape != values.shape or not np.isfinite(sizes[scored]).all() or (sizes[scored] < 0).any():
        raise_input_error(
            "lengths",
            f"a non-negative length for each score, shape {values.shape}",
            Verbatim(f"shape {sizes.shape}"),
            "Count each response's characters.",
        )
    return values, np.where(scored, sizes, np.nan)
