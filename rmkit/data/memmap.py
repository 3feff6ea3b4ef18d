"""Pages: memory that mapped files take up, given back once it was read, so that a pass over a large set stays small.

A page given back is read again from its file when it is next wanted; nothing is lost, what was written included.
"""

import contextlib
import ctypes
import math
import mmap
import os
import tempfile
import time
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

INTERVAL = 0.05  # seconds between two looks through all mapped files, which take a few milliseconds each
LARGE = 2**22  # bytes from which on an array's memory is worth the trouble
last_look = 0.0


def release_pages() -> None:
    """Give back the pages of all mapped Arrow files, those of `datasets`; as often as is wanted, on Linux alone."""
    global last_look
    if time.monotonic() - last_look < INTERVAL:
        return
    last_look = time.monotonic()
    with contextlib.suppress(OSError, AttributeError):
        advise = ctypes.CDLL(None).madvise
        with open("/proc/self/maps", "rb") as maps:
            for line in maps:
                if b".arrow" in line:
                    where, access = line.split()[:2]
                    start, end = (int(side, 16) for side in where.split(b"-"))
                    if b"w" not in access:  # a mapped file's own pages, never memory that nothing else holds
                        advise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), mmap.MADV_DONTNEED)


def is_mapped(array: NDArray[Any]) -> bool:
    """Whether an array is a large one mapped from a file, so that what is read of it stays until it is released."""
    mapping = getattr(array, "_mmap", None)
    return mapping is not None and len(mapping) >= LARGE and hasattr(mmap, "MADV_DONTNEED")


def release(array: NDArray[Any]) -> None:
    """Give back the pages of a large array mapped from a file; one in memory is left alone."""
    if is_mapped(array):
        array._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]


def scratch_array(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """A new array, a large one in an unnamed temporary file, which goes when nothing refers to the array any more.

    The file lies in the folder that TMPDIR names, which had better be on a disk. Raises `OSError` where it has no room.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size < LARGE:
        return np.zeros(shape, dtype)
    with tempfile.TemporaryFile() as file:
        reserve(file.fileno(), size)
        return np.memmap(file, dtype, mode="r+", shape=shape)


def store(values: NDArray[Any]) -> NDArray[Any]:
    """A copy of an array as a `scratch_array`."""
    stored = scratch_array(values.shape, values.dtype)
    stored[...] = values
    release(stored)
    return stored


def reserve(file: int, size: int) -> None:
    """Take the disk's room for `size` bytes of an open file; a disk found full while writing to a map is a crash."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size)
    else:
        os.truncate(file, size)
