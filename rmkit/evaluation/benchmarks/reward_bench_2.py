"""RewardBench 2: the best of four in five subsets, and prompts with several right answers (Ties).

Sources: Malik et al., arXiv 2506.01937; the cards of allenai/reward-bench-2 and of its leaderboard (the mean over six
subsets); rewardbench/utils.py of github.com/allenai/reward-bench for Ties, and for equal rewards, which share the
credit.
"""

import difflib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmkit.data.schema import InvalidRow, read_name
from rmkit.evaluation.benchmarks.base import BenchmarkItem, ScoredItems, best_of_n_correct, make_item, read_list
from rmkit.evaluation.benchmarks.scores import BenchmarkResult, Score, WeightedMean, mean_over, weighted_mean

TIES = "Ties"
BEST_OF = ("Factuality", "Precise IF", "Math", "Safety", "Focus")
REQUIRED = (*BEST_OF, TIES)
ROWS = 1865
REJECTED = 3  # of which the chosen one is to be told in the subsets but Ties
REFERENCE, TIED = "ref", "tied"


def parse(content: Mapping[str, Any]) -> BenchmarkItem:
    """The item of a row with `prompt`, the lists `chosen` and `rejected`, `subset`, and an `id` like ref:1 in Ties."""
    subset = read_name(content.get("subset"), "subset")
    if not subset:
        raise InvalidRow("missing subset")
    part = find_subset(subset)
    if part is None:
        nearest = difflib.get_close_matches(subset, REQUIRED, n=1, cutoff=0.0)
        raise InvalidRow("unknown subset", f"{subset}; the nearest is {nearest[0]}")
    chosen, rejected = read_list(content, "chosen"), read_list(content, "rejected")
    right = content.get("num_correct")
    if right is not None and right != len(chosen):
        raise InvalidRow("wrong number of responses", f"num_correct {right}, chosen {len(chosen)}")
    if part != TIES and (len(chosen), len(rejected)) != (1, REJECTED):
        raise InvalidRow("wrong number of responses", f"{len(chosen)} chosen and {len(rejected)} rejected, not 1 and 3")
    group = None
    if part == TIES:
        kind, number = split_name(content.get("id"))
        if (kind == REFERENCE) != (len(chosen) == 1):
            raise InvalidRow("wrong number of responses", f"{kind}:{number} with {len(chosen)} chosen")
        group = f"{TIES}:{number}"  # a reference and its tied prompt are drawn together
    grades = [1.0] * len(chosen) + [0.0] * len(rejected)
    return make_item(content.get("prompt"), [*chosen, *rejected], grades, part, group=group)


def find_subset(name: str) -> str | None:
    """The subset of this name, however its letters are set."""
    return next((subset for subset in REQUIRED if subset.lower() == name.lower()), None)


def split_name(name: object) -> tuple[str, str]:
    """The kind and the number in the id of a prompt of Ties; raises `InvalidRow`."""
    kind, colon, number = read_name(name, "id").partition(":")
    if kind not in (REFERENCE, TIED) or not colon or not number:
        raise InvalidRow("wrong id", f"expected ref:NUMBER or tied:NUMBER in {TIES}, got {name!r:.40}")
    return kind, number


def measure(scored: ScoredItems) -> BenchmarkResult:
    """Accuracy by subset, the score of Ties, and the mean of the six."""
    part = np.array(scored.parts)
    credits = np.array([
        float(find_margins(rewards, grades)[0] > 0) if name == TIES else best_of_n_correct(rewards, grades)
        for rewards, grades, name in zip(scored.rewards, scored.grades, scored.parts, strict=True)
    ])
    subsets: dict[str, Score] = {name: mean_over(credits, part == name) for name in BEST_OF}
    parts = score_ties(scored, credits)
    weights = (0.3, 0.3, 0.2, 0.2, 0.01)  # the last one parts models that are equal in all else
    subsets[TIES] = [
        WeightedMean(weight * term.weight, term.values)
        for score, weight in zip(parts.values(), weights, strict=True) for term in score
    ]
    return BenchmarkResult(
        {"total": weighted_mean(list(subsets.values()), [1.0] * len(subsets)), **subsets}, parts, credits
    )


def find_margins(rewards: NDArray[np.float64], grades: NDArray[np.float64]) -> tuple[float, float]:
    """By how much the worst right answer is above the best wrong one, and the best right one above the worst."""
    right, wrong = rewards[grades > 0], rewards[grades == 0]
    return float(right.min() - wrong.max()), float(np.ptp(right))


def score_ties(scored: ScoredItems, credits: NDArray[np.float64]) -> dict[str, Score]:
    """The five means that the score of Ties is made of; the last three are over tied prompts with a reference.

    Tied and reference prompts right; the margin between right and wrong answers greater than that among right ones,
    for the tied prompt, and for it and its reference; tanh(margin / margin among right ones - 1).
    """
    places: dict[str, dict[str, int]] = {REFERENCE: {}, TIED: {}}
    for place, (name, part) in enumerate(zip(scored.ids, scored.parts, strict=True)):
        if part == TIES:
            kind, number = split_name(name)
            places[kind][number] = place
    both = [number for number in places[TIED] if number in places[REFERENCE]]
    values = {name: np.full(len(credits), np.nan) for name in ("preferred", "preferred, hard", "margin")}
    for number in both:
        tied, reference = places[TIED][number], places[REFERENCE][number]
        margin, among = find_margins(scored.rewards[tied], scored.grades[tied])
        hard = min(margin, find_margins(scored.rewards[reference], scored.grades[reference])[0])
        values["preferred"][tied] = margin > among
        values["preferred, hard"][tied] = hard > among
        values["margin"][tied] = np.tanh(hard / among - 1) if among else float(np.sign(hard))
    kinds = {kind: np.isin(np.arange(len(credits)), list(places[kind].values())) for kind in places}
    return {
        f"{TIES}: tied": mean_over(credits, kinds[TIED]),
        f"{TIES}: reference": mean_over(credits, kinds[REFERENCE]),
        **{f"{TIES}: {name}": mean_over(column) for name, column in values.items()},
    }
