"""Arrays in files: one number or more for each of millions of rows would otherwise be anonymous memory."""

import math
import os
import tempfile
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

MIN_BYTES = 2**22  # smaller arrays stay in memory


def memmap_zeros(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """An array of zeros; one of 4 MiB or more lies in an unnamed temporary file and is freed with the last reference.

    The file lies in the folder of TMPDIR. Raises `OSError` where the disk has no room.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size < MIN_BYTES:
        return np.zeros(shape, dtype)
    with tempfile.TemporaryFile() as file:
        preallocate(file.fileno(), size)
        return np.memmap(file, dtype, mode="r+", shape=shape)


def to_memmap(values: NDArray[Any]) -> NDArray[Any]:
    """A copy of an array, allocated by `memmap_zeros`."""
    copy = memmap_zeros(values.shape, values.dtype)
    copy[...] = values
    return copy


def preallocate(file: int, size: int) -> None:
    """Reserve `size` bytes on disk for an open file descriptor: writing to a map on a full disk raises SIGBUS."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size)
    else:
        os.truncate(file, size)
