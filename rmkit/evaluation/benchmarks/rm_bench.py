"""RM-Bench: three chosen and three rejected responses in three styles, all nine pairs compared.

Sources: Liu et al., arXiv 2410.16184, Section 3.3; the README and scripts/utils.py of github.com/THU-KEG/RM-Bench
(easy, normal and hard; the mean over domains, in which both kinds of safety are one). A tie counts half here, and as
wrong there.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rmkit.data.sources import RowError
from rmkit.evaluation.benchmarks.base import BenchmarkItem, ScoredItem, make_preference, read_part, read_side
from rmkit.evaluation.benchmarks.scores import BenchmarkResult, mean_by_part, value_of, weighted_mean
from rmkit.metrics.accuracy import pair_correct

STYLES = ("concise", "detailed", "markdown")
REQUIRED = ("chat", "code", "math", "safety")
ROWS = 1327


def parse(content: Mapping[str, Any]) -> BenchmarkItem:
    """The item of a row with `prompt`, `chosen` and `rejected`, a response of each style, and `domain`."""
    domain = read_part(content, "domain")
    part = next((name for name in REQUIRED if domain.startswith(name)), None)
    if part is None:
        raise RowError("unknown domain", f"{domain}; expected {', '.join(REQUIRED)}")
    sides = {side: read_side(content, side) for side in ("chosen", "rejected")}
    for side, responses in sides.items():
        if len(responses) != len(STYLES):
            raise RowError("missing style", f"{side}: {len(responses)} of {', '.join(STYLES)}")
    return make_preference(content, sides["chosen"], sides["rejected"], part)


def measure(items: Sequence[ScoredItem]) -> BenchmarkResult:
    """Mean accuracy of the nine comparisons of styles; easy, normal and hard; each the mean over domains.

    Hard: the rejected response has a fancier style than the chosen one; normal: the same; easy: a plainer one.
    """
    rewards = np.array([item.rewards for item in items]).reshape(-1, 2, len(STYLES))  # [item, side, style]
    cells = pair_correct(rewards[:, 0, :, None] - rewards[:, 1, None, :])  # [item, chosen style, rejected style]
    fancier = np.subtract.outer(range(len(STYLES)), range(len(STYLES)))  # chosen style less rejected style
    levels = {
        "total": cells.mean(axis=(1, 2)),
        "easy": cells[:, fancier > 0].mean(axis=1),
        "normal": cells[:, fancier == 0].mean(axis=1),
        "hard": cells[:, fancier < 0].mean(axis=1),
    }
    by_domain = {level: mean_by_part(values, items, REQUIRED) for level, values in levels.items()}
    scores = {level: weighted_mean(list(domains.values())) for level, domains in by_domain.items()}
    parts = {domain if level == "total" else f"{domain}, {level}": by_domain[level][domain]
             for domain in REQUIRED for level in levels}
    matrix = [
        [value_of(weighted_mean(list(mean_by_part(cells[:, row, column], items, REQUIRED).values())))
         for column in range(len(STYLES))]
        for row in range(len(STYLES))
    ]
    return BenchmarkResult(scores, parts, levels["total"], {"styles": STYLES, "chosen_by_rejected": matrix})
