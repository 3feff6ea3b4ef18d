"""Large arrays lie in files, small ones in memory, and a full disk is an error before anything is written."""

import numpy as np
import pytest

from rmkit.data import memmap
from rmkit.data.memmap import memmap_zeros, preallocate, to_memmap


@pytest.mark.parametrize("min_bytes", [1, 2**22])
def test_only_arrays_of_some_size_lie_in_files_and_all_keep_what_is_written(min_bytes, monkeypatch):
    monkeypatch.setattr(memmap, "MIN_BYTES", min_bytes)
    array = memmap_zeros((3, 5), np.int32)
    assert isinstance(array, np.memmap) == (min_bytes == 1) and not array.any()
    array[1] = np.arange(5)
    copy = to_memmap(array[:, 1:])
    array[:] = 7
    assert type(copy) is type(array) and copy.tolist() == [[0] * 4, [1, 2, 3, 4], [0] * 4]
    assert memmap_zeros((3, 0), np.float32).shape == (3, 0)


def test_a_full_disk_is_an_error_before_anything_is_written(tmp_path):
    with (tmp_path / "x").open("wb") as file, pytest.raises(OSError):
        preallocate(file.fileno(), 2**60)
