"""How far a judge's scores can be trusted by themselves: do they repeat, and do they tell anything apart?"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rmkit.core.arrays import finite_array
from rmkit.core.checks import Seen, refuse
from rmkit.ratings.kappa import agree_by_pairs


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
        refuse("scores", "at least one score", Seen("NaN throughout"), "Look at the judge's answers.")
    if given.max() > top:
        refuse("scores", f"none above the top, {top:g}", Seen(f"{given.max():g}"), "Name the scale's highest score.")
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
