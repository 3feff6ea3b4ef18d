"""Benchmarks in `rmkit evaluate`: items out of a file, rewards of every model, scores out of rewards."""

from collections.abc import Mapping
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from tqdm import tqdm

from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.core.stage import read_json, read_record, write_json
from rmkit.data.reading import ReadSummary
from rmkit.data.sources import RowError, read_rows
from rmkit.evaluation.benchmark_figures import draw_benchmark
from rmkit.evaluation.benchmarks.base import AS_GIVEN, ITEMS, ScoredItems, count_characters, read_scored, write_items
from rmkit.evaluation.benchmarks.registry import BENCHMARKS, Benchmark, Kind, check_parts, detect
from rmkit.evaluation.benchmarks.scores import compare_models, measure_robustness, summarise, value_of
from rmkit.evaluation.rewordings import PERTURBATIONS
from rmkit.models.score_file import SCORED, score_file

READING = "reading.json"
SCORES = "scores"  # a folder in it for each model
LOOKED_AT = 100  # rows, of which one that can be decoded tells the format


def find_kind(data: str, split: str) -> Kind | None:
    """The benchmark that `data` is, by its name on the hub or by the columns of its first row; None for pairs."""
    for kind, benchmark in BENCHMARKS.items():
        if data in benchmark.hub:
            return kind
    if not Path(data).exists() or read_record(data) is not None:
        return None
    rows = islice(read_rows(data, split), LOOKED_AT)
    first = next((row.content for row in rows if not isinstance(row.content, RowError)), None)
    return None if first is None else detect(first)


def measure_benchmark(
    directory: Path,
    kind: Kind,
    *,
    data: str,
    split: str,
    models: Mapping[str, str],
    rewordings: bool,
    scoring: Mapping[str, Any],
    seed: int,
    n_bootstrap: int,
) -> dict[str, Any]:
    """Everything about the models on a benchmark, ready for JSON; writes items, rewards and `benchmark.png`.

    `scoring`: how models read, keyword arguments of `score_file`. What an interrupted run has scored in `directory` is not
    scored again; `longest` is what one would get who takes the longest response. An item with a response that does
    not fit into a model's length is left out of that model's scores, and counted. Raises `InputError` where a part of
    the benchmark is missing.
    """
    benchmark = BENCHMARKS[kind]
    reading = prepare(directory, benchmark, data, split, rewordings)
    draws = {"seed": seed, "n_bootstrap": n_bootstrap}
    by_model: dict[str, ScoredItems] = {}
    metrics: dict[str, Any] = {}
    for name, path in models.items():
        print(f"{name}:")
        folder = score_file(str(directory / ITEMS), path, directory / SCORES / name, **scoring)
        found = read_scored(folder / f"{SCORED}.jsonl")
        by_model[name] = found[AS_GIVEN]
        check_parts(benchmark, f"model {name} on {data}", set(found[AS_GIVEN].parts),
                    f"See {folder / 'quarantine.jsonl'}; raise max_length.")
        unscored = reading.rows_out["items"] - len(found[AS_GIVEN].numbers)
        metrics[name] = {"unscored": unscored, **measure_model(found, benchmark, f"model {name} on {data}", **draws)}
    longest = read_scored(directory / ITEMS, count_characters)[AS_GIVEN]
    draw_benchmark(benchmark.title, metrics).savefig(directory / "benchmark.png", dpi=150)
    return {
        "benchmark": kind,
        "title": benchmark.title,
        "rows_in": reading.rows_in,
        "rows_out": reading.rows_out["items"],
        "rows_published": benchmark.rows or None,
        "quarantined": reading.quarantined,
        "report": describe(reading, benchmark),
        "models": metrics,
        "longest": summarise(benchmark.measure(longest).scores, longest.groups, **draws),
        "comparisons": compare_models(by_model, benchmark.measure, **draws),
    }


def measure_model(found: Mapping[str, ScoredItems], benchmark: Benchmark, what: str, **draws: int) -> dict[str, Any]:
    """What a model's rewards of the items as given, and of them reworded where they were, make of the benchmark."""
    scored = found[AS_GIVEN]
    if not scored.numbers:
        raise_input_error(what, "items that it can score", Verbatim("none"), "Raise max_length.")
    measured = benchmark.measure(scored)
    undefined = [part for part, terms in measured.scores.items() if value_of(terms) is None]
    if undefined:
        raise_input_error(
            what,
            f"every score of {benchmark.title}",
            Verbatim(f"no item for {', '.join(undefined)}"),
            "Name the whole benchmark; --benchmark best_of_n measures a part of one by itself.",
        )
    metrics = {
        "scored": len(scored.numbers),
        "scores": summarise(measured.scores, scored.groups, **draws),
        "parts": summarise(measured.parts, scored.groups, **draws),
        "extra": dict(measured.extra),
    }
    if len(found) > 1:
        metrics["robustness"] = measure_robustness(found, benchmark.measure, **draws)
    return metrics


def prepare(directory: Path, benchmark: Benchmark, data: str, split: str, rewordings: bool) -> ReadSummary:
    """Write the items of the benchmark, where an interrupted run has not; what became of its rows."""
    known = read_json(directory / READING)
    if known is not None and (directory / ITEMS).is_file():
        return ReadSummary(**known["reading"])
    rows = tqdm(read_rows(data, split), f"Reading {data}", unit=" rows", disable=None)
    reading, parts = write_items(rows, benchmark.parse, directory, PERTURBATIONS if rewordings else {})
    if not parts:
        raise_input_error(
            f"data {data}",
            f"at least one usable row of {benchmark.title}",
            Verbatim("; ".join([str(reading), *reading.list_reasons()])),
            f"See {directory / 'quarantine.jsonl'}.",
        )
    check_parts(benchmark, f"data {data} ({reading})", parts,
                "Name the whole benchmark; --benchmark best_of_n measures a part of one by itself.")
    write_json(directory / READING, {"key": READING, "reading": asdict(reading)})
    return reading


def describe(reading: ReadSummary, benchmark: Benchmark) -> list[str]:
    """What became of the rows, a line each."""
    lines = [f"{benchmark.title}: {reading}", *(f"  {line}" for line in reading.list_reasons())]
    if benchmark.rows and reading.rows_in != benchmark.rows:
        lines.append(f"  {reading.rows_in} rows, where the published benchmark has {benchmark.rows}")
    return lines
