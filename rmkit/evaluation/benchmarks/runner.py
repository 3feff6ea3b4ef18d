"""Running a benchmark: items from a file, rewards of every model, scores from rewards."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.core.stage import read_json, write_json
from rmkit.data.reading import ReadSummary
from rmkit.data.sources import read_rows
from rmkit.evaluation.benchmark_figures import plot_benchmark
from rmkit.evaluation.benchmarks.base import ITEMS, ORIGINAL, ScoredItem, read_scored, response_lengths, write_items
from rmkit.evaluation.benchmarks.registry import BENCHMARKS, Benchmark, check_parts
from rmkit.evaluation.benchmarks.scores import compare_models, groups_of, measure_robustness, summarise, value_of
from rmkit.evaluation.perturbations import PERTURBATIONS
from rmkit.models.score_file import SCORED, score_file

READING = "reading.json"
SCORES = "scores"  # holds a folder for each model
WHOLE_HINT = "Name the whole benchmark; --benchmark best_of_n measures a part of one by itself."


def evaluate_benchmark(
    directory: Path,
    name: str,
    *,
    data: str,
    split: str,
    models: Mapping[str, str],
    perturbations: bool,
    scoring: Mapping[str, Any],
    seed: int,
    n_bootstrap: int,
) -> dict[str, Any]:
    """Metrics of models on a benchmark, for JSON; writes items, rewards and `benchmark.png` into `directory`.

    Args:
        name: a key of `BENCHMARKS`.
        data, split: as in `read_rows`.
        models: name -> folder or hub name.
        perturbations: also score perturbed responses.
        scoring: keyword arguments of `score_file`.
        seed, n_bootstrap: of all bootstrap intervals.

    What an interrupted run has scored in `directory` is not scored again. An item with a response that does not fit
    into a model's length is left out of that model's scores, and counted as `unscored`. `length_baseline` has the
    scores of preferring the longest response. Raises `InputError` where a part of the benchmark is missing.
    """
    benchmark = BENCHMARKS[name]
    summary = prepare_items(directory, benchmark, data, split, perturbations)
    bootstrap = {"seed": seed, "n_bootstrap": n_bootstrap}
    scored: dict[str, Sequence[ScoredItem]] = {}
    metrics: dict[str, Any] = {}
    for model, path in models.items():
        print(f"{model}:")
        what = f"model {model} on {data}"
        folder = score_file(str(directory / ITEMS), path, directory / SCORES / model, **scoring)
        items = read_scored(folder / f"{SCORED}.jsonl")
        scored[model] = items[ORIGINAL]
        hint = f"See {folder / 'quarantine.jsonl'}; raise max_length."
        check_parts(benchmark, what, {item.part for item in scored[model]}, hint)
        unscored = summary.rows_out["items"] - len(scored[model])
        metrics[model] = {"unscored": unscored, **measure_model(items, benchmark, what, **bootstrap)}
    longest = read_scored(directory / ITEMS, response_lengths)[ORIGINAL]
    plot_benchmark(benchmark.title, metrics).savefig(directory / "benchmark.png", dpi=150)
    return {
        "benchmark": name,
        "title": benchmark.title,
        "rows_in": summary.rows_in,
        "rows_out": summary.rows_out["items"],
        "rows_published": benchmark.rows or None,
        "quarantined": summary.quarantined,
        "report": describe_rows(summary, benchmark),
        "models": metrics,
        "length_baseline": summarise(benchmark.measure(longest).scores, groups_of(longest), **bootstrap),
        "comparisons": compare_models(scored, benchmark.measure, **bootstrap),
    }


def measure_model(
    items: Mapping[str, Sequence[ScoredItem]], benchmark: Benchmark, what: str, **bootstrap: int
) -> dict[str, Any]:
    """A model's scores on the original items, and its robustness where there are perturbed ones."""
    scored = items[ORIGINAL]
    if not scored:
        raise_input_error(what, "items that it can score", Verbatim("none"), "Raise max_length.")
    result = benchmark.measure(scored)
    undefined = [name for name, score in result.scores.items() if value_of(score) is None]
    if undefined:
        raise_input_error(
            what, f"every score of {benchmark.title}", Verbatim(f"no item for {', '.join(undefined)}"), WHOLE_HINT
        )
    metrics = {
        "scored": len(scored),
        "scores": summarise(result.scores, groups_of(scored), **bootstrap),
        "parts": summarise(result.parts, groups_of(scored), **bootstrap),
        "extra": dict(result.extra),
    }
    if len(items) > 1:
        metrics["robustness"] = measure_robustness(items, benchmark.measure, **bootstrap)
    return metrics


def prepare_items(directory: Path, benchmark: Benchmark, data: str, split: str, perturbations: bool) -> ReadSummary:
    """Write the items of the benchmark, unless an interrupted run has; returns the summary of its rows."""
    existing = read_json(directory / READING)
    if existing is not None and (directory / ITEMS).is_file():
        return ReadSummary(**existing["reading"])
    rows = tqdm(read_rows(data, split), f"Reading {data}", unit=" rows", disable=None)
    summary, parts = write_items(rows, benchmark.parse, directory, PERTURBATIONS if perturbations else {})
    if not parts:
        raise_input_error(
            f"data {data}",
            f"at least one usable row of {benchmark.title}",
            Verbatim("; ".join([str(summary), *summary.list_reasons()])),
            f"See {directory / 'quarantine.jsonl'}.",
        )
    check_parts(benchmark, f"data {data} ({summary})", parts, WHOLE_HINT)
    write_json(directory / READING, {"key": READING, "reading": asdict(summary)})
    return summary


def describe_rows(summary: ReadSummary, benchmark: Benchmark) -> list[str]:
    """Lines that account for the rows."""
    lines = [f"{benchmark.title}: {summary}", *(f"  {line}" for line in summary.list_reasons())]
    if benchmark.rows and summary.rows_in != benchmark.rows:
        lines.append(f"  {summary.rows_in} rows, where the published benchmark has {benchmark.rows}")
    return lines
