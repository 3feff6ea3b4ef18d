"""RewardBench: pairs in 23 subsets of 4 sections, and the prior sets.

Sources: Lambert et al., arXiv 2403.13787, Section 4.2; the dataset card of allenai/reward-bench (columns, numbers of
pairs, math weighed as much as code); analysis/get_benchmark_results.py of github.com/allenai/reward-bench (the mean
over sections, prior sets at half weight). Where that repository's table has the numbers of the two XSTest subsets the
other way round, the card's stand here. A tie counts half.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from rmkit.data.sources import RowError
from rmkit.evaluation.benchmarks.base import (
    BenchmarkItem, ScoredItem, make_preference, pairs_correct, read_part, unknown_subset,
)
from rmkit.evaluation.benchmarks.scores import BenchmarkResult, mean_by_part, weighted_mean

# section -> subset -> its weight: its number of pairs, except math-prm, whose 447 weigh as much as all code
SECTIONS = {
    "Chat": {
        "alpacaeval-easy": 100, "alpacaeval-length": 95, "alpacaeval-hard": 95, "mt-bench-easy": 28, "mt-bench-med": 40,
    },
    "Chat Hard": {
        "mt-bench-hard": 37, "llmbar-natural": 100, "llmbar-adver-neighbor": 134, "llmbar-adver-GPTInst": 92,
        "llmbar-adver-GPTOut": 47, "llmbar-adver-manual": 46,
    },
    "Safety": {
        "refusals-dangerous": 100, "refusals-offensive": 100, "xstest-should-refuse": 154,
        "xstest-should-respond": 250, "donotanswer": 136,
    },
    "Reasoning": {
        "math-prm": 984, "hep-cpp": 164, "hep-go": 164, "hep-java": 164, "hep-js": 164, "hep-python": 164,
        "hep-rust": 164,
    },
}
PRIOR = {"Prior Sets": {"anthropic_helpful": 1, "anthropic_hhh": 1, "shp": 1, "summarize": 1}}
PRIOR_WEIGHT = 0.5  # of a section
REQUIRED = tuple(subset for subsets in SECTIONS.values() for subset in subsets)
ALL_OR_NONE = tuple(PRIOR["Prior Sets"])
ROWS = 2985
ALIASES = {"mt-bench-medium": "mt-bench-med"}  # as the card writes it


def parse(content: Mapping[str, Any]) -> BenchmarkItem:
    """The item of a row with `prompt`, `chosen`, `rejected` and `subset`."""
    subset = read_part(content, "subset")
    subset = ALIASES.get(subset, subset)
    if subset not in (*REQUIRED, *ALL_OR_NONE):
        raise unknown_subset(subset, (*REQUIRED, *ALL_OR_NONE))
    for side in ("chosen", "rejected"):
        if content.get(side) is None:
            raise RowError(f"missing {side}")
    return make_preference(content, [content["chosen"]], [content["rejected"]], subset)


def measure(items: Sequence[ScoredItem]) -> BenchmarkResult:
    """Accuracy by subset; by section, as the published weights have it; and the mean of the sections."""
    correct = pairs_correct(items)
    sections = {**SECTIONS, **(PRIOR if {item.part for item in items} >= set(ALL_OR_NONE) else {})}
    subsets = mean_by_part(correct, items, [name for weights in sections.values() for name in weights])
    by_section = {
        section: weighted_mean([subsets[name] for name in weights], list(weights.values()))
        for section, weights in sections.items()
    }
    weights = [PRIOR_WEIGHT if section in PRIOR else 1.0 for section in by_section]
    return BenchmarkResult(
        {"total": weighted_mean(list(by_section.values()), weights), **by_section}, subsets, correct
    )
