"""Agreement of judges with labels, with each other, and with themselves. What is missing is left out and counted."""

import math
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import cohen_kappa_score

from rmkit.core.arrays import finite_array
from rmkit.core.checks import Verbatim, raise_input_error


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
        raise_input_error(
            "labels", f"one per verdict, shape {verdict.shape}", Verbatim(f"shape {label.shape}"), "Pass all of them."
        )
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
        raise_input_error(
            "second", f"one per item, shape {left.shape}", Verbatim(f"shape {right.shape}"), "Pass all of them."
        )
    both = ~(np.isnan(left) | np.isnan(right))
    found, codes = np.unique(np.concatenate([left[both], right[both]]), return_inverse=True)
    if len(found) < 2:
        raise_input_error(
            "first and second",
            "at least two different answers",
            Verbatim(f"the answers {found}"),
            "Where all agree by chance too, kappa is 0 / 0.",
        )
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
        raise_input_error(
            "answers", "an array over [item, judge]", Verbatim(f"shape {array.shape}"), "One column per judge."
        )
    array = array[(~np.isnan(array)).sum(axis=1) >= 2]
    if not len(array):
        raise_input_error(
            "answers", "an item with two answers", Verbatim("none"), "Without such items no one can agree."
        )
    counts = np.stack([(array == value).sum(axis=1) for value in np.unique(array[~np.isnan(array)])], axis=1)
    if counts.shape[1] < 2:
        raise_input_error(
            "answers",
            "two different answers among items answered twice",
            Verbatim(f"{counts.shape[1]} on {len(array)} such items"),
            "Where all agree by chance too, kappa is 0 / 0.",
        )
    observed, expected = agree_by_pairs(counts).mean(), np.square(counts.sum(axis=0) / counts.sum()).sum()
    return float((observed - expected) / (1 - expected))


def agree_by_pairs(counts: NDArray[np.integer]) -> NDArray[np.float64]:
    """Chance that two answers drawn from an item, without replacement, are alike; over [item], from [item, value]."""
    total = counts.sum(axis=1)
    return np.asarray((counts * (counts - 1)).sum(axis=1) / (total * (total - 1)), dtype=np.float64)


class SelfConsistency(NamedTuple):
    """Agreement of a judge's N judgments of one response with each other; None where undefined.

    equal: chance that two judgments of a response, drawn at random, give the same score; mean over responses.
    spread: standard deviation (population) of a response's scores, in score units; mean over responses.
    reliability: share of a single score's variance that lies between responses, ICC(1); 1 where judgments repeat
        exactly, 0 or less where a response's scores are no more alike than any.
    responses: those with two scores or more, which alone are counted; missing: judgments without a score.
    """

    equal: float | None
    spread: float | None
    reliability: float | None
    responses: int
    missing: int


def self_consistency(scores: ArrayLike) -> SelfConsistency:
    """How well N judgments of the same response agree, over [response, judgment], NaN for those without a score.

        reliability = (MSB - MSW) / (MSB + (n - 1) MSW),   n = (sum N_r - sum N_r^2 / sum N_r) / (responses - 1)

    with MSB and MSW the mean squares between and within responses of N_r scores each.

    Raises `InputError` for another shape and infinite scores.

    Source: Shrout and Fleiss 1979, Intraclass Correlations, ICC(1, 1); unequal N_r as in Donner 1986.
    """
    array = score_array(scores, ("response", "judgment"))
    missing = int(np.count_nonzero(np.isnan(array)))
    array = array[(~np.isnan(array)).sum(axis=1) >= 2]
    if not len(array):
        return SelfConsistency(None, None, None, 0, missing)
    count = (~np.isnan(array)).sum(axis=1)
    means, variances = np.nanmean(array, axis=1), np.nanvar(array, axis=1)
    alike = (array[:, :, None] == array[:, None, :]).sum(axis=(1, 2)) - count
    return SelfConsistency(
        float((alike / (count * (count - 1))).mean()),
        float(np.sqrt(variances).mean()),
        find_reliability(count, means, variances),
        len(array),
        missing,
    )


def find_reliability(
    count: NDArray[np.integer], means: NDArray[np.float64], variances: NDArray[np.float64]
) -> float | None:
    """ICC(1) from numbers, means and population variances of each response's scores; None where it is undefined."""
    total, responses = count.sum(), len(count)
    if responses < 2:
        return None
    between = (count * np.square(means - (count * means).sum() / total)).sum() / (responses - 1)
    within = (count * variances).sum() / (total - responses)
    size = (total - np.square(count).sum() / total) / (responses - 1)
    whole = between + (size - 1) * within
    return float((between - within) / whole) if whole > 0 else None


class Saturation(NamedTuple):
    """How much of its scale a judge uses.

    top: share of scores at the top of the scale; entropy: of the scores' distribution in nats, so that exp(entropy)
    equally frequent scores would tell as much; ties: chance that two responses to one prompt get the same score, mean
    over prompts with two scores or more, None without any; missing: judgments without a score.
    """

    top: float
    entropy: float
    ties: float | None
    missing: int


def score_saturation(scores: ArrayLike, *, top: float) -> Saturation:
    """Do scores crowd at the top? `scores` over [prompt, response], NaN for none; `top` is the scale's highest.

    Raises `InputError` for another shape, infinite scores, scores above `top`, and where there is no score at all.
    """
    array = score_array(scores, ("prompt", "response"))
    given = array[~np.isnan(array)]
    if not len(given):
        raise_input_error("scores", "at least one score", Verbatim("NaN throughout"), "Look at the judge's answers.")
    if given.max() > top:
        raise_input_error(
            "scores", f"none above the top, {top:g}", Verbatim(f"{given.max():g}"), "Name the scale's highest score."
        )
    _, counts = np.unique(given, return_counts=True)
    shares = counts / len(given)
    rows = array[(~np.isnan(array)).sum(axis=1) >= 2]
    tied = [float(agree_by_pairs(np.unique(row[~np.isnan(row)], return_counts=True)[1][None])[0]) for row in rows]
    return Saturation(
        float((given == top).mean()),
        float(-(shares * np.log(shares)).sum()),
        float(np.mean(tied)) if tied else None,
        array.size - len(given),
    )


def score_array(scores: ArrayLike, axes: tuple[str, ...]) -> NDArray[np.float64]:
    """Scores as float64 over `axes`, finite or NaN."""
    array = np.asarray(scores, dtype=np.float64)
    finite_array("scores", np.where(np.isnan(array), 0.0, array), axes)
    return array


def verdict_array(name: str, values: ArrayLike, axes: tuple[str, ...]) -> NDArray[np.float64]:
    """`values` as float64 of 1, 0, -1 and NaN, with one dimension per name in `axes`; a leading "..", any before.

    NaN stands for a verdict that was not asked for, or whose text no one could read: it is no tie. Raises
    `InputError` for other numbers, other shapes and an empty array.
    """
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise_input_error(name, "verdicts 1, 0, -1 or NaN", Verbatim(error), "Write NaN where there is no verdict.")
    least = len(axes) - (axes[0] == "..")
    if array.ndim < least or (axes[0] != ".." and array.ndim > least) or 0 in array.shape:
        raise_input_error(
            name, f"a filled array over [{', '.join(axes)}]", Verbatim(f"shape {array.shape}"), "Check its axes."
        )
    wrong = ~(np.isin(array, (-1.0, 0.0, 1.0)) | np.isnan(array))
    if wrong.any():
        raise_input_error(
            name,
            "verdicts 1 (first), 0 (tie), -1 (second) or NaN (none)",
            Verbatim(f"{array[wrong][0]:g}"),
            "Turn scores into verdicts by the sign of their difference.",
        )
    return array
