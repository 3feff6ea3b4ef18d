"""Label repair: the target and margin that each pair is trained with, from the ensemble's opinion of it."""

from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from rmkit.core.arrays import check_range, finite_array, same_shape
from rmkit.core.checks import Verbatim, raise_input_error


@dataclass(frozen=True)
class Recipe:
    """What happens to a label, to which pairs' labels, and whether every kept pair gets the adaptive margin.

    `pairs`: "lowest" is the fraction of pairs with the lowest strength, "negative" those with strength < 0.
    """

    label: Literal["keep", "flip", "smooth", "soft", "drop"]
    pairs: Literal["none", "lowest", "negative", "all"]
    margin: bool = False


# Where validation pairs cannot separate recipes, `rmkit repair` takes the first: no repair before any repair, then the
# soft label, which has no flips that could be wrong.
RECIPES = {
    "none": Recipe("keep", "none"),
    "soft": Recipe("soft", "all"),
    "flip": Recipe("flip", "lowest"),
    "drop": Recipe("drop", "lowest"),
    "margin": Recipe("keep", "none", margin=True),
    "smooth": Recipe("smooth", "negative"),
    "flip+margin": Recipe("flip", "lowest", margin=True),
    "soft+margin": Recipe("smooth", "negative", margin=True),  # the paper's name: it calls smoothing "soft label"
    "drop+margin": Recipe("drop", "lowest", margin=True),
}

MarginKind = Literal["signed", "nonnegative", "scaled"]


class Repair(NamedTuple):
    """The repaired labels, arrays over [pair] in the order given.

    `target` and `margin` hold for the pair as it is to be written: where `swapped` is true, `chosen` and `rejected`
    are exchanged. Where `keep` is false the pair leaves the training set. `action` is keep, flip, smooth, soft or drop,
    followed by "+margin" where a margin was set.
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
    fraction: float = 0.1,
    label_smoothing: float = 0.2,
    target: ArrayLike | None = None,
    margin: MarginKind = "signed",
    margin_scale: float = 1.0,
) -> Repair:
    """Target, margin and action of each pair under one of `RECIPES`, which apply:

        flip     to the `fraction` of pairs with the lowest strength: `chosen` and `rejected` are exchanged
        drop     to the same pairs: they leave
        smooth   to pairs with strength < 0: target t (1 - label_smoothing) + (1 - t) label_smoothing
        soft     to every pair: target sigmoid(strength), whatever its label is
        +margin  to every pair that stays: `adaptive_margin` of the strength that it has after a flip

    Args:
        strength_mean: [pair], reward units, of the pairs as they are labelled now.
        recipe: a name in `RECIPES`.
        fraction: in [0, 1]; round(fraction * pairs) pairs are touched, equal strengths in their order.
        label_smoothing: in [0, 0.5].
        target: [pair] in [0.5, 1], the probability that the label is right before the repair; 1 where not given.
        margin, margin_scale: `kind` and `scale` of `adaptive_margin`.

    A flip keeps the target and negates the margin, because loss(gap, t, m) = loss(-gap, 1 - t, -m).

    Raises:
        InputError: for an unknown recipe, a setting or target out of range, wrong shapes or NaN, and a fraction that
            would drop every pair.

    Source: Secrets of RLHF Part II (arXiv 2401.06080), Section 2.5 and Eqs. (5) and (6). The 10 % is that of its Fig. 8
    (its prose also speaks of 20 %); label_smoothing, never given there, is inferred from Fig. 6, whose loss settles at
    0.50, the entropy of 0.2; the margin negated on a flip is inferred from the initial loss in Fig. 8. `soft` and
    `drop` are not in the paper.
    """
    strength = finite_array("strength_mean", strength_mean, ("pair",))
    if recipe not in RECIPES:
        raise_input_error("recipe", f"one of {', '.join(RECIPES)}", recipe, "Choose one by its name.")
    check_range("fraction", fraction, 0, 1)
    check_range("label_smoothing", label_smoothing, 0, 0.5)
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
    selected = select_pairs(strength, rule, fraction)
    swapped = selected & (rule.label == "flip")
    keep = ~(selected & (rule.label == "drop"))
    if not keep.any():
        raise_input_error("fraction", "a fraction that leaves at least one pair", fraction, "Drop fewer pairs.")
    if rule.label == "smooth":
        labels = np.where(selected, labels * (1 - label_smoothing) + (1 - labels) * label_smoothing, labels)
    elif rule.label == "soft":
        labels = expit(strength)
    action = np.where(selected, rule.label, "keep")
    as_written = np.where(swapped, -strength, strength)
    margins = adaptive_margin(as_written, kind=margin, scale=margin_scale)  # every recipe checks these settings
    margins = np.where(keep & rule.margin, margins, 0.0)
    if rule.margin:
        action = np.where(keep, np.char.add(action, "+margin"), action)
    return Repair(labels.copy(), margins, keep, action, swapped)


def select_pairs(strength: NDArray[np.float64], rule: Recipe, fraction: float) -> NDArray[np.bool_]:
    """True for the pairs over [pair] whose label the recipe changes."""
    if rule.pairs == "negative":
        return strength < 0
    selected = np.full(strength.shape, rule.pairs == "all")
    if rule.pairs == "lowest":
        selected[np.argsort(strength, kind="stable")[: round(fraction * len(strength))]] = True
    return selected


def adaptive_margin(strength: ArrayLike, *, kind: MarginKind = "signed", scale: float = 1.0) -> NDArray[np.float64]:
    """Margin per pair from the ensemble's mean gap, to be subtracted from the gap inside the sigmoid.

        signed       strength           the paper's: pairs that the ensemble doubts get a negative margin
        nonnegative  max(strength, 0)   doubted pairs get none
        scaled       scale * strength   where the voters' reward units are not those of the model to be trained

    `strength` over [pair] and the margin are in reward units. A flipped pair's margin is `adaptive_margin(-strength)`.

    Raises:
        InputError: for a wrong shape or kind, NaN, a negative scale, and a scale that `kind` would not use.

    Source: Secrets of RLHF Part II (arXiv 2401.06080), Eq. (6). As printed there the margin stands outside the
    logarithm, where it would have no gradient. That it is signed is inferred from the initial losses in Fig. 7 and
    Fig. 8 (1.2008 expected at zero gaps, 1.21 read off; nonnegative would give 1.248); the other two kinds are not in
    the paper.
    """
    mean = finite_array("strength", strength, ("pair",))
    if kind not in get_args(MarginKind):
        raise_input_error("kind", f"one of {', '.join(get_args(MarginKind))}", kind, "Choose the margin's form.")
    if kind != "scaled" and scale != 1.0:
        raise_input_error("scale", f"1.0 with kind={kind!r}", scale, 'Use kind="scaled".')
    if not 0 <= scale < np.inf:
        raise_input_error(
            "scale", "a finite number that is not negative", scale, "A negative margin would reward wrong order."
        )
    with np.errstate(over="ignore"):
        margin = scale * mean
    if not np.isfinite(margin).all():
        raise_input_error("scale", f"a number by which {np.abs(mean).max():g} can be multiplied", scale, "Lower it.")
    return np.maximum(margin, 0.0) if kind == "nonnegative" else margin
