"""Training data of heads: validated pairs of features, their standardisation, and each head's batches."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.data.memmap import memmap_zeros

FeatureArray = NDArray[np.float32]
BLOCK = 4096  # rows read at once


@dataclass(frozen=True)
class PairFeatures:
    """Both sides' features [pair, feature], which may be mapped from disk, with `target` and `margin` [pair]."""

    chosen: FeatureArray
    rejected: FeatureArray
    target: Tensor
    margin: Tensor

    def gather(self, rows: NDArray[np.intp]) -> FeatureArray:
        """Features [member, 2 * pair, feature] of the pairs `rows` [member, pair], the chosen sides first."""
        return np.concatenate([self.chosen[rows], self.rejected[rows]], axis=1)


def validate_pair_features(
    chosen: FeatureArray, rejected: FeatureArray, target: ArrayLike | None, margin: ArrayLike | None
) -> PairFeatures:
    """The pairs in these arrays. Raises `InputError` where they do not fit together."""
    for name, features in (("chosen", chosen), ("rejected", rejected)):
        if features.ndim != 2 or features.shape != chosen.shape or 0 in features.shape:
            expected, got = f"shape [pair, feature] like chosen's {chosen.shape}", Verbatim(f"shape {features.shape}")
            raise_input_error(f"{name} features", expected, got, "Extract both sides with the same backbone.")
    if len(chosen) < 2:
        raise_input_error("chosen features", "at least two pairs", len(chosen), "Pass more pairs.")
    targets = validate_numbers("target", 1.0 if target is None else target, len(chosen))
    if targets.min() < 0 or targets.max() > 1:
        got = Verbatim(f"{targets.min():g} to {targets.max():g}")
        raise_input_error("target", "probabilities in [0, 1]", got, "Repair them.")
    margins = validate_numbers("margin", 0.0 if margin is None else margin, len(chosen))
    return PairFeatures(chosen, rejected, targets, margins)


def validate_numbers(name: str, values: ArrayLike, pairs: int) -> Tensor:
    """One finite number per pair, [pair] float32."""
    array = np.array(values, dtype=np.float32)
    if array.shape not in ((), (pairs,)):
        got = Verbatim(f"shape {array.shape}")
        raise_input_error(name, f"one number per pair, shape ({pairs},)", got, "Pass all of them.")
    if not np.isfinite(array).all():
        raise_input_error(name, "finite numbers", Verbatim("NaN or infinity"), "Correct them.")
    return torch.from_numpy(array).expand(pairs)


def kept_indices(pairs: int, keep: ArrayLike | None) -> NDArray[np.int32]:
    """The indices of the pairs to train on."""
    kept = np.ones(pairs, np.bool_) if keep is None else np.asarray(keep)
    if kept.shape != (pairs,) or kept.dtype != np.bool_:
        got = Verbatim(f"{kept.dtype} of shape {kept.shape}")
        raise_input_error("keep", f"true or false for each of {pairs} pairs", got, "Pass one truth value per pair.")
    if not kept.any():
        raise_input_error("keep", "at least one pair kept", Verbatim("none"), "Drop fewer pairs.")
    return np.flatnonzero(kept).astype(np.int32)


def mean_and_std(pairs: PairFeatures) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation [feature] over both sides of all pairs; swapping sides does not change them."""
    total, squares = (np.zeros(pairs.chosen.shape[1]) for _ in range(2))
    centre = pairs.chosen[0].astype(np.float64)  # squares about a typical row lose no digits
    for features in (pairs.chosen, pairs.rejected):
        for start in range(0, len(features), BLOCK):
            rows = features[start:start + BLOCK] - centre
            if not np.isfinite(rows).all():
                raise_input_error("features", "finite numbers", Verbatim("NaN or infinity"), "Check the backbone.")
            total += rows.sum(axis=0)
            squares += np.square(rows).sum(axis=0)
    mean = total / (2 * len(pairs.chosen))
    deviation = np.sqrt(np.maximum(squares / (2 * len(pairs.chosen)) - mean**2, 0.0))
    deviation[deviation < 1e-6] = 1.0  # a constant feature; its rounding is not to be scaled up
    return torch.from_numpy((mean + centre).astype(np.float32)), torch.from_numpy(deviation.astype(np.float32))


def standardize_(features: FeatureArray, mean: Tensor, deviation: Tensor) -> Tensor:
    """`features` [.., feature] with mean 0 and deviation 1 over the training pairs; the array is overwritten."""
    return torch.from_numpy(features).sub_(mean).div_(deviation)


def iterate_batches(
    rows_of_head: Sequence[NDArray[np.int32]], orders: Sequence[np.random.Generator], per_epoch: int, epochs: int
) -> Iterator[tuple[NDArray[np.intp], Tensor]]:
    """Batches of pairs [member, pair] with their weights, which sum to one for each member.

    In an epoch each member goes through its rows in its own order, in `per_epoch` steps of sizes that differ by at most
    one. Members with fewer rows than others have entries of weight 0 at the end of a batch.
    """
    counts = np.array([len(rows) for rows in rows_of_head])
    smallest, larger = np.divmod(counts, per_epoch)  # the first `larger` steps have one pair more
    shuffled = memmap_zeros((len(counts), counts.max()), np.int32)
    for _ in range(epochs):
        for member, (rows, order) in enumerate(zip(rows_of_head, orders, strict=True)):
            shuffled[member, :len(rows)] = order.permutation(rows)
        for step in range(per_epoch):
            starts, ends = (number * smallest + np.minimum(number, larger) for number in (step, step + 1))
            sizes = ends - starts
            batch = np.zeros((len(counts), sizes.max()), dtype=np.intp)
            for member, (start, end) in enumerate(zip(starts, ends, strict=True)):
                batch[member, :end - start] = shuffled[member, start:end]
            inside = np.arange(sizes.max()) < sizes[:, None]
            yield batch, torch.from_numpy((inside / np.maximum(sizes, 1)[:, None]).astype(np.float32))
