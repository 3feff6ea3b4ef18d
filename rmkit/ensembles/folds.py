"""Folds of pairs for cross-fitting; all pairs of a prompt are in one fold."""

import heapq

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rmkit.core.arrays import group_indices
from rmkit.core.checks import Verbatim, raise_input_error


def assign_folds(groups: ArrayLike, folds: int, *, seed: int) -> NDArray[np.int32]:
    """The fold, 0 to `folds` - 1, of each pair; pairs with the same entry in `groups` [pair] are in one fold.

    Groups are assigned, largest first and equal sizes in an order drawn under `seed`, each to the fold with the fewest
    pairs so far. Raises `InputError` for fewer than two folds, and for more folds than groups.
    """
    names = np.asarray(groups)
    if names.ndim != 1:
        raise_input_error("groups", "one name per pair", Verbatim(f"shape {names.shape}"), "Pass each pair's prompt.")
    group_of_pair, count = group_indices(names)
    if not 2 <= folds <= count:
        raise_input_error("folds", f"2 to {count}, the number of prompts", folds, "Choose folds inside this range.")
    sizes = np.bincount(group_of_pair).astype(np.int32)
    shuffled = np.random.default_rng(seed).permutation(count)
    smallest = [(0, fold) for fold in range(folds)]
    fold_of_group = np.empty(count, dtype=np.int32)
    for group in shuffled[np.argsort(-sizes[shuffled], kind="stable")]:
        size, fold = heapq.heappop(smallest)
        fold_of_group[group] = fold
        heapq.heappush(smallest, (size + int(sizes[group]), fold))
    return fold_of_group[group_of_pair]
