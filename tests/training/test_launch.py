"""Two processes: the same numbers as one, and a failure that is told."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
import ranks_worker

from rmkit.core.checks import InputError
from rmkit.training.launch import launch
from rmkit.training.zero import deepspeed_environment


@pytest.fixture(autouse=True)
def worker_on_path(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def test_two_processes_give_the_trajectory_of_one(tiny_base, tiny_pairs, tmp_path):
    """On stages 0, 2 and 3, the last batch being short, with every statistic and the evaluation."""
    pairs = str(tmp_path / "pairs.parquet")
    tiny_pairs.to_parquet(pairs)
    launch(["ranks_worker", "train", str(tiny_base), pairs, str(tmp_path)], processes=2)
    results = json.loads((tmp_path / "results.json").read_text())
    with deepspeed_environment():
        reference = ranks_worker.train(str(tiny_base), pairs, str(tmp_path), 0, per_device_train_batch_size=4)
    assert len(reference["steps"]) == 12
    for name in ("stage 0", "stage 2", "stage 3"):
        np.testing.assert_allclose(results[name]["steps"], reference["steps"], rtol=1e-5, atol=1e-6, err_msg=name)
        np.testing.assert_allclose(results[name]["metrics"], reference["metrics"], rtol=1e-5, atol=1e-6, err_msg=name)


def test_failure_of_a_rank_is_told_and_ends_the_others():
    started = time.time()
    with pytest.raises(InputError, match="exit code 1: RuntimeError: the first rank has failed"):
        launch(["ranks_worker", "fail"], processes=2)
    assert time.time() - started < 120


def test_launcher_that_is_not_there():
    with pytest.raises(InputError, match="launcher no-such-launcher"):
        launch(["ranks_worker"], processes=2, launcher="no-such-launcher --two")


def test_launcher_that_starts_no_ranks(monkeypatch):
    monkeypatch.setenv("RMKIT_LAUNCHED", "1")
    with pytest.raises(InputError, match="LOCAL_RANK"):
        launch(["ranks_worker"], processes=2, launcher="env")
