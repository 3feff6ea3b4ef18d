"""Several judges of the same responses: their scores made one, and what becomes of pairs that members doubt."""

from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.metrics.agreement import score_array
from rmkit.preferences import adaptive_margin, preference_strength

Treatment = Literal["keep", "drop", "soft"]


def combine_scores(scores: Mapping[str, ArrayLike], weights: Mapping[str, float]) -> NDArray[np.float64]:
    """One score of each response, over [prompt, response], from several judges, each with its own scale.

        sum_j w_j (s_j - mean_j) / spread_j  /  sum_j w_j

    over judges j: `mean_j` is that of the prompt's responses, `spread_j` the root mean square of s_j - mean_j over all
    prompts. So a judge's scale and its mood from prompt to prompt have no part in it, and a prompt whose responses it
    scores nearly alike counts for little. A judge whose scores never differ within a prompt adds nothing.

    Args:
        scores: by judge, over [prompt, response], means of its judgments; NaN where it gave none. A response that one
            of the judges has not scored has no score, and no part in means and spreads: the others' scores alone
            would put it on another footing.
        weights: by judge, not negative, one of them positive.

    Raises `InputError` for infinite scores, shapes or names that differ, and other weights.
    """
    if not scores or scores.keys() != weights.keys():
        raise_input_error(
            "weights", f"one for each of {', '.join(scores) or 'the judges'}", dict(weights), "Name the same ones."
        )
    if not (all(0 <= weight < np.inf for weight in weights.values()) and any(weights.values())):
        raise_input_error(
            "weights", "numbers that are not negative, one of them positive", dict(weights), "1 and 1 is usual."
        )
    arrays = {name: score_array(given, ("prompt", "response")) for name, given in scores.items()}
    shapes = {array.shape for array in arrays.values()}
    if len(shapes) > 1:
        raise_input_error(
            "scores", "the same responses from each judge", Verbatim(f"shapes {sorted(shapes)}"), "Pass all of them."
        )
    known = ~np.isnan(sum(arrays.values(), np.zeros(shapes.pop())))
    combined = np.zeros(known.shape)
    for name, array in arrays.items():
        own = np.where(known, array, 0.0)
        centred = np.where(known, own - own.sum(axis=1, keepdims=True) / np.maximum(known.sum(axis=1), 1)[:, None], 0.0)
        spread = np.sqrt(np.square(centred).sum() / max(int(known.sum()), 1))
        if spread > 1e-12 * np.abs(own).max(initial=0.0):
            combined += weights[name] / sum(weights.values()) * centred / spread
    return np.where(known, combined, np.nan)


class PairLabels(NamedTuple):
    """How pairs are trained on, over [pair]: target (probability), margin (logits), and whether the pair is kept.

    strength: the members' mean gap times the scale; weak: where it is below the threshold.
    """

    target: NDArray[np.float64]
    margin: NDArray[np.float64]
    keep: NDArray[np.bool_]
    strength: NDArray[np.float64]
    weak: NDArray[np.bool_]


def label_weak_pairs(
    strengths: ArrayLike, *, treatment: Treatment, threshold: float, scale: float = 1.0, margin_scale: float = 0.0
) -> PairLabels:
    """What is done about pairs that the members of an ensemble hardly prefer, or prefer the other way round.

        keep    nothing: target 1
        drop    weak pairs leave
        soft    weak pairs get the target sigmoid(strength), which is below 1/2 where the ensemble prefers `rejected`

    Whatever the treatment, every pair that stays gets the margin `margin_scale` strength; none by default.

    Args:
        strengths: [member, pair], each member's gap, reward(chosen) - reward(rejected).
        threshold: a pair is weak where its strength, their mean times `scale`, is below it.
        scale: from the members' reward units to log-odds; 1 for rewards of Bradley-Terry models, else
            `calibrate_scale`'s answer on labelled pairs.
        margin_scale: logits of the loss per logit of strength.

    Raises `InputError` for NaN, other shapes, an unknown treatment and numbers out of range.

    Source: strength and margin as in Secrets of RLHF Part II (arXiv 2401.06080), Eqs. (4) and (6); in DPO, not there.
    """
    if treatment not in ("keep", "drop", "soft"):
        raise_input_error("treatment", "keep, drop or soft", treatment, "Choose one of these.")
    if not (0 < scale < np.inf and np.isfinite(threshold)):
        raise_input_error(
            "scale and threshold", "a positive and a finite number", (scale, threshold), "1 and 0 are usual."
        )
    gaps = np.asarray(strengths, dtype=np.float64)
    mean = scale * preference_strength(gaps, np.zeros_like(gaps)).mean
    weak = mean < threshold
    return PairLabels(
        np.where(weak & (treatment == "soft"), expit(mean), 1.0),
        adaptive_margin(mean, kind="scaled", scale=margin_scale),
        ~(weak & (treatment == "drop")),
        mean,
        weak,
    )
