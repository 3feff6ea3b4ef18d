"""Starting ranks: a failure is reported and ends the others."""

import time
from pathlib import Path

import pytest

from rmkit.core.checks import InputError
from rmkit.training.distributed import choose_devices, launch


@pytest.fixture(autouse=True)
def worker_on_path(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def test_failure_of_a_rank_is_reported_and_ends_the_others():
    started = time.time()
    with pytest.raises(InputError, match="exit code 1: RuntimeError: the first rank has failed"):
        launch(["ranks_worker", "fail"], num_processes=2)
    assert time.time() - started < 120


def test_launcher_that_is_not_there():
    with pytest.raises(InputError, match="launcher no-such-launcher"):
        launch(["ranks_worker"], num_processes=2, launcher="no-such-launcher --two")


def test_launcher_that_starts_no_ranks(monkeypatch):
    monkeypatch.setenv("RMKIT_LAUNCHED", "1")
    with pytest.raises(InputError, match="LOCAL_RANK"):
        launch(["ranks_worker"], num_processes=2, launcher="env")


@pytest.mark.parametrize("visible, processes, chosen", [
    (None, 2, ["0", "1"]), ("", 1, ["0"]), ("2,3", 2, ["2", "3"]), ("5,GPU-b1", 1, ["5"]),
])
def test_ranks_keep_to_the_visible_devices(monkeypatch, visible, processes, chosen):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert choose_devices(processes) == chosen


def test_more_ranks_than_visible_devices(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    with pytest.raises(InputError, match="num_processes: expected at most 1, the devices in CUDA_VISIBLE_DEV.*, got 2"):
        choose_devices(2)
