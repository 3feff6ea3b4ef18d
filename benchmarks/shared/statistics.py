"""A study's arms over seeds: figures at every place (a round, or a policy of a loop), and how far one arm is ahead."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.contrastive.contrastive import estimate_mean
from benchmarks.shared.results import summarise

Cells = Sequence[Mapping[str, Sequence[Mapping[str, Any]]]]  # figures by name, [seed][arm][place]


def summarise_arms(cells: Cells, names: Iterable[str]) -> dict[str, list[dict[str, Any]]]:
    """[arm][place]: the figures `names` over seeds; left out where the first seed has none."""
    return {
        arm: [{name: summarise([cell[arm][place][name] for cell in cells]) for name in names
               if figures.get(name) is not None} for place, figures in enumerate(places)]
        for arm, places in cells[0].items()
    }


def estimate_lead(cells: Cells, arm: str, other: str, place: int, name: str) -> dict[str, Any]:
    """By how much `arm` is ahead of `other` in a figure, with its interval, in pairs of one seed."""
    return estimate_mean([cell[arm][place][name] - cell[other][place][name] for cell in cells])


def format_arms(by_arm: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Means by arm and place, of what `summarise_arms` gives."""
    lines = []
    for arm, places in by_arm.items():
        for place, entries in enumerate(places):
            shown = " ".join(f"{name} {statistics.fmean(entry['values']):.3f}" for name, entry in entries.items())
            lines.append(f"{arm} {place}: {shown}")
    return "\n".join(lines)
