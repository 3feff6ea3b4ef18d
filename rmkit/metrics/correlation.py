"""Ranking quality, where the libraries' own answer to an undefined case is a warning and NaN."""

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import kendalltau, spearmanr
from sklearn.metrics import roc_auc_score

from rmkit.core.arrays import finite_array, same_shape
from rmkit.core.checks import Verbatim, raise_input_error


def rank_correlation(first: ArrayLike, second: ArrayLike) -> float:
    """Spearman's rank correlation of two arrays over the same places, equals sharing their average rank.

    Raises `InputError` for wrong or different shapes, NaN, and where one side is constant (undefined).
    """
    return float(spearmanr(*read_sides(first, second)).statistic)


def kendall_tau(first: ArrayLike, second: ArrayLike) -> float:
    """Kendall's tau-b of two arrays over the same places: concordant less discordant pairs, corrected for equals.

    Raises `InputError` as `rank_correlation` does.
    """
    return float(kendalltau(*read_sides(first, second)).statistic)


class PromptCorrelation(NamedTuple):
    """Mean correlation over prompts, None without any; prompts counted, and left out as one side was constant."""

    mean: float | None
    prompts: int
    undefined: int


def prompt_correlation(
    first: ArrayLike, second: ArrayLike, *, measure: Literal["spearman", "kendall"] = "spearman"
) -> PromptCorrelation:
    """Correlation of two scorings of each prompt's responses, averaged over prompts, as judges are compared.

    `first`, `second` over [prompt, response], NaN where there is no response or no score: such places are left out.
    Prompts of which fewer than two places, or one and the same score, are left count as undefined.

    Raises `InputError` for wrong or different shapes, and another measure.

    Source: arXiv 2407.19594, whose tables average Spearman's over prompts; what it does with constants is not said.
    """
    left, right = (np.asarray(side, dtype=np.float64) for side in (first, second))
    same_shape("second", right, "first", left)
    measures = {"spearman": rank_correlation, "kendall": kendall_tau}
    if left.ndim != 2 or measure not in measures:
        raise_input_error(
            "first and measure",
            "an array over [prompt, response], and spearman or kendall",
            Verbatim(f"shape {left.shape}, {measure}"),
            "Give each prompt a row.",
        )
    known = ~(np.isnan(left) | np.isnan(right))
    sides = [(row[use], other[use]) for row, other, use in zip(left, right, known, strict=True)]
    found = [measures[measure](*pair) for pair in sides if all(len(side) and np.ptp(side) for side in pair)]
    return PromptCorrelation(float(np.mean(found)) if found else None, len(found), len(left) - len(found))


def read_sides(first: ArrayLike, second: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both sides over [place], refused where there is no order to compare."""
    left, right = finite_array("first", first, ("place",)), finite_array("second", second, ("place",))
    same_shape("second", right, "first", left)
    for name, side in (("first", left), ("second", right)):
        if np.ptp(side) == 0:
            raise_input_error(
                name, "at least two different values", Verbatim(f"{side[0]:g} throughout"), "No order, no correlation."
            )
    return left, right


def auroc(scores: ArrayLike, positive: ArrayLike) -> float:
    """Area under the ROC curve: the chance that a positive scores above a negative, equals counting half.

    `scores` and `positive` (true or false) over [pair]. To ask how well strength finds flipped labels, pass
    `-strength`: the flipped are the ones with low strength.

    Raises `InputError` for wrong or different shapes, NaN, labels other than true and false, and where all labels
    are the same (undefined).
    """
    values, labels = finite_array("scores", scores, ("pair",)), finite_array("positive", positive, ("pair",))
    same_shape("positive", labels, "scores", values)
    classes = np.unique(labels).tolist()
    if classes != [0.0, 1.0]:
        raise_input_error(
            "positive", "both true and false", Verbatim(f"the values {classes}"), "It takes both to rank them."
        )
    return float(roc_auc_score(labels, values))
