"""HelpSteer: two responses and by how much people prefer the one, from -3 (the first, much) to 3 (the second, much).

Sources: the card of nvidia/HelpSteer3 and Wang et al., arXiv 2505.11475 (`context`, `response1`, `response2`,
`overall_preference`); arXiv 2410.01257 for HelpSteer2 (`prompt`, `response_1`, `response_2`, `preference_strength`).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from rmkit.data.schema import InvalidRow, read_name, read_number
from rmkit.evaluation.benchmarks.base import BenchmarkItem, ScoredItems, make_item, pairs_correct
from rmkit.evaluation.benchmarks.scores import BenchmarkResult, mean_over
from rmkit.metrics.correlation import rank_correlation

PREFERENCES = ("overall_preference", "preference_strength")
STRONGEST = 3
STRENGTHS = {1: "slightly better", 2: "better", 3: "much better"}
WHOLE = "all"


def parse(content: Mapping[str, Any]) -> BenchmarkItem:
    """The item of a row with a prompt, two responses and a preference; `domain` names its part."""
    prompt = find(content, ("context", "prompt"))
    responses = [find(content, names) for names in (("response1", "response_1"), ("response2", "response_2"))]
    preference = read_number(find(content, PREFERENCES), "preference")
    if abs(preference) > STRONGEST or preference != int(preference):
        raise InvalidRow("wrong preference", f"expected a whole number from -3 to 3, got {preference:g}")
    grades = [max(-preference, 0.0), max(preference, 0.0)]
    return make_item(prompt, responses, grades, read_name(content.get("domain"), "domain") or WHOLE)


def find(content: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    """The first of these columns that the row has; raises `InvalidRow`."""
    name = next((name for name in names if content.get(name) is not None), None)
    if name is None:
        raise InvalidRow(f"missing {names[0]}")
    return content[name]


def measure(scored: ScoredItems) -> BenchmarkResult:
    """Accuracy over pairs with a preference, by its strength and by domain; Spearman's correlation of gap and strength.

    Pairs that are about the same (0) have no say in an accuracy, and one in the correlation.
    """
    credits = np.array([pairs_correct(*item) for item in zip(scored.rewards, scored.grades, strict=True)])
    gaps = np.array([rewards[1] - rewards[0] for rewards in scored.rewards])
    preference = np.array([grades[1] - grades[0] for grades in scored.grades])
    strengths = {
        name: mean_over(credits, np.abs(preference) == strength)
        for strength, name in STRENGTHS.items() if np.any(np.abs(preference) == strength)
    }
    part = np.array(scored.parts)
    names = sorted(set(scored.parts))
    parts = {name: mean_over(credits, part == name) for name in names} if len(names) > 1 else {}
    defined = np.ptp(gaps) > 0 and np.ptp(preference) > 0
    extra = {
        "correlation": rank_correlation(gaps, preference) if defined else None,
        "about_the_same": int((preference == 0).sum()),
    }
    return BenchmarkResult({"accuracy": mean_over(credits), **strengths}, parts, credits, extra)
