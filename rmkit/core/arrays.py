"""Checks of arrays before anything is computed with them, and numbering of groups and keys."""

import hashlib

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rmkit.core.checks import Verbatim, raise_input_error


def finite_array(name: str, values: ArrayLike, axes: tuple[str, ...]) -> NDArray[np.float64]:
    """`values` as float64 with one dimension per name in `axes`, none of them empty and every number finite.

    Raises `InputError` otherwise.
    """
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise_input_error(
            name, f"numbers over [{', '.join(axes)}]", Verbatim(error), "Pass one number per element, none missing."
        )
    if array.ndim != len(axes) or 0 in array.shape:
        expected = f"a filled array over [{', '.join(axes)}]"
        raise_input_error(name, expected, Verbatim(f"shape {array.shape}"), "Check its axes.")
    broken = int(np.count_nonzero(~np.isfinite(array)))
    if broken:
        got = Verbatim(f"{broken} NaN or infinite of {array.size}")
        raise_input_error(name, "finite numbers", got, "Find the scores that broke.")
    return array


def same_shape(name: str, array: NDArray[np.float64], other_name: str, other: NDArray[np.float64]) -> None:
    """Refuse two arrays of different shapes; nothing is broadcast."""
    if array.shape != other.shape:
        expected = f"the shape of {other_name}, {other.shape}"
        raise_input_error(name, expected, Verbatim(f"shape {array.shape}"), "Pass both in full.")


def check_range(name: str, value: float, low: float, high: float) -> None:
    """Refuse a number outside [low, high], NaN included."""
    if not low <= value <= high:
        raise_input_error(name, f"a number in [{low:g}, {high:g}]", value, f"Choose {name} inside this interval.")


def group_indices(groups: ArrayLike) -> tuple[NDArray[np.integer], int]:
    """(each element's group as a number from 0 on, in the order of the groups' names; how many groups there are).

    Names that are such numbers already are returned as they are.
    """
    names = np.asarray(groups)
    if names.dtype.kind == "i" and names.size and names.min() >= 0 and names.max() < names.size:
        used = np.zeros(int(names.max()) + 1, dtype=np.bool_)
        used[names] = True
        if used.all():
            return names, len(used)
    distinct, numbers = np.unique(names, return_inverse=True)
    return numbers.astype(np.int32), len(distinct)


def text_key(text: str) -> bytes:
    """16 bytes that identify a text, to hold sets of ids and prompts in little memory."""
    return hashlib.sha256(text.encode()).digest()[:16]


def first_occurrences(keys: NDArray[np.uint64]) -> NDArray[np.int32]:
    """The number of each row's key: `keys` [row, word] are numbered from 0 on, in the order of their first rows."""
    order = np.lexsort(keys.T)  # stable: equal keys stay in the order of their rows
    is_new = np.zeros(len(keys), dtype=np.bool_)
    is_new[:1] = True
    for words in keys.T:
        ordered = words[order]
        is_new[1:] |= ordered[1:] != ordered[:-1]
    first_rows = order[is_new]
    numbers = np.empty(len(first_rows), dtype=np.int32)
    numbers[np.argsort(first_rows)] = np.arange(len(first_rows), dtype=np.int32)
    number_of_row = np.empty(len(keys), dtype=np.int32)
    number_of_row[order] = numbers[np.cumsum(is_new, dtype=np.int32) - 1]
    return number_of_row
