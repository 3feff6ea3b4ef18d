"""Ranking quality, where the libraries' own answer to an undefined case is a warning and NaN."""

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from rmkit.core.checks import Seen, refuse
from rmkit.core.arrays import finite_array, same_shape


def rank_correlation(first: ArrayLike, second: ArrayLike) -> float:
    """Spearman's rank correlation of two arrays over the same places, equals sharing their average rank.

    Raises `InputError` for wrong or different shapes, NaN, and where one side is constant (undefined).
    """
    left, right = finite_array("first", first, ("place",)), finite_array("second", second, ("place",))
    same_shape("second", right, "first", left)
    for name, side in (("first", left), ("second", right)):
        if np.ptp(side) == 0:
            refuse(name, "at least two different values", Seen(f"{side[0]:g} throughout"), "No order, no correlation.")
    return float(spearmanr(left, right).statistic)


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
        refuse("positive", "both true and false", Seen(f"the values {classes}"), "It takes both to rank them.")
    return float(roc_auc_score(labels, values))
