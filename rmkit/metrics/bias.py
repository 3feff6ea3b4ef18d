"""Position bias and length bias of a judge."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from rmkit.core.arrays import finite_array, same_shape
from rmkit.metrics.agreement import verdict_array


class PositionBias(NamedTuple):
    """Shares in [0, 1], None where nothing is counted.

    first: of decided verdicts, in either order, those for the response shown first (1/2 without bias).
    consistent: of pairs judged in both orders, those with the same verdict, ties included.
    first_twice, second_twice: of the same pairs, those where both orders preferred the first position, or the second.
    both: number of pairs judged in both orders; missing: number of missing verdicts.
    """

    first: float | None
    consistent: float | None
    first_twice: float | None
    second_twice: float | None
    both: int
    missing: int


def position_bias(verdicts: ArrayLike, swapped: ArrayLike) -> PositionBias:
    """How a judge's verdicts depend on the order in which the responses are shown.

    `verdicts`, `swapped`: [pair], the same pairs in one order and in the other; in both, 1 is for the response shown
    first in that order, -1 for the one shown second, 0 a tie, NaN none. A share `first` other than 1/2 shows bias only
    where both orders are asked: otherwise the better response may just be first more often.

    Raises `InputError` for other values or different shapes.
    """
    given, back = verdict_array("verdicts", verdicts, ("pair",)), verdict_array("swapped", swapped, ("pair",))
    same_shape("swapped", back, "verdicts", given)
    both = ~(np.isnan(given) | np.isnan(back))
    stacked = np.concatenate([given, back])
    decided = np.count_nonzero(np.abs(stacked) == 1)
    consistent, first_twice, second_twice = (
        float(matches[both].mean()) if both.any() else None
        for matches in (given == -back, (given == 1) & (back == 1), (given == -1) & (back == -1))
    )
    return PositionBias(
        first=float(np.count_nonzero(stacked == 1) / decided) if decided else None,
        consistent=consistent,
        first_twice=first_twice,
        second_twice=second_twice,
        both=int(np.count_nonzero(both)),
        missing=int(np.count_nonzero(np.isnan(stacked))),
    )


class LengthBias(NamedTuple):
    """Shares in [0, 1] over decided pairs of different length, None where there are none.

    longer: verdicts for the longer response. labels_longer: labels for the longer response, over pairs with a label.
    excess: `longer` less `labels_longer`, over the pairs that have both, in (-1, 1). pairs: number of pairs counted.
    """

    longer: float | None
    labels_longer: float | None
    excess: float | None
    pairs: int


def length_bias(verdicts: ArrayLike, differences: ArrayLike, labels: ArrayLike | None = None) -> LengthBias:
    """How often a judge prefers the longer response, and how much more often than the labels do.

    `verdicts`: [pair], of the pair, whichever was shown first; `differences`: [pair], length(first) - length(second) in
    characters; `labels`: [pair], 1, 0, -1 or NaN. Good responses being longer is no bias: `excess` is what the labels
    do not explain.

    Raises `InputError` for other values or different shapes.
    """
    verdict = verdict_array("verdicts", verdicts, ("pair",))
    difference = finite_array("differences", differences, ("pair",))
    label = np.full_like(verdict, np.nan) if labels is None else verdict_array("labels", labels, ("pair",))
    same_shape("differences", difference, "verdicts", verdict)
    same_shape("labels", label, "verdicts", verdict)
    counted = (np.abs(verdict) == 1) & (difference != 0)
    sign, labelled = np.sign(difference)[counted], np.abs(label[counted]) == 1
    longer, label_longer = verdict[counted] == sign, label[counted] == sign
    return LengthBias(
        longer=float(longer.mean()) if len(longer) else None,
        labels_longer=float(label_longer[labelled].mean()) if labelled.any() else None,
        excess=float(longer[labelled].mean() - label_longer[labelled].mean()) if labelled.any() else None,
        pairs=len(longer),
    )
