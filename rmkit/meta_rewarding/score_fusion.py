"""Combining the scores of several judges, and labels for pairs with a weak preference."""

from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.metrics.agreement import score_array
from rmkit.preferences import adaptive_margin, preference_strength

WeakPairPolicy = Literal["keep", "drop", "soft"]


def combine_scores(scores: Mapping[str, ArrayLike], weights: Mapping[str, float]) -> NDArray[np.float64]:
    """One score for each response, [prompt, response], from several judges with their own scales.

        sum_j w_j (s_j - mean_j) / spread_j  /  sum_j w_j

    over judges j: `mean_j` is the mean over the prompt's responses, `spread_j` the root mean square of s_j - mean_j
    over all prompts. Scores are centred per prompt and scaled per judge, so offsets and scales cancel. A judge whose
    scores never differ within a prompt adds nothing.

    Args:
        scores: by judge, [prompt, response], mean of its judgments; NaN for none. A response that one judge has not
            scored gets NaN, and is left out of means and spreads.
        weights: by judge, non-negative, at least one of them positive.

    Raises `InputError` for infinite scores, shapes or names that differ, and other weights.
    """
    if not scores or scores.keys() != weights.keys():
        raise_input_error(
            "weights", f"one for each of {', '.join(scores) or 'the judges'}", dict(weights), "Name the same ones."
        )
    if not (all(0 <= weight < np.inf for weight in weights.values()) and any(weights.values())):
        raise_input_error("weights", "non-negative numbers, one of them positive", dict(weights), "1 and 1 is usual.")
    arrays = {name: score_array(values, ("prompt", "response")) for name, values in scores.items()}
    shapes = {array.shape for array in arrays.values()}
    if len(shapes) > 1:
        raise_input_error(
            "scores", "the same responses from each judge", Verbatim(f"shapes {sorted(shapes)}"), "Pass all of them."
        )
    scored = ~np.isnan(sum(arrays.values(), np.zeros(shapes.pop())))
    counts = np.maximum(scored.sum(axis=1), 1)[:, None]
    combined = np.zeros(scored.shape)
    for name, array in arrays.items():
        values = np.where(scored, array, 0.0)
        centred = np.where(scored, values - values.sum(axis=1, keepdims=True) / counts, 0.0)
        spread = np.sqrt(np.square(centred).sum() / max(int(scored.sum()), 1))
        if spread > 1e-12 * np.abs(values).max(initial=0.0):
            combined += weights[name] / sum(weights.values()) * centred / spread
    return np.where(scored, combined, np.nan)


class PairLabels(NamedTuple):
    """Labels of pairs, each over [pair]: target (probability), margin (logits), and whether to keep the pair.

    strength: the members' mean gap times the scale; weak: whether it is below the threshold.
    """

    target: NDArray[np.float64]
    margin: NDArray[np.float64]
    keep: NDArray[np.bool_]
    strength: NDArray[np.float64]
    weak: NDArray[np.bool_]


def label_weak_pairs(
    gaps: ArrayLike, *, policy: WeakPairPolicy, threshold: float, scale: float = 1.0, margin_scale: float = 0.0
) -> PairLabels:
    """Labels for pairs, where an ensemble's weak or opposite preference changes the label.

        keep    target 1 for all pairs
        drop    weak pairs are dropped
        soft    weak pairs get the target sigmoid(strength), below 1/2 where the ensemble prefers `rejected`

    Every kept pair gets the margin `margin_scale` * strength.

    Args:
        gaps: [member, pair], each member's reward(chosen) - reward(rejected).
        threshold: a pair is weak if its strength, the mean gap times `scale`, is below it.
        scale: from reward units to log-odds; 1 for rewards of Bradley-Terry models, else that of `calibrate_scale`.
        margin_scale: margin in logits of the loss per logit of strength.

    Raises `InputError` for NaN, other shapes and a negative `margin_scale`.

    Source: strength and margin as in Secrets of RLHF Part II (arXiv 2401.06080), Eqs. (4) and (6); there not for DPO.
    """
    values = np.asarray(gaps, dtype=np.float64)
    strength = scale * preference_strength(values, np.zeros_like(values)).mean
    weak = strength < threshold
    return PairLabels(
        np.where(weak & (policy == "soft"), expit(strength), 1.0),
        adaptive_margin(strength, kind="scaled", scale=margin_scale),
        ~(weak & (policy == "drop")),
        strength,
        weak,
    )
