"""Planted noise: labels flipped on purpose, so that what finds them can be measured."""

from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rmkit.core.checks import Seen, refuse
from rmkit.core.arrays import finite_array, same_shape

NoiseKind = Literal["uniform", "small_gap", "longer"]


def plant_noise(
    gaps: ArrayLike, *, kind: NoiseKind, rate: float, seed: int, length_difference: ArrayLike | None = None
) -> NDArray[np.bool_]:
    """Which pairs to flip: exactly round(rate * pairs) of them, true over [pair].

        uniform     every pair with the same chance
        small_gap   a pair's chance falls as exp(-|gap| / mean |gap|): the pairs that people confuse
        longer      only pairs whose chosen response is the shorter, each with the same chance: after the flip
                    the longer response is the preferred one

    `gaps` over [pair] are the true reward gaps of the pairs as labelled. `length_difference` over [pair] is
    length(chosen) - length(rejected) in any unit, needed by `longer` alone. The same seed gives the same flips.

    Raises `InputError` for an unknown kind, a rate outside [0, 1], wrong shapes or NaN, and where `longer` is
    asked for more flips than there are pairs with a shorter chosen response: a lower rate is never planted
    silently.
    """
    true_gaps = finite_array("gaps", gaps, ("pair",))
    if kind not in get_args(NoiseKind):
        refuse("kind", f"one of {', '.join(get_args(NoiseKind))}", kind, "Choose which pairs are to be flipped.")
    if not 0 <= rate <= 1:
        refuse("rate", "a share of the pairs in [0, 1]", rate, "Write 0.3 for 30 %.")
    generator = np.random.default_rng(seed)
    count = round(rate * len(true_gaps))
    candidates = np.arange(len(true_gaps))
    if kind == "longer":
        candidates = np.flatnonzero(shorter_chosen(length_difference, true_gaps))
        if count > len(candidates):
            refuse("rate", f"at most {len(candidates)} flips towards the longer response (so many pairs have the "
                   "shorter one chosen)", Seen(f"{count} at rate {rate:g}"), "Lower the rate.")
    # The largest `count` of (log weight + Gumbel noise) are a weighted sample without replacement.
    scores = generator.gumbel(size=len(candidates))
    if kind == "small_gap" and true_gaps.any():
        scores -= np.abs(true_gaps) / np.abs(true_gaps).mean()
    flips = np.zeros(len(true_gaps), dtype=np.bool_)
    flips[candidates[np.argsort(-scores)[:count]]] = True
    return flips


def shorter_chosen(length_difference: ArrayLike | None, gaps: NDArray[np.float64]) -> NDArray[np.bool_]:
    """True over [pair] where the chosen response is the shorter one."""
    if length_difference is None:
        refuse("length_difference", 'lengths for kind="longer"', None, "Pass length(chosen) - length(rejected).")
    difference = finite_array("length_difference", length_difference, ("pair",))
    same_shape("length_difference", difference, "gaps", gaps)
    return difference < 0
