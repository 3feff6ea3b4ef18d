"""Best-of-n and other files with several responses to a prompt and a column that says which are better."""

from collections.abc import Mapping, Sequence
from typing import Any

from rmkit.data.samples import NAMES
from rmkit.data.schema import read_name, read_number
from rmkit.data.sources import RowError
from rmkit.evaluation.benchmarks.base import (
    BenchmarkItem, ScoredItem, best_of_n_correct, first_column, make_item, make_preference, pairs_correct, read_side,
)
from rmkit.evaluation.benchmarks.scores import BenchmarkResult, mean_by_part, mean_over

GRADES = ("grades", "scores", "ratings")
PARTS = ("subset", "domain", "category", "source")
WHOLE = "all"


def parse(content: Mapping[str, Any]) -> BenchmarkItem:
    """The item of a row with `prompt` and one of: `chosen` and `rejected`; `responses` and `grades`; both and `best`.

    `chosen` and `rejected` are one response or a list of them, text or messages; `grades` (`scores`, `ratings`) a
    number for each response; `best` the index of the best one, from 0. `subset`, `domain`, `category` or `source`
    names the part that the row belongs to.
    """
    part = read_name(first_column(content, PARTS), " or ".join(PARTS)) or WHOLE
    responses = first_column(content, NAMES)
    if responses is None:
        chosen, rejected = (read_side(content, side, single=True) for side in ("chosen", "rejected"))
        return make_preference(content, chosen, rejected, part)
    if not isinstance(responses, list) or len(responses) < 2:
        raise RowError("fewer than two responses")
    return make_item(content.get("prompt"), responses, read_grades(content, len(responses)), part)


def read_grades(content: Mapping[str, Any], responses: int) -> list[float]:
    """The grades of a row's responses; raises `RowError`."""
    best = content.get("best")
    if best is not None:
        if isinstance(best, bool) or not isinstance(best, int) or not 0 <= best < responses:
            raise RowError("wrong best", f"expected an index below {responses}, got {best!r:.40}")
        return [float(index == best) for index in range(responses)]
    column = next((name for name in GRADES if content.get(name) is not None), None)
    if column is None:
        raise RowError("missing grades", f"expected {', '.join(GRADES)} or best beside the responses")
    values = content[column]
    if not isinstance(values, list) or len(values) != responses:
        raise RowError("wrong number of grades", f"{column}: not one for each of {responses} responses")
    grades = [read_number(value, column) for value in values]
    if len(set(grades)) < 2:
        raise RowError("equal grades", f"{column}: all {grades[0]:g}")
    return grades


def measure(items: Sequence[ScoredItem]) -> BenchmarkResult:
    """How often the response of highest reward is the best one, and the share of pairs in the right order."""
    best, pairs = best_of_n_correct(items), pairs_correct(items)
    return BenchmarkResult({"best": mean_over(best), "pairs": mean_over(pairs)}, mean_by_part(best, items), best)
