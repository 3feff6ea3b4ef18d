"""Items, the common form of all benchmarks' rows: a prompt with its responses and a grade for each of them."""

import difflib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rmkit.core.stage import PARTIAL_SUFFIX
from rmkit.data.reading import ReadSummary
from rmkit.data.rejected_rows import RejectedRows
from rmkit.data.samples import read_columns
from rmkit.data.schema import Messages, check_not_empty, read_name
from rmkit.data.sources import Row, RowError
from rmkit.metrics.accuracy import pair_correct

ORIGINAL = "original"  # the perturbation of unperturbed responses
ITEMS = "items.jsonl"
Perturbations = Mapping[str, Callable[[str, str], str]]


@dataclass(frozen=True)
class BenchmarkItem:
    """A prompt, its responses and their grades (higher is better, equal grades are equally good).

    `part` is the subset that the item belongs to; the bootstrap draws items of one `group` together.
    """

    prompt: Messages
    responses: list[Messages]
    grades: list[float]
    part: str
    group: str


class ScoredItem(NamedTuple):
    """An item that a model has scored; `grades` and `rewards` are over [response].

    `number` is its position in the benchmark, by which two models' rewards are joined.
    """

    number: int
    id: str
    part: str
    group: str
    grades: NDArray[np.float64]
    rewards: NDArray[np.float64]


def make_item(
    prompt: object, sides: Sequence[object], grades: Sequence[float], part: str, *, group: str | None = None
) -> BenchmarkItem:
    """The item of a prompt and its responses, each text or messages; the default group is the prompt.

    Raises `RowError`.
    """
    messages, responses = read_columns({"prompt": prompt, "responses": list(sides)})
    check_not_empty(messages, "prompt")
    for response in responses:
        check_not_empty(response, "response")
    return BenchmarkItem(messages, responses, list(grades), part, str(messages) if group is None else group)


def first_column(content: Mapping[str, Any], names: Iterable[str]) -> Any:
    """The value of the first of these columns that the row has; None where it has none."""
    return next((content[name] for name in names if content.get(name) is not None), None)


def read_part(content: Mapping[str, Any], column: str) -> str:
    """The column that names a row's part; raises `RowError` where it is missing."""
    name = read_name(content.get(column), column)
    if not name:
        raise RowError(f"missing {column}")
    return name


def unknown_subset(subset: str, subsets: Sequence[str]) -> RowError:
    """The error for a subset that is not one of `subsets`."""
    nearest = difflib.get_close_matches(subset, subsets, n=1, cutoff=0.0)
    return RowError("unknown subset", f"{subset}; the nearest is {nearest[0]}")


def read_side(content: Mapping[str, Any], side: str, *, single: bool = False) -> list[Any]:
    """The responses of a side, at least one; with `single`, also one response without a list. Raises `RowError`."""
    value = content.get(side)
    if value is None:
        raise RowError(f"missing {side}")
    if not isinstance(value, list) or value and isinstance(value[0], dict):
        if not single:
            raise RowError("wrong type", f"{side}: expected a list of responses, got one response")
        return [value]
    if not value:
        raise RowError(f"empty {side}")
    return value


def make_preference(
    content: Mapping[str, Any], chosen: Sequence[object], rejected: Sequence[object], part: str,
    group: str | None = None,
) -> BenchmarkItem:
    """The item of a row whose chosen responses are equally good, and better than the rejected ones."""
    grades = [1.0] * len(chosen) + [0.0] * len(rejected)
    return make_item(content.get("prompt"), [*chosen, *rejected], grades, part, group=group)


def write_items(
    rows: Iterable[Row],
    parse: Callable[[Mapping[str, Any]], BenchmarkItem],
    directory: Path,
    perturbations: Perturbations,
) -> tuple[ReadSummary, Counter[str]]:
    """Write items, original and perturbed, to `directory`/items.jsonl, and invalid rows to quarantine.jsonl.

    A perturbation takes the text of the prompt's last message and a response; it is applied to all responses of an
    item. Returns the summary of the rows, and the number of items of each part.
    """
    parts: Counter[str] = Counter()
    summary = ReadSummary()
    partial = directory / (ITEMS + PARTIAL_SUFFIX)
    with RejectedRows(directory / "quarantine.jsonl") as quarantine, partial.open("w", encoding="utf-8") as file:
        for row in rows:
            summary.rows_in += 1
            try:
                item = parse(row.columns)
            except RowError as error:
                quarantine.add(row, error)
                continue
            name = row.columns.get("id")
            shared = {"number": parts.total(), "id": str(row.line if name is None else name)}
            parts[item.part] += 1
            file.writelines(json.dumps({**shared, **entry}) + "\n" for entry in item_lines(item, perturbations))
    partial.replace(directory / ITEMS)
    summary.rows_out = {"items": parts.total()}
    summary.quarantined, summary.first_seen = dict(quarantine.reasons), quarantine.first_seen
    return summary, parts


def item_lines(item: BenchmarkItem, perturbations: Perturbations) -> Iterator[dict[str, Any]]:
    """The lines of an item: the original, then each perturbation."""
    shared = {"prompt": item.prompt, "grades": item.grades, "part": item.part, "group": item.group}
    yield {**shared, "perturbation": ORIGINAL, "responses": item.responses}
    question = item.prompt[-1]["content"]
    for name, perturb in perturbations.items():
        changed = [
            [*response[:-1], {**response[-1], "content": perturb(question, response[-1]["content"])}]
            for response in item.responses
        ]
        yield {**shared, "perturbation": name, "responses": changed}


def response_lengths(row: Mapping[str, Any]) -> list[int]:
    """Characters of each response of a line: the rewards of the baseline that prefers the longest response."""
    return [len(response[-1]["content"]) for response in row["responses"]]


def read_scored(
    path: Path, rewards: Callable[[Mapping[str, Any]], Sequence[float]] = itemgetter("rewards")
) -> dict[str, list[ScoredItem]]:
    """Items by perturbation, the originals first, with the rewards that `rewards` reads from each line."""
    by_perturbation: dict[str, list[ScoredItem]] = {ORIGINAL: []}
    with path.open(encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            grades, scores = (np.array(values, dtype=np.float64) for values in (row["grades"], rewards(row)))
            item = ScoredItem(row["number"], row["id"], row["part"], row["group"], grades, scores)
            by_perturbation.setdefault(row["perturbation"], []).append(item)
    return by_perturbation


def best_of_n_correct(items: Sequence[ScoredItem]) -> NDArray[np.float64]:
    """Probability [item] that the response of highest reward, drawn among equals, has the highest grade."""
    return np.array([(grades[rewards == rewards.max()] == grades.max()).mean() for *_, grades, rewards in items])


def pairs_correct(items: Sequence[ScoredItem]) -> NDArray[np.float64]:
    """Share [item] of the pairs of different grade that the rewards order like the grades, equal rewards counting half.

    NaN where all grades are equal.
    """
    correct = np.full(len(items), np.nan)
    for index, (*_, grades, rewards) in enumerate(items):
        better, worse = np.nonzero(grades[:, None] > grades[None, :])
        if len(better):
            correct[index] = pair_correct(rewards[better] - rewards[worse]).mean()
    return correct
