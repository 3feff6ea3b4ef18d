"""Pages: memory is given back, nothing is lost by it, and memory that is no file's is never touched."""

import sys
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset

from rmkit.data import memmap as pages
from rmkit.data.memmap import release, release_pages, reserve, scratch_array

COUNT = 4_000_000
linux = pytest.mark.skipif(sys.platform != "linux", reason="pages are given back on Linux alone")


def measure_mapped():
    """Bytes of mapped files that are in this process' memory."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssFile"))
    return 1024 * int(line.split()[1])


@linux
def test_an_array_on_disk_gives_its_memory_back_and_keeps_what_was_written():
    array = scratch_array((COUNT,), np.float64)
    before = measure_mapped()
    array[:] = np.arange(COUNT)
    assert measure_mapped() - before > 0.9 * array.nbytes
    release(array[5:])  # a part stands for the whole
    assert measure_mapped() - before < 0.1 * array.nbytes
    np.testing.assert_array_equal(array, np.arange(COUNT))


@linux
def test_a_dataset_on_disk_gives_its_memory_back_and_one_in_memory_keeps_it(tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "INTERVAL", 0.0)
    table = Dataset.from_dict({"number": np.arange(COUNT)})
    table.to_parquet(tmp_path / "x.parquet")
    mapped = Dataset.from_parquet(str(tmp_path / "x.parquet"), cache_dir=str(tmp_path))
    release_pages()
    before = measure_mapped()
    total = np.sum(mapped.with_format("numpy")["number"][:])
    assert measure_mapped() - before > 0.9 * 8 * COUNT
    release_pages()
    assert measure_mapped() - before < 0.1 * 8 * COUNT
    for dataset in (mapped, table):
        assert np.sum(dataset.with_format("numpy")["number"][:]) == total == COUNT * (COUNT - 1) // 2


def test_release_pages_is_not_done_more_often_than_is_worth_it(monkeypatch):
    looks = []
    monkeypatch.setattr(pages, "last_look", 0.0)
    monkeypatch.setattr(pages.ctypes, "CDLL", lambda name: looks.append(name))
    for _ in range(10):
        release_pages()
    assert len(looks) == 1


def test_a_small_array_stays_in_memory():
    array = scratch_array((3, 0), np.float32)
    assert array.shape == (3, 0) and not isinstance(scratch_array((10,), np.int32), np.memmap)
    array = np.arange(5.0)
    release(array)
    assert array.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]


def test_a_disk_without_room_is_told_before_anything_is_written(tmp_path):
    with (tmp_path / "x").open("wb") as file, pytest.raises(OSError):
        reserve(file.fileno(), 2**60)
