"""Label repair: from what the ensemble thinks of a pair to the target and margin it is trained with."""

from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from rmkit.core.arrays import finite_array, same_shape
from rmkit.core.checks import Verbatim, raise_input_error


@dataclass(frozen=True)
class Recipe:
    """What is done to the labels, on which pairs, and whether every kept pair gets the adaptive margin."""

    label: Literal["keep", "flip", "smooth", "soft", "drop"]
    pairs: Literal["none", "lowest", "negative", "all"]
    margin: bool


# `lowest` is the `share` of pairs with the lowest strength, `negative` those with strength < 0.


RECIPES = {
    "none": Recipe("keep", "none", margin=False),
    "flip": Recipe("flip", "lowest", margin=False),
    "smooth": Recipe("smooth", "negative", margin=False),
    "soft": Recipe("soft", "all", margin=False),
    "drop": Recipe("drop", "lowest", margin=False),
    "margin": Recipe("keep", "none", margin=True),
    "flip+margin": Recipe("flip", "lowest", margin=True),
    "soft+margin": Recipe("smooth", "negative", margin=True),  # the paper's name: it calls smoothing "soft label"
    "drop+margin": Recipe("drop", "lowest", margin=True),
}


MarginKind = Literal["signed", "clamped", "scaled"]


class Repair(NamedTuple):
    """The repaired labels, arrays over [pair] in the order given.

    `target` and `margin` hold for the pair as it is to be written: where `swapped` is true, `chosen` and
    `rejected` change places. Where `keep` is false the pair leaves the training set. `action` says what was done:
    keep, flip, smooth, soft or drop, with "+margin" behind it where a margin was set.
    """

    target: NDArray[np.float64]
    margin: NDArray[np.float64]
    keep: NDArray[np.bool_]
    action: NDArray[np.str_]
    swapped: NDArray[np.bool_]


def repair_labels(
    strength_mean: ArrayLike,
    *,
    recipe: str,
    share: float = 0.1,
    alpha: float = 0.2,
    target: ArrayLike | None = None,
    margin_kind: MarginKind = "signed",
    margin_scale: float = 1.0,
) -> Repair:
    """Target, margin and fate of each pair under one of `RECIPES`.

        none          nothing changes
        flip          the `share` of pairs with the lowest strength change sides
        smooth        pairs with strength < 0 get the target t (1 - alpha) + (1 - t) alpha
        soft          every pair gets the target sigmoid(strength), whatever its label said
        drop          the `share` of pairs with the lowest strength leave
        margin        every pair gets `adaptive_margin(strength)`
        flip+margin   flip, and the margin on every pair, of the strength the pair has after the flip
        soft+margin   smooth, and the margin on every pair (negative on the smoothed ones); the name is the paper's
        drop+margin   drop, and the margin on every pair that stays

    `strength_mean` over [pair] in reward units, of the pairs as they are labelled now. `share` in [0, 1] counts
    round(share * pairs) of them, equals going by their order; `alpha` in [0, 0.5]. `target` over [pair] in
    [0.5, 1] is the probability that the label is right before the repair, 1 when left out.

    A flip is an exchange of `chosen` and `rejected`: its target stays, its margin changes sign, because
    loss(gap, t, m) = loss(-gap, 1 - t, -m).

    Raises `InputError` for an unknown recipe, for a share, alpha or target out of range, for wrong shapes or NaN,
    and for a share that would drop every pair.

    Source: Secrets of RLHF Part II (arXiv 2401.06080), Section 2.5 and Eqs. (5) and (6). The 10 % is that of its
    Fig. 8 (its prose also speaks of 20 %); alpha, never given there, is inferred from Fig. 6, whose loss settles
    at 0.50, the entropy of 0.2; the margin negated on a flip is inferred from the initial loss in Fig. 8. `soft`
    and `drop` are not in the paper.
    """
    strength = finite_array("strength_mean", strength_mean, ("pair",))
    if recipe not in RECIPES:
        raise_input_error("recipe", f"one of {', '.join(RECIPES)}", recipe, "Choose one by its name.")
    if not 0 <= share <= 1:
        raise_input_error("share", "a share of the pairs in [0, 1]", share, "Write 0.1 for 10 %.")
    if not 0 <= alpha <= 0.5:
        raise_input_error("alpha", "a smoothing in [0, 0.5]", alpha, "Beyond 0.5 it would be a flip.")
    labels = np.ones_like(strength) if target is None else finite_array("target", target, ("pair",))
    same_shape("target", labels, "strength_mean", strength)
    if labels.min() < 0.5 or labels.max() > 1:
        raise_input_error(
            "target",
            "probabilities in [0.5, 1]",
            Verbatim(f"{labels.min():g} to {labels.max():g}"),
            "Exchange chosen and rejected where the label prefers `rejected`.",
        )
    rule = RECIPES[recipe]
    touched = select_pairs(strength, rule, share)
    swapped = touched & (rule.label == "flip")
    keep = ~(touched & (rule.label == "drop"))
    if not keep.any():
        raise_input_error("share", "a share that leaves at least one pair", share, "Drop fewer pairs.")
    if rule.label == "smooth":
        labels = np.where(touched, labels * (1 - alpha) + (1 - labels) * alpha, labels)
    elif rule.label == "soft":
        labels = expit(strength)
    action = np.where(touched, rule.label, "keep")
    as_written = np.where(swapped, -strength, strength)
    margin = adaptive_margin(as_written, kind=margin_kind, scale=margin_scale)  # settings are checked by any recipe
    margin = np.where(keep & rule.margin, margin, 0.0)
    if rule.margin:
        action = np.where(keep, np.char.add(action, "+margin"), action)
    return Repair(labels.copy(), margin, keep, action, swapped)


def select_pairs(strength: NDArray[np.float64], rule: Recipe, share: float) -> NDArray[np.bool_]:
    """True for the pairs over [pair] whose label the recipe changes."""
    if rule.pairs == "negative":
        return strength < 0
    touched = np.full(strength.shape, rule.pairs == "all")
    if rule.pairs == "lowest":
        lowest = np.argsort(strength, kind="stable")[: round(share * len(strength))]
        touched[lowest] = True
    return touched


def adaptive_margin(strength: ArrayLike, *, kind: MarginKind = "signed", scale: float = 1.0) -> NDArray[np.float64]:
    """Margin per pair from the ensemble's mean gap, to be subtracted from the gap inside the sigmoid.

        signed    strength           the paper's: pairs the ensemble doubts get a negative margin
        clamped   max(strength, 0)   doubted pairs get none
        scaled    scale * strength   where the voters' reward units are not those of the model to be trained

    `strength` over [pair], in reward units; the margin too. A flipped pair's strength is the negative of what it
    was, so its margin is `adaptive_margin(-strength)`.

    Raises `InputError` for a wrong shape or kind, for NaN, for a negative scale, and for a scale that `kind`
    would not use.

    Source: Secrets of RLHF Part II (arXiv 2401.06080), Eq. (6). As printed there the margin stands outside the
    logarithm, where it would have no gradient. That it is signed and unclamped is inferred from the initial losses
    in Fig. 7 and Fig. 8 (1.2008 expected at zero gaps, 1.21 read off; clamped would give 1.248); the other two
    kinds are not in the paper.
    """
    mean = finite_array("strength", strength, ("pair",))
    if kind not in get_args(MarginKind):
        raise_input_error("kind", f"one of {', '.join(get_args(MarginKind))}", kind, "Choose the margin's form.")
    if not 0 <= scale < np.inf:
        raise_input_error(
            "scale", "a finite number that is not negative", scale, "A negative margin would reward wrong order."
        )
    if kind == "scaled":
        with np.errstate(over="ignore"):
            margin = scale * mean
        if not np.isfinite(margin).all():
            raise_input_error(
                "scale", f"a number by which {np.abs(mean).max():g} can be multiplied", scale, "Lower it."
            )
        return margin
    if scale != 1.0:
        raise_input_error("scale", f"1.0 with kind={kind!r}", scale, 'Use kind="scaled".')
    return np.maximum(mean, 0.0) if kind == "clamped" else mean.copy()
