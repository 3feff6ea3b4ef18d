"""What all tables of results share: reading results, Markdown tables, and how means and intervals are written."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.shared.results import RESULTS
from benchmarks.shared.statistics import estimate_mean

ROOT = Path(__file__).parents[2]
Figures = Mapping[str, Any]
WORLDS = {"gold": "Gold world", "ukp_convarg1": "UKPConvArg1", "ukp": "UKPConvArg1",
          "ultrafeedback_sample": "UltraFeedback", "pandalm_test": "PandaLM", "tulu1_human_eval": "Tulu"}
MAIN_TEST = {"gold": "gold", "ukp_convarg1": "held_out"}
WAYS = ("symmetric, in-sample", "symmetric, cross-fitted", "bradley_terry, in-sample", "bradley_terry, cross-fitted")


def read_results(name: str) -> dict[str, Any]:
    """The content of benchmarks/results/NAME.json."""
    content: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return content


def with_origin(name: str, *tables: str) -> str:
    """Tables below the command, number of seeds, processor and date of their results."""
    results = read_results(name)
    seeds = f"{len(results['seeds'])} seed{'s' if len(results['seeds']) > 1 else ''}"
    source = f"`{results['command']}`, {seeds}, {results['hardware']['processor']}, {results['written']}."
    return "\n\n".join([source, *tables])


def make_table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A Markdown table."""
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in (header, ["---"] * len(header), *rows))


def show(entry: Figures | None, factor: float = 100, digits: int = 1) -> str:
    """Mean ± standard deviation over seeds, in percent by default; the mean alone for one seed; a dash for None."""
    if entry is None:
        return "-"
    deviation = "" if entry["std"] is None else f" ± {factor * entry['std']:.{digits}f}"
    return f"{factor * entry['mean']:.{digits}f}{deviation}"


def make_row(title: str, entries: Iterable[Figures | None], factor: float = 100, digits: int = 1) -> list[str]:
    """A row of a table: a title, and `show` of every entry."""
    return [title, *(show(entry, factor, digits) for entry in entries)]


def show_difference(entry: Figures, factor: float = 1, digits: int = 2) -> str:
    """A difference with its 95 % interval, bold where the interval excludes zero."""
    if entry["low"] is None:
        return f"{factor * entry['mean']:+.{digits}f}"
    mean, low, high = (f"{factor * entry[key]:+.{digits}f}" for key in ("mean", "low", "high"))
    text = f"{mean} [{low}, {high}]"
    return f"**{text}**" if entry["low"] > 0 or entry["high"] < 0 else text


def show_gain(entry: Figures) -> str:
    """A difference of accuracies in percentage points with its 95 % interval."""
    return show_difference(entry, factor=100, digits=1)


def compare(entry: Figures, other: Figures) -> dict[str, Any]:
    """`entry` - `other` over the same seeds, with the 95 % t-interval of the paired differences."""
    return estimate_mean([one - two for one, two in zip(entry["values"], other["values"], strict=True)])
