"""Agreement of verdicts with labels and with each other; consistency and saturation of scores.

Missing values (NaN) are left out and counted; they are never ties.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rmkit.core.arrays import finite_array, same_shape
from rmkit.core.checks import Verbatim, raise_input_error


class Agreement(NamedTuple):
    """Agreement of verdicts with labels: shares in [0, 1], None where nothing is counted, and counts of pairs.

    with_ties = (wins + ties / 2) / (wins + ties + losses), without_ties = wins / (wins + losses). `unjudged` pairs have
    no verdict; `unlabelled` pairs have a verdict, but no label or a tie as label.
    """

    with_ties: float | None
    without_ties: float | None
    wins: int
    ties: int
    losses: int
    unjudged: int
    unlabelled: int


def agreement(verdicts: ArrayLike, labels: ArrayLike) -> Agreement:
    """Share of pairs on which verdicts agree with labels; a tied verdict counts half, or is left out.

    `verdicts`, `labels`: [pair], 1, 0, -1 or NaN. Raises `InputError` for other values or different shapes.

    Source: inferred from the counts in arXiv 2407.19594, tables of judge agreement: all 20 rows are such shares, in
    percent, truncated (not rounded) to two decimals.
    """
    verdict, label = verdict_array("verdicts", verdicts, ("pair",)), verdict_array("labels", labels, ("pair",))
    same_shape("labels", label, "verdicts", verdict)
    judged, labelled = ~np.isnan(verdict), np.abs(label) == 1
    agrees = (verdict * label)[judged & labelled]
    wins, ties, losses = (int(np.count_nonzero(agrees == outcome)) for outcome in (1, 0, -1))
    return Agreement(
        with_ties=(wins + ties / 2) / len(agrees) if len(agrees) else None,
        without_ties=wins / (wins + losses) if wins + losses else None,
        wins=wins,
        ties=ties,
        losses=losses,
        unjudged=int(np.count_nonzero(~judged)),
        unlabelled=int(np.count_nonzero(judged & ~labelled)),
    )


class SelfConsistency(NamedTuple):
    """Agreement of a judge's N judgments of one response with each other; None where undefined.

    equal: probability that two judgments of a response, drawn at random, give the same score; mean over responses.
    spread: population standard deviation of a response's scores, in score units; mean over responses.
    reliability: share of a single score's variance that lies between responses, ICC(1).
    responses: number of responses with at least two scores; only these are counted. missing: judgments without score.
    """

    equal: float | None
    spread: float | None
    reliability: float | None
    responses: int
    missing: int


def self_consistency(scores: ArrayLike) -> SelfConsistency:
    """Consistency of repeated judgments, from scores [response, judgment] with NaN for a missing score.

        reliability = (MSB - MSW) / (MSB + (n - 1) MSW),   n = (sum N_r - sum N_r^2 / sum N_r) / (responses - 1)

    MSB and MSW are the mean squares between and within responses, which have N_r scores each.

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
    equal = (array[:, :, None] == array[:, None, :]).sum(axis=(1, 2)) - count
    return SelfConsistency(
        equal=float((equal / (count * (count - 1))).mean()),
        spread=float(np.sqrt(variances).mean()),
        reliability=intraclass_correlation(count, means, variances),
        responses=len(array),
        missing=missing,
    )


def intraclass_correlation(
    count: NDArray[np.integer], means: NDArray[np.float64], variances: NDArray[np.float64]
) -> float | None:
    """ICC(1) from each response's number of scores, their mean and population variance; None where undefined."""
    total, responses = count.sum(), len(count)
    if responses < 2:
        return None
    between = (count * np.square(means - (count * means).sum() / total)).sum() / (responses - 1)
    within = (count * variances).sum() / (total - responses)
    size = (total - np.square(count).sum() / total) / (responses - 1)
    denominator = between + (size - 1) * within
    return float((between - within) / denominator) if denominator > 0 else None


class Saturation(NamedTuple):
    """How much of its scale a judge uses.

    top: share of scores at the top of the scale. entropy: of the distribution of scores, in nats. ties: probability
    that two responses to one prompt get the same score, mean over prompts with at least two scores, None without any.
    missing: judgments without a score.
    """

    top: float
    entropy: float
    ties: float | None
    missing: int


def score_saturation(scores: ArrayLike, *, top: float) -> Saturation:
    """How far scores crowd at the top of the scale.

    `scores`: [prompt, response], NaN for a missing score; `top`: the highest score of the scale.

    Raises `InputError` for another shape, infinite scores, scores above `top`, and where there is no score at all.
    """
    array = score_array(scores, ("prompt", "response"))
    given = array[~np.isnan(array)]
    if not len(given):
        raise_input_error("scores", "at least one score", Verbatim("only NaN"), "Look at the judge's answers.")
    if given.max() > top:
        raise_input_error(
            "scores", f"none above the top, {top:g}", Verbatim(f"{given.max():g}"), "Pass the scale's highest score."
        )
    _, counts = np.unique(given, return_counts=True)
    shares = counts / len(given)
    ties = []
    for row in array[(~np.isnan(array)).sum(axis=1) >= 2]:
        _, equal = np.unique(row[~np.isnan(row)], return_counts=True)
        ties.append((equal * (equal - 1)).sum() / (equal.sum() * (equal.sum() - 1)))
    return Saturation(
        top=float((given == top).mean()),
        entropy=float(-(shares * np.log(shares)).sum()),
        ties=float(np.mean(ties)) if ties else None,
        missing=array.size - len(given),
    )


def score_array(scores: ArrayLike, axes: tuple[str, ...]) -> NDArray[np.float64]:
    """`scores` as float64 over `axes`, finite or NaN; raises `InputError` otherwise."""
    array = np.asarray(scores, dtype=np.float64)
    finite_array("scores", np.where(np.isnan(array), 0.0, array), axes)
    return array


def verdict_array(name: str, values: ArrayLike, axes: tuple[str, ...]) -> NDArray[np.float64]:
    """`values` as float64 of 1, 0, -1 and NaN, with one dimension per name in `axes`; a leading ".." allows more.

    NaN is a missing verdict: not asked for, or not parsed. Raises `InputError` for other values, other shapes and an
    empty array.
    """
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise_input_error(name, "verdicts 1, 0, -1 or NaN", Verbatim(error), "Write NaN where there is no verdict.")
    ndim = len(axes) - (axes[0] == "..")
    if array.ndim < ndim or (axes[0] != ".." and array.ndim > ndim) or 0 in array.shape:
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
