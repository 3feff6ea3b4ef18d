"""Statistics over seeds: intervals of paired differences, and the arms of a study by round."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from scipy.stats import t as student

from benchmarks.shared.results import summarise

Cells = Sequence[Mapping[str, Sequence[Mapping[str, Any]]]]  # figures by name, [seed][arm][round]


def estimate_mean(differences: Sequence[float]) -> dict[str, Any]:
    """Mean of paired differences over seeds with its 95 % t-interval; None for the ends if there is one seed."""
    summary = summarise(differences)
    if summary["std"] is None:
        return {**summary, "low": None, "high": None}
    count = len(differences)
    half = float(student.ppf(0.975, count - 1)) * summary["std"] / math.sqrt(count)
    return {**summary, "low": summary["mean"] - half, "high": summary["mean"] + half}


def summarise_nested(cells: Sequence[Any]) -> Any:
    """Dicts and lists of the same shape from several seeds as one, in which each number is summarised over seeds."""
    first = cells[0]
    if isinstance(first, dict):
        return {key: summarise_nested([cell[key] for cell in cells]) for key in first}
    if isinstance(first, list):
        return [summarise_nested(list(items)) for items in zip(*cells, strict=True)]
    return summarise(cells)


def summarise_arms(cells: Cells, names: Iterable[str]) -> dict[str, list[dict[str, Any]]]:
    """[arm][round]: the figures `names` over seeds, without those that the first seed lacks."""
    return {
        arm: [{name: summarise([cell[arm][number][name] for cell in cells]) for name in names
               if figures.get(name) is not None} for number, figures in enumerate(rounds)]
        for arm, rounds in cells[0].items()
    }


def estimate_lead(cells: Cells, arm: str, other: str, number: int, name: str) -> dict[str, Any]:
    """How far `arm` is ahead of `other` in a figure of one round, with the interval of differences within seeds."""
    return estimate_mean([cell[arm][number][name] - cell[other][number][name] for cell in cells])
