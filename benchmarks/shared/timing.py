"""Timing in rounds that are kept in files, medians of paired rounds, peak memory of a process, fits of costs."""

import ctypes
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmarks.shared.results import keep
from rmkit.core.stage import sha256_text

Record = dict[str, float]
Side = Callable[[int], Record]  # of a round's number
MIB = 1024  # KiB


class Cells:
    """Rounds kept in a folder, so that finished ones are not run again; `settings` is what they depend on."""

    def __init__(self, folder: Path, settings: Any, rounds: int) -> None:
        self.folder = folder
        self.key = sha256_text(json.dumps(settings))[:8]
        self.rounds = rounds

    def run(self, name: str, sides: Mapping[str, Side]) -> dict[str, list[Record]]:
        """Each side's records, one a round; a round goes through all sides, every other one backwards."""
        records: dict[str, list[Record]] = {side: [] for side in sides}
        with tqdm(total=self.rounds * len(sides), desc=name, unit="run") as bar:
            for number in range(self.rounds):
                for side in list(sides)[::1 if number % 2 == 0 else -1]:
                    path = self.folder / f"{name}-{side}-{number}-{self.key}.json".replace(" ", "_").replace(",", "")
                    records[side].append(keep(path, partial(sides[side], number)))
                    bar.update()
        return records


def clock(function: Callable[[], object]) -> Record:
    """Processor and wall seconds of a call."""
    cpu, wall = time.process_time(), time.perf_counter()
    function()
    return {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}


def run_apart(function: Callable[[], object]) -> Record:
    """`clock`, and peak memory in MiB above what was held before, in a forked process (Linux).

    A fork starts with a high-water mark of its own, so that what other runs took does not show.
    """
    ctypes.CDLL(None).malloc_trim(0)  # or free memory that the fork gets would be taken without a trace
    fork = multiprocessing.get_context("fork")
    reader, writer = fork.Pipe(duplex=False)
    process = fork.Process(target=report, args=(function, writer))
    process.start()
    writer.close()
    try:
        record: Record = reader.recv()
    except EOFError:
        raise RuntimeError("the forked process ended without a result") from None
    finally:
        process.join()
    return record


def report(function: Callable[[], object], writer: Connection) -> None:
    """In the fork: run, and send what it took."""
    held = read_memory("VmRSS")
    record = clock(function)
    writer.send({**record, "peak": (read_memory("VmHWM") - held) / MIB})


def read_memory(name: str) -> int:
    """KiB of this process, as the kernel counts them."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def take_median(records: Sequence[Mapping[str, float]], name: str) -> float:
    """Median over rounds."""
    return statistics.median(record[name] for record in records)


def compare(
    records: Mapping[str, Sequence[Mapping[str, float]]], dear: str, cheap: str, clock: str = "cpu"
) -> dict[str, Any]:
    """How many times as long the first side takes: median of the rounds' ratios, and their range."""
    ratios = [first[clock] / second[clock] for first, second in zip(records[dear], records[cheap], strict=True)]
    return {"median": statistics.median(ratios), "low": min(ratios), "high": max(ratios)}


def fit_power(sizes: Sequence[float], costs: Sequence[float]) -> dict[str, float]:
    """cost = factor * size ** exponent, by least squares of the logarithms."""
    exponent, constant = np.polyfit(np.log(sizes), np.log(costs), 1)
    return {"factor": float(np.exp(constant)), "exponent": float(exponent)}


def fit_line(sizes: Sequence[float], costs: Sequence[float]) -> dict[str, float]:
    """cost = start + slope * size, by least squares."""
    slope, start = np.polyfit(sizes, costs, 1)
    return {"start": float(start), "slope": float(slope)}
