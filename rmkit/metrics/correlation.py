"""Rank correlation and AUROC, with an error where scipy and scikit-learn give a warning and NaN."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from rmkit.core.arrays import finite_array, same_shape
from rmkit.core.checks import Verbatim, raise_input_error


def rank_correlation(first: ArrayLike, second: ArrayLike) -> float:
    """Spearman's rank correlation of two arrays of one shape [item]; equal values share their average rank.

    Raises `InputError` for wrong or different shapes, NaN, and a constant array (undefined).
    """
    left, right = finite_array("first", first, ("item",)), finite_array("second", second, ("item",))
    same_shape("second", right, "first", left)
    for name, array in (("first", left), ("second", right)):
        if np.ptp(array) == 0:
            raise_input_error(
                name, "at least two different values", Verbatim(f"only {array[0]:g}"), "The correlation is undefined."
            )
    return float(spearmanr(left, right).statistic)


class PromptCorrelation(NamedTuple):
    """Mean correlation over prompts (None without any), prompts counted, and prompts where it is undefined."""

    mean: float | None
    prompts: int
    undefined: int


def prompt_correlation(first: ArrayLike, second: ArrayLike) -> PromptCorrelation:
    """Spearman's rank correlation of two scorings of each prompt's responses, averaged over prompts.

    `first`, `second`: [prompt, response]; where either is NaN, the response is left out. Prompts with fewer than two
    responses left, or a constant score, are counted as undefined.

    Raises `InputError` for wrong or different shapes.

    Source: arXiv 2407.19594, whose tables average Spearman's over prompts; it does not say what it does with constants.
    """
    left, right = (np.asarray(scores, dtype=np.float64) for scores in (first, second))
    same_shape("second", right, "first", left)
    if left.ndim != 2:
        raise_input_error(
            "first", "an array over [prompt, response]", Verbatim(f"shape {left.shape}"), "Give each prompt a row."
        )
    both = ~(np.isnan(left) | np.isnan(right))
    rows = [(row[use], other[use]) for row, other, use in zip(left, right, both, strict=True)]
    values = [rank_correlation(*pair) for pair in rows if all(len(row) and np.ptp(row) for row in pair)]
    return PromptCorrelation(float(np.mean(values)) if values else None, len(values), len(left) - len(values))


def auroc(scores: ArrayLike, positive: ArrayLike) -> float:
    """Area under the ROC curve: the probability that a positive scores above a negative, equal scores counting half.

    `scores`, `positive` (true or false): [pair]. For how well strength finds flipped labels, pass `-strength`, as
    flipped pairs have low strength.

    Raises `InputError` for wrong or different shapes, NaN, and unless `positive` has both true and false (undefined).
    """
    values, labels = finite_array("scores", scores, ("pair",)), finite_array("positive", positive, ("pair",))
    same_shape("positive", labels, "scores", values)
    classes = np.unique(labels).tolist()
    if classes != [0.0, 1.0]:
        raise_input_error(
            "positive", "both true and false", Verbatim(f"the values {classes}"), "AUROC needs both classes."
        )
    return float(roc_auc_score(labels, values))
