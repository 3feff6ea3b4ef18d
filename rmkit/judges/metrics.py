"""How good a judge is: agreement with labels, biases, ties, consistency, calibration, and what it costs."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rmkit.core.arrays import finite_array
from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.metrics import (
    agreement,
    cohen_kappa,
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
    failed: ArrayLike | None = None,
    scores: ArrayLike | None = None,
    top: float | None = None,
    prompt_tokens: int | None = None,
    answer_tokens: int | None = None,
    seconds: float | None = None,
    seed: int = 0,
    n_bootstrap: int = 1000,
) -> dict[str, Any]:
    """Everything `rmkit judge` reports about one judge on one set of pairs, ready for JSON.

    Args:
        preferences: [pair, order, answer], how far the first response of the pair is preferred, in [0, 1], whichever
            was shown first; order 0 shows it first, order 1 (where asked) second; NaN for no answer that can be read.
            Of a judge that scores responses, `prefer(scores)`.
        labels: [pair], 1 where the first is better, -1 the second, 0 a tie, NaN unknown.
        prompts: [pair], a prompt's name, by which the bootstrap groups.
        lengths: [pair, side], characters of the first and second response.
        votes: [pair], share in [0, 1] of people for the first, for calibration; the labels where not given.
        failed: like `preferences`, true where no answer came at all; those without are unparsed.
        scores, top: [pair, side, answer] on a scale that ends at `top`, NaN for none, of a judge that scores.
        prompt_tokens, answer_tokens, seconds: what the whole judging took, where it was counted.

    A pair's verdict is the side of 1/2 on which the mean of its answers lies: two orders that contradict each other
    make a tie. What was not answered is left out and counted, and never a tie. Shares are in [0, 1]; what is
    undefined is None.

        pairs, answers     asked, unparsed, failed, unparsed_share (of those that came)
        agreement          as `rmkit.metrics.agreement`, with low, high (95 %), and kappa (Cohen's, ties a class)
        tie_rate           of judged pairs
        position           as `position_bias`, with low, high of `first`; None where one order was asked
        length             as `length_bias`, with low, high of `longer`
        consistency        as `self_consistency`, of answers 1, 1/2, 0 to the same question; None for one answer each
        calibration        as `preference_calibration`; None where neither votes nor labels are known
        scores             None, or consistency (several answers each) and saturation (`top` known, a score read)
        cost               prompt_tokens, answer_tokens, seconds, and each per pair

    Raises `InputError` for arrays that do not fit together, and values out of range.
    """
    array = np.asarray(preferences, dtype=np.float64)
    given = ~np.isnan(array)
    if array.ndim != 3 or array.shape[1] not in (1, 2) or 0 in array.shape:
        raise_input_error(
            "preferences",
            "an array over [pair, order, answer], one order or two",
            Verbatim(f"shape {array.shape}"),
            "A judge that scores single responses has preferences by `scores_to_preferences`.",
        )
    if ((array[given] < 0) | (array[given] > 1)).any():
        raise_input_error(
            "preferences", "numbers in [0, 1]", Verbatim("others"), "1/2 is a tie, 1 the first response, 0 the second."
        )
    label = verdict_array("labels", labels, ("pair",))
    sides = finite_array("lengths", lengths, ("pair", "side"))
    groups = np.asarray(prompts)
    lost = np.zeros(array.shape, dtype=np.bool_) if failed is None else np.asarray(failed, dtype=np.bool_)
    for name, shape, expected in (("labels", label.shape, (len(array),)), ("prompts", groups.shape, (len(array),)),
                                  ("lengths", sides.shape, (len(array), 2)), ("failed", lost.shape, array.shape)):
        if shape != expected:
            raise_input_error(
                name, f"shape {expected}, as preferences", Verbatim(f"shape {shape}"), "Pass all of them."
            )
    mean = average(array, (1, 2))
    verdicts = to_verdicts(mean)
    judged, difference = ~np.isnan(verdicts), sides[:, 0] - sides[:, 1]
    outcomes = (label + 1) / 2 if votes is None else np.asarray(votes, dtype=np.float64)
    in_order = to_verdicts(average(array, (2,)))

    def bounds(hits: NDArray[Any], counted: NDArray[Any]) -> dict[str, float | None]:
        """95 % interval of a share over pairs, or None twice where there is none to speak of."""
        if not counted.any() or len(np.unique(groups)) < 2:
            return {"low": None, "high": None}
        return ratio_interval(hits, counted, groups, seed=seed, n_bootstrap=n_bootstrap)._asdict()

    counted = judged & (np.abs(label) == 1)
    decided = np.abs(verdicts) == 1
    apart = decided & (difference != 0)
    agreed = np.where(counted, (np.nan_to_num(verdicts * label) + 1) / 2, 0)
    shown = in_order * [1, -1][:in_order.shape[1]]  # for whom that order showed first
    several = array.shape[2] > 1
    return {
        "pairs": len(array),
        "answers": count_answers(given, lost),
        "agreement": agreement(verdicts, label)._asdict() | bounds(agreed, counted) | {"kappa": kappa(verdicts, label)},
        "tie_rate": float((verdicts[judged] == 0).mean()) if judged.any() else None,
        "position": None if shown.shape[1] == 1 else position_bias(*shown.T)._asdict() | bounds(
            (shown == 1).sum(axis=1), (np.abs(shown) == 1).sum(axis=1)),
        "length": length_bias(verdicts, difference, label)._asdict() | bounds(
            apart & (verdicts == np.sign(difference)), apart),
        "consistency": self_consistency((to_verdicts(array).reshape(-1, array.shape[2]) + 1) / 2)._asdict()
        if several else None,
        "calibration": calibrate(mean, outcomes),
        "scores": None if scores is None else describe_scores(np.asarray(scores, dtype=np.float64), top),
        "cost": cost_per_pair(len(array), prompt_tokens=prompt_tokens, answer_tokens=answer_tokens, seconds=seconds),
    }


def scores_to_preferences(scores: ArrayLike) -> NDArray[np.float64]:
    """Preferences [pair, 1, 1] of a judge that scores: 1, 1/2 or 0 by the mean score of each side.

    `scores` over [pair, side, answer], NaN for none; where a side has no score at all, there is no preference.
    """
    means = average(np.asarray(scores, dtype=np.float64), (2,))
    return ((sign_with_tolerance(means[:, 0] - means[:, 1]) + 1) / 2)[:, None, None]


def to_verdicts(preferences: NDArray[np.float64]) -> NDArray[np.float64]:
    """Verdicts 1, 0, -1, NaN from preferences."""
    return sign_with_tolerance(preferences - 0.5)


def sign_with_tolerance(lead: NDArray[np.float64]) -> NDArray[np.float64]:
    """1, 0, -1, NaN by the sign; 0 to nine digits is a tie, as means of the same answers differ by their order."""
    return np.sign(np.round(lead, 9))


def average(values: NDArray[np.float64], axes: tuple[int, ...]) -> NDArray[np.float64]:
    """Mean of the numbers along axes, NaN where there is none."""
    given = ~np.isnan(values)
    count = given.sum(axis=axes)
    return np.where(count > 0, np.where(given, values, 0).sum(axis=axes) / np.maximum(count, 1), np.nan)


def count_answers(given: NDArray[np.bool_], failed: NDArray[np.bool_]) -> dict[str, Any]:
    """How many answers were asked for, came but could not be read, and never came."""
    if (given & failed).any():
        raise_input_error("failed", "no preference where an answer failed", Verbatim("both"), "Write NaN there.")
    unparsed, came = int((~given & ~failed).sum()), int((~failed).sum())
    return {"asked": given.size, "unparsed": unparsed, "failed": given.size - came,
            "unparsed_share": unparsed / came if came else None}


def kappa(verdicts: NDArray[np.float64], labels: NDArray[np.float64]) -> float | None:
    """Cohen's kappa, None where it is undefined."""
    both = ~np.isnan(verdicts + labels)
    alike = len(np.unique(np.concatenate([verdicts[both], labels[both]]))) < 2
    return None if alike else cohen_kappa(verdicts, labels)


def calibrate(stated: NDArray[np.float64], outcomes: NDArray[np.float64]) -> dict[str, Any] | None:
    """Calibration over the pairs that have an outcome, None without any."""
    known = ~np.isnan(outcomes)
    if not known.any() or np.isnan(stated[known]).all():
        return None
    found = preference_calibration(stated[known], outcomes[known])._asdict()
    return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in found.items()}


def describe_scores(scores: NDArray[np.float64], top: float | None) -> dict[str, Any]:
    """Consistency and saturation of scores [pair, side, answer]."""
    if scores.ndim != 3 or scores.shape[1] != 2:
        raise_input_error(
            "scores", "an array over [pair, side, answer]", Verbatim(f"shape {scores.shape}"), "Both sides, in order."
        )
    several = scores.shape[2] > 1
    single = scores.transpose(0, 2, 1).reshape(-1, 2)  # an answer's two sides; ties are between these
    return {
        "consistency": self_consistency(scores.reshape(-1, scores.shape[2]))._asdict() if several else None,
        "saturation": None if top is None or np.isnan(single).all() else score_saturation(single, top=top)._asdict(),
    }


def cost_per_pair(pairs: int, **totals: float | None) -> dict[str, Any]:
    """Totals, and each per pair."""
    return totals | {f"{name}_per_pair": None if total is None else total / pairs for name, total in totals.items()}
