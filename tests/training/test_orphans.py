"""When the process that launched the ranks dies, even by kill -9, no rank writes on into the folder of the next run."""

import subprocess
import sys
import time
from pathlib import Path

LAUNCH = """
import sys
from rmkit.training.distributed import launch

launch(["timeit", "-n1", "-r1", sys.argv[1]], num_processes=2)
"""


def wait_until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_ranks_end_with_the_process_that_launched_them(tmp_path):
    rank = f"import os, pathlib, time; pathlib.Path({str(tmp_path)!r}, str(os.getpid())).touch(); time.sleep(300)"
    process = subprocess.Popen([sys.executable, "-c", LAUNCH, rank])
    wait_until(lambda: len(list(tmp_path.iterdir())) == 2)
    ranks = [Path("/proc") / file.name for file in tmp_path.iterdir()]
    assert all(map(Path.exists, ranks))
    process.kill()
    process.wait()
    wait_until(lambda: not any(map(Path.exists, ranks)))
