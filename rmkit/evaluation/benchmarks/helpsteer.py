"""HelpSteer: two responses and the preference between them, from -3 (the first is much better) to 3 (the second is).

Sources: the card of nvidia/HelpSteer3 and Wang et al., arXiv 2505.11475 (`context`, `response1`, `response2`,
`overall_preference`); arXiv 2410.01257 for HelpSteer2 (`prompt`, `response_1`, `response_2`, `preference_strength`).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rmkit.data.schema import read_name, read_number
from rmkit.data.sources import RowError
from rmkit.evaluation.benchmarks.base import BenchmarkItem, ScoredItem, first_column, make_item, pairs_correct
from rmkit.evaluation.benchmarks.scores import BenchmarkResult, mean_by_part, mean_over
from rmkit.metrics.correlation import rank_correlation

PREFERENCES = ("overall_preference", "preference_strength")
COLUMNS = (("context", "prompt"), ("response1", "response_1"), ("response2", "response_2"), PREFERENCES)
STRONGEST = 3
STRENGTHS = {1: "slightly better", 2: "better", 3: "much better"}
WHOLE = "all"


def parse(content: Mapping[str, Any]) -> BenchmarkItem:
    """The item of a row with a prompt, two responses and a preference; `domain` names its part."""
    values = [first_column(content, names) for names in COLUMNS]
    for names, value in zip(COLUMNS, values, strict=True):
        if value is None:
            raise RowError(f"missing {names[0]}")
    prompt, *responses = values[:3]
    preference = read_number(values[3], "preference")
    if abs(preference) > STRONGEST or preference != int(preference):
        raise RowError("wrong preference", f"expected a whole number from -3 to 3, got {preference:g}")
    grades = [max(-preference, 0.0), max(preference, 0.0)]
    return make_item(prompt, responses, grades, read_name(content.get("domain"), "domain") or WHOLE)


def measure(items: Sequence[ScoredItem]) -> BenchmarkResult:
    """Accuracy over pairs with a preference, by its strength and by domain; Spearman's correlation of gap and strength.

    Pairs that are about the same (0) do not enter accuracies, but the correlation.
    """
    correct = pairs_correct(items)
    gaps = np.array([item.rewards[1] - item.rewards[0] for item in items])
    preference = np.array([item.grades[1] - item.grades[0] for item in items])
    strengths = {
        name: mean_over(correct, np.abs(preference) == strength)
        for strength, name in STRENGTHS.items() if np.any(np.abs(preference) == strength)
    }
    defined = np.ptp(gaps) > 0 and np.ptp(preference) > 0
    correlation = rank_correlation(gaps, preference) if defined else None
    extra = {"correlation": correlation, "about_the_same": int((preference == 0).sum())}
    scores = {"accuracy": mean_over(correct), **strengths}
    return BenchmarkResult(scores, mean_by_part(correct, items), correct, extra)
