"""The benchmarks by name, and detection of a file's benchmark from its columns."""

from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.core.stage import read_record
from rmkit.data.samples import NAMES
from rmkit.data.sources import RowError, read_rows
from rmkit.evaluation.benchmarks import best_of_n, helpsteer, reward_bench, reward_bench_2, rm_bench
from rmkit.evaluation.benchmarks.base import BenchmarkItem, ScoredItem, first_column
from rmkit.evaluation.benchmarks.scores import BenchmarkResult

PROBED_ROWS = 100  # of which the first valid one decides the format


class Benchmark(NamedTuple):
    """How a benchmark's rows are parsed and its scores computed.

    `required`: parts without which there is no total; `all_or_none`: parts that must all be there, or none; `rows`: the
    published number of rows, 0 where there is none; `hub`: names on the Hugging Face Hub.
    """

    title: str
    parse: Callable[[Mapping[str, Any]], BenchmarkItem]
    measure: Callable[[Sequence[ScoredItem]], BenchmarkResult]
    required: tuple[str, ...] = ()
    all_or_none: tuple[str, ...] = ()
    rows: int = 0
    hub: tuple[str, ...] = ()


BENCHMARKS = {
    "reward_bench": Benchmark(
        "RewardBench", reward_bench.parse, reward_bench.measure, reward_bench.REQUIRED, reward_bench.ALL_OR_NONE,
        reward_bench.ROWS, ("allenai/reward-bench",),
    ),
    "reward_bench_2": Benchmark(
        "RewardBench 2", reward_bench_2.parse, reward_bench_2.measure, reward_bench_2.REQUIRED,
        rows=reward_bench_2.ROWS, hub=("allenai/reward-bench-2",),
    ),
    "rm_bench": Benchmark(
        "RM-Bench", rm_bench.parse, rm_bench.measure, rm_bench.REQUIRED, rows=rm_bench.ROWS, hub=("THU-KEG/RM-Bench",)
    ),
    "best_of_n": Benchmark("best of n", best_of_n.parse, best_of_n.measure),
    "helpsteer": Benchmark("HelpSteer", helpsteer.parse, helpsteer.measure, hub=("nvidia/HelpSteer3",)),
}


def find_benchmark(data: str, split: str) -> str | None:
    """The benchmark that `data` is, by its name on the hub or the columns of its first valid row; None for pairs."""
    for name, benchmark in BENCHMARKS.items():
        if data in benchmark.hub:
            return name
    if not Path(data).exists() or read_record(data) is not None:
        return None
    rows = islice(read_rows(data, split), PROBED_ROWS)
    return next((detect_benchmark(row.content) for row in rows if not isinstance(row.content, RowError)), None)


def detect_benchmark(row: Mapping[str, Any]) -> str | None:
    """The benchmark that a row's columns belong to; None for plain pairs."""
    if first_column(row, helpsteer.PREFERENCES) is not None:
        return "helpsteer"
    if first_column(row, NAMES) is not None:
        return "best_of_n"
    chosen, rejected = row.get("chosen"), row.get("rejected")
    if not any(isinstance(side, list) and not any(isinstance(message, dict) for message in side)
               for side in (chosen, rejected)):
        return "reward_bench" if row.get("subset") is not None and isinstance(chosen, str) else None
    if reward_bench_2.find_subset(str(row.get("subset"))) is not None:
        return "reward_bench_2"
    return "rm_bench" if row.get("domain") is not None else "best_of_n"


def check_parts(benchmark: Benchmark, what: str, parts: Collection[str], hint: str) -> None:
    """Raise `InputError` where a part is missing without which the total would mean something else."""
    required = list(benchmark.required)
    if set(benchmark.all_or_none) & set(parts):
        required += benchmark.all_or_none
    missing = [part for part in required if part not in parts]
    if missing:
        raise_input_error(
            what,
            f"all {len(required)} parts of {benchmark.title}",
            Verbatim(f"none of {len(missing)}: {', '.join(missing)}"),
            hint,
        )
