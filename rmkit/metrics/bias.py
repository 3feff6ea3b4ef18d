"""What sways a judge besides the better answer: where it stands, and how long it is."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from rmkit.core.arrays import finite_array
from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.metrics.agreement import verdict_array


class PositionBias(NamedTuple):
    """Shares in [0, 1], None where nothing is counted.

    first: of decided verdicts, in either order, those for the one shown first (1/2 without bias).
    consistent: of pairs judged in both orders, those with the same verdict, ties included.
    first_twice, second_twice: of the same pairs, those where each order named whoever stood first, or second.
    both: how many pairs were judged in both orders; missing: how many verdicts there are none of.
    """

    first: float | None
    consistent: float | None
    first_twice: float | None
    second_twice: float | None
    both: int
    missing: int


def position_bias(verdicts: ArrayLike, swapped: ArrayLike) -> PositionBias:
    """How a judge's verdicts depend on the order of showing.

    `verdicts` and `swapped` over [pair], from the same pairs in the one and the other order; in both, 1 is for the
    one shown first in that order, -1 for the one shown second, 0 a tie, NaN none. Only where both orders are asked
    does a share of first other than 1/2 mean bias: else the better one may just stand there more often.

    Raises `InputError` for other values or different shapes.
    """
    forth, back = verdict_array("verdicts", verdicts, ("pair",)), verdict_array("swapped", swapped, ("pair",))
    if forth.shape != back.shape:
        raise_input_error(
            "swapped", f"one per verdict, shape {forth.shape}", Verbatim(f"shape {back.shape}"), "Pass all of them."
        )
    both = ~(np.isnan(forth) | np.isnan(back))
    every = np.concatenate([forth, back])
    decided = np.count_nonzero(np.abs(every) == 1)
    consistent, first_twice, second_twice = (
        float(same[both].mean()) if both.any() else None
        for same in (forth == -back, (forth == 1) & (back == 1), (forth == -1) & (back == -1))
    )
    return PositionBias(
        first=float(np.count_nonzero(every == 1) / decided) if decided else None,
        consistent=consistent,
        first_twice=first_twice,
        second_twice=second_twice,
        both=int(np.count_nonzero(both)),
        missing=int(np.count_nonzero(np.isnan(every))),
    )


class LengthBias(NamedTuple):
    """Shares in [0, 1] over decided pairs of different length, None where there are none.

    longer: verdicts for the longer one; labels_longer: labels for it, over those of the pairs that have a label;
    excess: `longer` less `labels_longer` over the pairs that have both, in (-1, 1); pairs: how many are counted.
    """

    longer: float | None
    labels_longer: float | None
    excess: float | None
    pairs: int


def length_bias(verdicts: ArrayLike, differences: ArrayLike, labels: ArrayLike | None = None) -> LengthBias:
    """How often a judge takes the longer one, and how much more often than the labels do.

    `verdicts` over [pair] are of the pair, whatever was shown first; `differences` over [pair] are length(first) -
    length(second) in characters; `labels` over [pair] 1, 0, -1 or NaN. That good answers are longer is no bias:
    `excess` is the part that labels do not explain.

    Raises `InputError` for other values or different shapes.
    """
    verdict, apart = verdict_array("verdicts", verdicts, ("pair",)), finite_array("differences", differences, ("pair",))
    label = np.full_like(verdict, np.nan) if labels is None else verdict_array("labels", labels, ("pair",))
    for name, array in (("differences", apart), ("labels", label)):
        if array.shape != verdict.shape:
            raise_input_error(
                name, f"one per verdict, shape {verdict.shape}", Verbatim(f"shape {array.shape}"), "Pass all of them."
            )
    counted = (np.abs(verdict) == 1) & (apart != 0)
    side, known = np.sign(apart)[counted], np.abs(label[counted]) == 1
    took, right = verdict[counted] == side, label[counted] == side
    return LengthBias(
        float(took.mean()) if len(took) else None,
        float(right[known].mean()) if known.any() else None,
        float(took[known].mean() - right[known].mean()) if known.any() else None,
        len(took),
    )
