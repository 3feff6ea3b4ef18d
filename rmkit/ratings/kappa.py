"""Agreement of judges with labels, with each other, and with themselves. What is missing is left out and counted."""

import math
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import cohen_kappa_score

from rmkit.core.checks import Seen, refuse
from rmkit.ratings.verdicts import verdict_array


class Agreement(NamedTuple):
    """Shares in [0, 1], None where nothing is counted, and the pairs behind them.

    with_ties = (wins + ties / 2) / (wins + ties + losses), without_ties = wins / (wins + losses); `unjudged` pairs
    have no verdict, and `unlabelled` ones a verdict but no label, or a tie for label.
    """

    with_ties: float | None
    without_ties: float | None
    wins: int
    ties: int
    losses: int
    unjudged: int
    unlabelled: int


def agreement(verdicts: ArrayLike, labels: ArrayLike) -> Agreement:
    """How often verdicts take the labels' side, a judge's tie counting half, or left out.

    `verdicts`, `labels` over [pair]: 1, 0, -1, NaN. Raises `InputError` for other values or different shapes.

    Source: inferred from the counts behind arXiv 2407.19594, Tables of judge agreement: all 20 rows are such shares of
    whole numbers, cut (not rounded) to two decimals of a percent, as `show_percent` does.
    """
    verdict, label = verdict_array("verdicts", verdicts, ("pair",)), verdict_array("labels", labels, ("pair",))
    if verdict.shape != label.shape:
        refuse("labels", f"one per verdict, shape {verdict.shape}", Seen(f"shape {label.shape}"), "Pass all of them.")
    judged, labelled = ~np.isnan(verdict), np.abs(label) == 1
    side = (verdict * label)[judged & labelled]
    wins, ties, losses = (int(np.count_nonzero(side == outcome)) for outcome in (1, 0, -1))
    return Agreement(
        (wins + ties / 2) / len(side) if len(side) else None,
        wins / (wins + losses) if wins + losses else None,
        wins, ties, losses,
        int(np.count_nonzero(~judged)), int(np.count_nonzero(judged & ~labelled)),
    )


def show_percent(share: float) -> str:
    """A share as a percentage cut to two decimals, as the paper prints it: 0.559523 is 55.95; for display alone."""
    return f"{math.floor(share * 1e4 + 1e-7) / 100:.2f}"


def cohen_kappa(
    first: ArrayLike, second: ArrayLike, *, weights: Literal["linear", "quadratic"] | None = None
) -> float:
    """Cohen's kappa of two judges, (observed - expected) / (1 - expected) agreement; scikit-learn's.

    `first`, `second` over [item]: verdicts or scores; items that one of them left out (NaN) are left out. `weights`
    count a disagreement by its distance between the values that occur, in their order.

    Raises `InputError` for different shapes, no common item, and where both give one and the same answer throughout.
    """
    left, right = (np.asarray(side, dtype=np.float64) for side in (first, second))
    if left.shape != right.shape or left.ndim != 1:
        refuse("second", f"one per item, shape {left.shape}", Seen(f"shape {right.shape}"), "Pass all of them.")
    both = ~(np.isnan(left) | np.isnan(right))
    found, codes = np.unique(np.concatenate([left[both], right[both]]), return_inverse=True)
    if len(found) < 2:
        refuse("first and second", "at least two different answers", Seen(f"the answers {found}"),
               "Where all agree by chance too, kappa is 0 / 0.")
    return float(cohen_kappa_score(*np.split(codes, 2), weights=weights))


def fleiss_kappa(answers: ArrayLike) -> float:
    """Fleiss' kappa of many judges, (P - P_e) / (1 - P_e): P from pairs of judges of an item, P_e from all answers.

    `answers` over [item, judge], NaN where a judge gave none; items may have different numbers of answers, each item
    counting once in P, and each answer once in P_e. Items with fewer than two answers are left out.

    Raises `InputError` for another shape, no item with two answers, and the same answer throughout.

    Source: Fleiss 1971, Measuring Nominal Scale Agreement Among Many Raters, there with equal numbers of answers.
    """
    array = np.asarray(answers, dtype=np.float64)
    if array.ndim != 2:
        refuse("answers", "an array over [item, judge]", Seen(f"shape {array.shape}"), "One column per judge.")
    array = array[(~np.isnan(array)).sum(axis=1) >= 2]
    if not len(array):
        refuse("answers", "an item with two answers", Seen("none"), "Without such items no one can agree.")
    counts = np.stack([(array == value).sum(axis=1) for value in np.unique(array[~np.isnan(array)])], axis=1)
    if counts.shape[1] < 2:
        refuse("answers", "two different answers among items answered twice",
               Seen(f"{counts.shape[1]} on {len(array)} such items"), "Where all agree by chance too, kappa is 0 / 0.")
    observed, expected = agree_by_pairs(counts).mean(), np.square(counts.sum(axis=0) / counts.sum()).sum()
    return float((observed - expected) / (1 - expected))


def agree_by_pairs(counts: NDArray[np.integer]) -> NDArray[np.float64]:
    """Chance that two answers drawn from an item, without replacement, are alike; over [item], from [item, value]."""
    total = counts.sum(axis=1)
    return np.asarray((counts * (counts - 1)).sum(axis=1) / (total * (total - 1)), dtype=np.float64)
