"""Catalogue: the benchmarks by name, and which of them a file is."""

from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal, NamedTuple

from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.data.samples import NAMES
from rmkit.evaluation.benchmarks import best_of_n, helpsteer, reward_bench, reward_bench_2, rm_bench
from rmkit.evaluation.benchmarks.base import BenchmarkItem, ScoredItems
from rmkit.evaluation.benchmarks.scores import BenchmarkResult

Kind = Literal["reward_bench", "reward_bench_2", "rm_bench", "best_of_n", "helpsteer"]


class Benchmark(NamedTuple):
    """A benchmark: how its rows are read and its scores made.

    `required`: parts without which there is no total; `together`: parts that are all there or none; `rows`: its
    published number of rows, 0 where there is none; `hub`: its names on the hub.
    """

    title: str
    parse: Callable[[Mapping[str, Any]], BenchmarkItem]
    measure: Callable[[ScoredItems], BenchmarkResult]
    required: tuple[str, ...] = ()
    together: tuple[str, ...] = ()
    rows: int = 0
    hub: tuple[str, ...] = ()


BENCHMARKS: dict[Kind, Benchmark] = {
    "reward_bench": Benchmark(
        "RewardBench", reward_bench.parse, reward_bench.measure, reward_bench.REQUIRED, reward_bench.TOGETHER,
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


def detect(row: Mapping[str, Any]) -> Kind | None:
    """The benchmark that a row's columns tell, or None for plain pairs."""
    if any(row.get(name) is not None for name in helpsteer.PREFERENCES):
        return "helpsteer"
    if any(row.get(name) is not None for name in NAMES):
        return "best_of_n"
    chosen, rejected = row.get("chosen"), row.get("rejected")
    lists = [side for side in (chosen, rejected) if isinstance(side, list) and not any(
        isinstance(message, dict) for message in side)]
    if not lists:
        return "reward_bench" if row.get("subset") is not None and isinstance(chosen, str) else None
    if reward_bench_2.find_subset(str(row.get("subset"))) is not None:
        return "reward_bench_2"
    return "rm_bench" if row.get("domain") is not None else "best_of_n"


def check_parts(benchmark: Benchmark, what: str, found: Collection[str], remedy: str) -> None:
    """Refuse items that leave a part without which the total would be another one."""
    needed = list(benchmark.required)
    if set(benchmark.together) & set(found):
        needed += benchmark.together
    missing = [part for part in needed if part not in found]
    if missing:
        raise_input_error(
            what,
            f"all {len(needed)} parts of {benchmark.title}",
            Verbatim(f"none of {len(missing)}: {', '.join(missing)}"),
            remedy,
        )
