"""Metrics of a judge: agreement with labels, biases, ties, consistency and calibration."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import cohen_kappa_score

from rmkit.core.arrays import finite_array
from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.metrics import (
    agreement,
    length_bias,
    position_bias,
    preference_calibration,
    ratio_interval,
    score_saturation,
    self_consistency,
)
from rmkit.metrics.agreement import verdict_array


def evaluate_judge(
    preferences: ArrayLike,
    labels: ArrayLike,
    *,
    prompts: ArrayLike,
    lengths: ArrayLike,
    votes: ArrayLike | None = None,
    scores: ArrayLike | None = None,
    top: float | None = None,
    seed: int = 0,
    n_bootstrap: int = 1000,
) -> dict[str, Any]:
    """Agreement, biases, ties, consistency and calibration of one judge on one set of pairs, ready for JSON.

    Args:
        preferences: [pair, order, answer], how far the first response of the pair is preferred, in [0, 1]; order 0
            shows it first, order 1 (if asked) second; NaN for no parsed answer. Of a judge that scores responses,
            `scores_to_preferences(scores)`.
        labels: [pair], 1 if the first is better, -1 the second, 0 a tie, NaN unknown.
        prompts: [pair], the prompts' names, which the bootstrap draws.
        lengths: [pair, side], characters of the first and second response.
        votes: [pair], share in [0, 1] of people for the first, for calibration; by default from the labels.
        scores, top: [pair, side, answer] on a scale that ends at `top`, NaN for none, of a judge that scores.

    A pair's verdict is the side of 1/2 on which the mean of its answers lies: two orders that contradict each other
    are a tie. Missing answers are left out and counted, never a tie. Undefined values are None.

        pairs, missing     pairs, and answers without a preference
        agreement          as `rmkit.metrics.agreement`, with low, high (95 %), and kappa (Cohen's, ties a class)
        tie_rate           of judged pairs
        position           as `position_bias`, with low, high of `first`; None where one order was asked
        length             as `length_bias`, with low, high of `longer`
        consistency        as `self_consistency`, of answers 1, 1/2, 0 to the same question; None for one answer each
        calibration        as `preference_calibration`; None where neither votes nor labels are known
        scores             None, or consistency (several answers each) and saturation (with `top`)

    Raises `InputError` for arrays that do not fit together, and values out of range.
    """
    array = np.asarray(preferences, dtype=np.float64)
    if array.ndim != 3 or array.shape[1] not in (1, 2) or 0 in array.shape:
        raise_input_error(
            "preferences",
            "an array over [pair, order, answer], one order or two",
            Verbatim(f"shape {array.shape}"),
            "A judge that scores single responses has preferences by `scores_to_preferences`.",
        )
    if ((array < 0) | (array > 1)).any():
        raise_input_error(
            "preferences", "numbers in [0, 1]", Verbatim("others"), "1/2 is a tie, 1 the first response, 0 the second."
        )
    label = verdict_array("labels", labels, ("pair",))
    sides = finite_array("lengths", lengths, ("pair", "side"))
    groups = np.asarray(prompts)
    for name, shape, expected in (("labels", label.shape, (len(array),)), ("prompts", groups.shape, (len(array),)),
                                  ("lengths", sides.shape, (len(array), 2))):
        if shape != expected:
            raise_input_error(name, f"shape {expected}, as preferences", Verbatim(f"shape {shape}"), "Pass all pairs.")
    mean = average(array, (1, 2))
    verdicts = to_verdicts(mean)
    judged, difference = ~np.isnan(verdicts), sides[:, 0] - sides[:, 1]
    outcomes = (label + 1) / 2 if votes is None else np.asarray(votes, dtype=np.float64)

    def interval(hits: NDArray[Any], counted: NDArray[Any]) -> dict[str, float | None]:
        """95 % interval of a share of pairs, None where it is undefined."""
        if not counted.any() or len(np.unique(groups)) < 2:
            return {"low": None, "high": None}
        return ratio_interval(hits, counted, groups, seed=seed, n_bootstrap=n_bootstrap)._asdict()

    counted = judged & (np.abs(label) == 1)
    agreed = np.where(counted, (np.nan_to_num(verdicts * label) + 1) / 2, 0)
    unequal = (np.abs(verdicts) == 1) & (difference != 0)
    by_position = to_verdicts(average(array, (2,))) * [1, -1][:array.shape[1]]  # 1 for the one shown first
    return {
        "pairs": len(array),
        "missing": int(np.isnan(array).sum()),
        "agreement": agreement(verdicts, label)._asdict() | interval(agreed, counted)
        | {"kappa": kappa(verdicts, label)},
        "tie_rate": float((verdicts[judged] == 0).mean()) if judged.any() else None,
        "position": None if array.shape[1] == 1 else position_bias(*by_position.T)._asdict() | interval(
            (by_position == 1).sum(axis=1), (np.abs(by_position) == 1).sum(axis=1)),
        "length": length_bias(verdicts, difference, label)._asdict() | interval(
            unequal & (verdicts == np.sign(difference)), unequal),
        "consistency": consistency((to_verdicts(array).reshape(-1, array.shape[2]) + 1) / 2),
        "calibration": calibration(mean, outcomes),
        "scores": None if scores is None else describe_scores(np.asarray(scores, dtype=np.float64), top),
    }


def scores_to_preferences(scores: ArrayLike) -> NDArray[np.float64]:
    """Preferences [pair, 1, 1] of a judge that scores: 1, 1/2 or 0 by the mean score of each side.

    `scores` over [pair, side, answer], NaN for none; a side without any score leaves no preference.
    """
    means = average(np.asarray(scores, dtype=np.float64), (2,))
    return ((sign_with_tolerance(means[:, 0] - means[:, 1]) + 1) / 2)[:, None, None]


def to_verdicts(preferences: NDArray[np.float64]) -> NDArray[np.float64]:
    """Verdicts 1, 0, -1, NaN from preferences."""
    return sign_with_tolerance(preferences - 0.5)


def sign_with_tolerance(difference: NDArray[np.float64]) -> NDArray[np.float64]:
    """The sign; 0 to nine digits is a tie, because means of the same answers differ by the order of addition."""
    return np.sign(np.round(difference, 9))


def average(values: NDArray[np.float64], axes: tuple[int, ...]) -> NDArray[np.float64]:
    """Mean of the numbers along axes, NaN where there is none."""
    given = ~np.isnan(values)
    count = given.sum(axis=axes)
    return np.where(count > 0, np.where(given, values, 0).sum(axis=axes) / np.maximum(count, 1), np.nan)


def kappa(verdicts: NDArray[np.float64], labels: NDArray[np.float64]) -> float | None:
    """Cohen's kappa, None where it is undefined."""
    both = ~np.isnan(verdicts + labels)
    one_class = len(np.unique(np.concatenate([verdicts[both], labels[both]]))) < 2
    return None if one_class else float(cohen_kappa_score(verdicts[both], labels[both]))


def consistency(answers: NDArray[np.float64]) -> dict[str, Any] | None:
    """Consistency of answers [question, answer], None for one answer each."""
    return self_consistency(answers)._asdict() if answers.shape[1] > 1 else None


def calibration(preferences: NDArray[np.float64], outcomes: NDArray[np.float64]) -> dict[str, Any] | None:
    """Calibration over the pairs that have an outcome, None without any."""
    known = ~np.isnan(outcomes)
    if np.isnan(preferences[known]).all():
        return None
    result = preference_calibration(preferences[known], outcomes[known])._asdict()
    return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in result.items()}


def describe_scores(scores: NDArray[np.float64], top: float | None) -> dict[str, Any]:
    """Consistency and saturation of scores [pair, side, answer]."""
    if scores.ndim != 3 or scores.shape[1] != 2:
        got = Verbatim(f"shape {scores.shape}")
        raise_input_error("scores", "an array over [pair, side, answer]", got, "Pass both sides.")
    sides = scores.transpose(0, 2, 1).reshape(-1, 2)  # of each answer
    return {
        "consistency": consistency(scores.reshape(-1, scores.shape[2])),
        "saturation": None if top is None or np.isnan(sides).all() else score_saturation(sides, top=top)._asdict(),
    }
