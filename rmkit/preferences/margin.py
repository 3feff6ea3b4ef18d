"""The adaptive margin: how many reward units a pair's gap is asked to exceed."""

from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rmkit.core.checks import refuse
from rmkit.core.arrays import finite_array

MarginKind = Literal["signed", "clamped", "scaled"]


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
        refuse("kind", f"one of {', '.join(get_args(MarginKind))}", kind, "Choose the margin's form.")
    if not 0 <= scale < np.inf:
        refuse("scale", "a finite number that is not negative", scale, "A negative margin would reward wrong order.")
    if kind == "scaled":
        with np.errstate(over="ignore"):
            margin = scale * mean
        if not np.isfinite(margin).all():
            refuse("scale", f"a number by which {np.abs(mean).max():g} can be multiplied", scale, "Lower it.")
        return margin
    if scale != 1.0:
        refuse("scale", f"1.0 with kind={kind!r}", scale, 'Use kind="scaled".')
    return np.maximum(mean, 0.0) if kind == "clamped" else mean.copy()
