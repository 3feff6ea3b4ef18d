"""What the tables of the results share: where they come from, and how an interval is written."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"


def read_results(name: str) -> dict[str, Any]:
    """A results file."""
    content: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return content


def origin(results: Mapping[str, Any]) -> str:
    """Where a table comes from."""
    return f"`{results['command']}`, {results['hardware']['processor']}, {results['written']}."


def show_range(counts: Sequence[int]) -> str:
    """A count, or from which to which it goes."""
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def show_gain(entry: Mapping[str, Any]) -> str:
    """A difference of accuracies in points with its interval, bold where that leaves out zero."""
    if entry["low"] is None:
        return f"{100 * entry['mean']:+.1f}"
    text = f"{100 * entry['mean']:+.1f} [{100 * entry['low']:+.1f}, {100 * entry['high']:+.1f}]"
    return f"**{text}**" if entry["low"] > 0 or entry["high"] < 0 else text
