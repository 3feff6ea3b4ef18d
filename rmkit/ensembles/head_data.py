"""Lessons: the pairs that heads learn from, checked once, and the order in which each head goes through them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.data.memmap import memmap_zeros

Features = NDArray[np.float32]
READ_AT_ONCE = 4096  # rows


@dataclass(frozen=True)
class PairFeatures:
    """Both sides' features [pair, feature], which may be mapped from disk, with `target` and `margin` [pair]."""

    chosen: Features
    rejected: Features
    target: Tensor
    margin: Tensor

    def gather(self, rows: NDArray[np.intp]) -> Features:
        """Features [member, side * place, feature] of the pairs `rows` [member, place], the chosen sides first."""
        members, places = rows.shape
        sides = np.empty((members, 2 * places, self.chosen.shape[1]), dtype=np.float32)
        sides[:, :places] = self.chosen[rows]
        sides[:, places:] = self.rejected[rows]
        return sides


def validate_pair_features(
    chosen: Features, rejected: Features, target: ArrayLike | None, margin: ArrayLike | None
) -> PairFeatures:
    """The lessons in arrays from outside; raises `InputError` where they do not fit together."""
    for name, features in (("chosen", chosen), ("rejected", rejected)):
        if features.ndim != 2 or features.shape != chosen.shape or 0 in features.shape:
            raise_input_error(
                f"{name} features",
                f"shape [pair, feature] like chosen's {chosen.shape}",
                Verbatim(f"shape {features.shape}"),
                "Extract both sides with the same backbone.",
            )
    if len(chosen) < 2:
        raise_input_error(
            "chosen features", "at least two pairs", Verbatim(f"{len(chosen)}"), "One pair teaches nothing."
        )
    targets = validate_numbers("target", 1.0 if target is None else target, len(chosen))
    if not bool(((targets >= 0) & (targets <= 1)).all()):
        raise_input_error(
            "target", "probabilities in [0, 1]", Verbatim(f"{targets.min():g} to {targets.max():g}"), "Repair them."
        )
    return PairFeatures(
        chosen, rejected, targets, validate_numbers("margin", 0.0 if margin is None else margin, len(chosen))
    )


def validate_numbers(name: str, values: ArrayLike, pairs: int) -> Tensor:
    """One finite number per pair, [pair] float32."""
    array = np.array(values, dtype=np.float32)
    if array.shape not in ((), (pairs,)):
        raise_input_error(
            name, f"one number per pair, shape ({pairs},)", Verbatim(f"shape {array.shape}"), "Pass all of them."
        )
    if not np.isfinite(array).all():
        raise_input_error(name, "finite numbers", Verbatim("NaN or infinity"), "Mend them first.")
    return torch.from_numpy(array).expand(pairs)


def select_kept(lessons: PairFeatures, keep: ArrayLike | None) -> NDArray[np.int32]:
    """The positions of the pairs to train on."""
    pairs = len(lessons.chosen)
    if keep is None:
        return np.arange(pairs, dtype=np.int32)
    kept = np.asarray(keep)
    if kept.shape != (pairs,) or kept.dtype != np.bool_:
        raise_input_error(
            "keep",
            f"true or false for each of {pairs} pairs",
            Verbatim(f"{kept.dtype} of shape {kept.shape}"),
            "Pass one truth value per pair.",
        )
    if not kept.any():
        raise_input_error("keep", "at least one pair kept", Verbatim("none"), "Drop fewer pairs.")
    return np.flatnonzero(kept).astype(np.int32)


def mean_and_std(lessons: PairFeatures) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation [feature] over both sides of all pairs, which no exchange of the two can change."""
    total, squares = (np.zeros(lessons.chosen.shape[1]) for _ in range(2))
    centre = lessons.chosen[0].astype(np.float64)  # squares about a typical row lose no digits
    for features in (lessons.chosen, lessons.rejected):
        for start in range(0, len(features), READ_AT_ONCE):
            rows = features[start:start + READ_AT_ONCE] - centre
            if not np.isfinite(rows).all():
                raise_input_error("features", "finite numbers", Verbatim("NaN or infinity"), "Check the backbone.")
            total += rows.sum(axis=0)
            squares += np.square(rows).sum(axis=0)
    mean = total / (2 * len(lessons.chosen))
    deviation = np.sqrt(np.maximum(squares / (2 * len(lessons.chosen)) - mean**2, 0.0))
    deviation[deviation < 1e-6] = 1.0  # a constant feature says nothing; divided by its rounding it would speak
    return torch.from_numpy((mean + centre).astype(np.float32)), torch.from_numpy(deviation.astype(np.float32))


def standardize_(features: Features, mean: Tensor, deviation: Tensor) -> Tensor:
    """`features` [.., feature] with mean 0 and deviation 1 over the training pairs; the array is overwritten."""
    return torch.from_numpy(features).sub_(mean).div_(deviation)


def iterate_batches(
    rows_of: Sequence[NDArray[np.int32]], orders: Sequence[np.random.Generator], per_epoch: int, epochs: int
) -> Iterator[tuple[NDArray[np.intp], Tensor]]:
    """Batches of pairs [member, place] with their weights, which sum to one for each member.

    In an epoch each member goes through its own rows in its own order, in `per_epoch` steps of sizes that differ by
    at most one; where members have fewer rows than others, their places at the end of a batch weigh nothing.
    """
    counts = np.array([len(rows) for rows in rows_of])
    fewest, more = np.divmod(counts, per_epoch)  # the first `more` steps have a pair more than the others
    drawn = memmap_zeros((len(counts), counts.max()), np.int32)
    for _ in range(epochs):
        for line, (rows, order) in enumerate(zip(rows_of, orders, strict=True)):
            drawn[line, :len(rows)] = order.permutation(rows)
        for step in range(per_epoch):
            starts, ends = (number * fewest + np.minimum(number, more) for number in (step, step + 1))
            sizes = ends - starts
            taken = np.zeros((len(counts), sizes.max()), dtype=np.intp)
            for line, (start, end) in enumerate(zip(starts, ends, strict=True)):
                taken[line, :end - start] = drawn[line, start:end]
            inside = np.arange(sizes.max()) < sizes[:, None]
            yield taken, torch.from_numpy((inside / np.maximum(sizes, 1)[:, None]).astype(np.float32))
