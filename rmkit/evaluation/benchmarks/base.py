"""Items: what a row of any benchmark becomes, a prompt with its responses and a grade for each of them."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmkit.core.stage import PARTIAL_SUFFIX
from rmkit.data.reading import ReadSummary
from rmkit.data.rejected_rows import RejectedRows
from rmkit.data.samples import read_columns
from rmkit.data.schema import InvalidRow, Messages
from rmkit.data.sources import Row, RowError
from rmkit.metrics.accuracy import pair_correct

AS_GIVEN = "as given"  # where responses that were reworded have the rewording's name
ITEMS = "items.jsonl"


@dataclass(frozen=True)
class BenchmarkItem:
    """A prompt, its responses and their grades (the higher the better; equal ones are equally good).

    `part` is the benchmark's name for what it belongs to; `group` names what a bootstrap draws together.
    """

    prompt: Messages
    responses: list[Messages]
    grades: list[float]
    part: str
    group: str


@dataclass
class ScoredItems:
    """The items that a model has scored, each list over [item]; `rewards` and `grades` over [response] in it.

    `numbers` are the items' places among all that were read, by which two models' rewards are joined.
    """

    numbers: list[int] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    grades: list[NDArray[np.float64]] = field(default_factory=list)
    rewards: list[NDArray[np.float64]] = field(default_factory=list)

    def select(self, numbers: Iterable[int]) -> "ScoredItems":
        """The same with the items of these numbers alone."""
        wanted = set(numbers)
        places = [place for place, number in enumerate(self.numbers) if number in wanted]
        return ScoredItems(**{name: [column[place] for place in places] for name, column in vars(self).items()})


def make_item(
    prompt: object, sides: Sequence[object], grades: Sequence[float], part: str, *, group: str | None = None
) -> BenchmarkItem:
    """The item of a prompt and its responses, as pairs have them (text or messages); raises `InvalidRow`."""
    messages, responses = read_columns({"prompt": prompt, "responses": list(sides)})
    for name, content in (("prompt", messages), *(("response", response) for response in responses)):
        if not any(message["content"].strip() for message in content):
            raise InvalidRow(f"empty {name}")
    return BenchmarkItem(messages, responses, list(grades), part, str(messages) if group is None else group)


def read_list(content: Mapping[str, Any], column: str) -> list[Any]:
    """A column that holds a list with something in it; raises `InvalidRow`."""
    value = content.get(column)
    if value is None:
        raise InvalidRow(f"missing {column}")
    if not isinstance(value, list) or value and isinstance(value[0], dict):
        raise InvalidRow("wrong type", f"{column}: expected a list of responses, got one response")
    if not value:
        raise InvalidRow(f"empty {column}")
    return value


def write_items(
    rows: Iterable[Row],
    parse: Callable[[Mapping[str, Any]], BenchmarkItem],
    directory: Path,
    rewordings: Mapping[str, Callable[[str, str], str]],
) -> tuple[ReadSummary, Counter[str]]:
    """Write the items in `rows`, as given and reworded, to `directory`/items.jsonl, the rest to quarantine.jsonl.

    A rewording makes another text of a prompt's last message and a response; every response of an item is reworded
    alike. Returns what became of the rows, and how many items each part has.
    """
    parts: Counter[str] = Counter()
    with RejectedRows(directory / "quarantine.jsonl") as quarantine:
        reading = ReadSummary()
        draft = directory / (ITEMS + PARTIAL_SUFFIX)
        with draft.open("w", encoding="utf-8") as file:
            for row in rows:
                reading.rows_in += 1
                item = read_item(row, parse)
                if isinstance(item, RowError):
                    quarantine.add(row, item)
                    continue
                number = sum(parts.values())
                parts[item.part] += 1
                assert not isinstance(row.content, RowError)
                name = row.content.get("id")
                known = {"number": number, "id": str(row.line if name is None else name)}
                for entry in item_id(item, rewordings):
                    file.write(json.dumps({**known, **entry}) + "\n")
        draft.replace(directory / ITEMS)
    reading.rows_out = {"items": sum(parts.values())}
    reading.quarantined, reading.first_seen = dict(quarantine.reasons), quarantine.first_seen
    return reading, parts


def read_item(row: Row, parse: Callable[[Mapping[str, Any]], BenchmarkItem]) -> BenchmarkItem | RowError:
    """A row's item, or its fault."""
    if isinstance(row.content, RowError):
        return row.content
    try:
        return parse(row.content)
    except InvalidRow as unusable:
        return RowError(*unusable.args)


def item_id(item: BenchmarkItem, rewordings: Mapping[str, Callable[[str, str], str]]) -> Iterator[dict[str, Any]]:
    """The lines of an item: as given, then in each rewording."""
    known = {"prompt": item.prompt, "grades": item.grades, "part": item.part, "group": item.group}
    yield {**known, "rewording": AS_GIVEN, "responses": item.responses}
    asked = item.prompt[-1]["content"]
    for name, reword in rewordings.items():
        changed = [
            [*response[:-1], {**response[-1], "content": reword(asked, response[-1]["content"])}]
            for response in item.responses
        ]
        yield {**known, "rewording": name, "responses": changed}


def count_characters(row: Mapping[str, Any]) -> list[int]:
    """How long each response of a line is: what a model that takes the longest would give as its rewards."""
    return [len(response[-1]["content"]) for response in row["responses"]]


def read_scored(
    path: Path, reward: Callable[[Mapping[str, Any]], Sequence[float]] = itemgetter("rewards")
) -> dict[str, ScoredItems]:
    """Items with what `rmkit score` made of them, or with what `reward` does: by rewording, those as given first."""
    found: dict[str, ScoredItems] = {AS_GIVEN: ScoredItems()}
    with path.open(encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            scored = found.setdefault(row["rewording"], ScoredItems())
            scored.numbers.append(row["number"])
            scored.ids.append(row["id"])
            scored.parts.append(row["part"])
            scored.groups.append(row["group"])
            scored.grades.append(np.array(row["grades"], dtype=np.float64))
            scored.rewards.append(np.array(reward(row), dtype=np.float64))
    return found


def best_of_n_correct(rewards: NDArray[np.float64], grades: NDArray[np.float64]) -> float:
    """Chance that the response of highest reward, drawn among equals, is one of highest grade."""
    best = rewards == rewards.max()
    return float((grades[best] == grades.max()).mean())


def pairs_correct(rewards: NDArray[np.float64], grades: NDArray[np.float64]) -> float:
    """Share of the pairs of different grade that the rewards order as the grades, equal rewards counting half."""
    better, worse = np.nonzero(grades[:, None] > grades[None, :])
    return float(pair_correct(rewards[better] - rewards[worse]).mean()) if len(better) else float("nan")
