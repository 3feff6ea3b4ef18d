"""Verdicts: 1 where the first of two is preferred, -1 where the second is, 0 for a tie, NaN where there is none."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rmkit.core.checks import Seen, refuse


def verdict_array(name: str, values: ArrayLike, axes: tuple[str, ...]) -> NDArray[np.float64]:
    """`values` as float64 of 1, 0, -1 and NaN, with one dimension per name in `axes`; a leading "..", any before.

    NaN stands for a verdict that was not asked for, or whose text no one could read: it is no tie. Raises
    `InputError` for other numbers, other shapes and an empty array.
    """
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        refuse(name, "verdicts 1, 0, -1 or NaN", Seen(error), "Write NaN where there is no verdict.")
    least = len(axes) - (axes[0] == "..")
    if array.ndim < least or (axes[0] != ".." and array.ndim > least) or 0 in array.shape:
        refuse(name, f"a filled array over [{', '.join(axes)}]", Seen(f"shape {array.shape}"), "Check its axes.")
    wrong = ~(np.isin(array, (-1.0, 0.0, 1.0)) | np.isnan(array))
    if wrong.any():
        refuse(name, "verdicts 1 (first), 0 (tie), -1 (second) or NaN (none)", Seen(f"{array[wrong][0]:g}"),
               "Turn scores into verdicts by the sign of their difference.")
    return array
