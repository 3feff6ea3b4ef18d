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

from rmkit.core.stage import DRAFT
from rmkit.data.reading import Reading
from rmkit.data.rejected_rows import Quarantine
from rmkit.data.samples import read_columns
from rmkit.data.schema import Messages, Unusable
from rmkit.data.sources import Fault, Row
from rmkit.metrics.accuracy import pair_credits

AS_GIVEN = "as given"  # where responses that were reworded have the rewording's name
ITEMS = "items.jsonl"


@dataclass(frozen=True)
class Item:
    """A prompt, its responses and their grades (the higher the better; equal ones are equally good).

    `part` is the benchmark's name for what it belongs to; `group` names what a bootstrap draws together.
    """

    prompt: Messages
    responses: list[Messages]
    grades: list[float]
    part: str
    group: str


@dataclass
class Scored:
    """The items that a model has scored, each list over [item]; `rewards` and `grades` over [response] in it.

    `numbers` are the items' places among all that were read, by which two models' rewards are joined.
    """

    numbers: list[int] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    grades: list[NDArray[np.float64]] = field(default_factory=list)
    rewards: list[NDArray[np.float64]] = field(default_factory=list)

    def select(self, numbers: Iterable[int]) -> "Scored":
        """The same with the items of these numbers alone."""
        wanted = set(numbers)
        places = [place for place, number in enumerate(self.numbers) if number in wanted]
        return Scored(**{name: [column[place] for place in places] for name, column in vars(self).items()})


def make_item(
    prompt: object, sides: Sequence[object], grades: Sequence[float], part: str, *, group: str | None = None
) -> Item:
    """The item of a prompt and its responses, as pairs have them (text or messages); raises `Unusable`."""
    messages, responses = read_columns({"prompt": prompt, "responses": list(sides)})
    for name, content in (("prompt", messages), *(("response", response) for response in responses)):
        if not any(message["content"].strip() for message in content):
            raise Unusable(f"empty {name}")
    return Item(messages, responses, list(grades), part, str(messages) if group is None else group)


def read_list(content: Mapping[str, Any], column: str) -> list[Any]:
    """A column that holds a list with something in it; raises `Unusable`."""
    value = content.get(column)
    if value is None:
        raise Unusable(f"missing {column}")
    if not isinstance(value, list) or value and isinstance(value[0], dict):
        raise Unusable("wrong type", f"{column}: expected a list of responses, got one response")
    if not value:
        raise Unusable(f"empty {column}")
    return value


def write_items(
    rows: Iterable[Row],
    parse: Callable[[Mapping[str, Any]], Item],
    directory: Path,
    rewordings: Mapping[str, Callable[[str, str], str]],
) -> tuple[Reading, Counter[str]]:
    """Write the items in `rows`, as given and reworded, to `directory`/items.jsonl, the rest to quarantine.jsonl.

    A rewording makes another text of a prompt's last message and a response; every response of an item is reworded
    alike. Returns what became of the rows, and how many items each part has.
    """
    parts: Counter[str] = Counter()
    with Quarantine(directory / "quarantine.jsonl") as quarantine:
        reading = Reading()
        draft = directory / (ITEMS + DRAFT)
        with draft.open("w", encoding="utf-8") as file:
            for row in rows:
                reading.rows_in += 1
                item = read_item(row, parse)
                if isinstance(item, Fault):
                    quarantine.add(row, item)
                    continue
                number = sum(parts.values())
                parts[item.part] += 1
                assert not isinstance(row.content, Fault)
                name = row.content.get("id")
                known = {"number": number, "id": str(row.line if name is None else name)}
                for entry in spell_item(item, rewordings):
                    file.write(json.dumps({**known, **entry}) + "\n")
        draft.replace(directory / ITEMS)
    reading.rows_out = {"items": sum(parts.values())}
    reading.quarantined, reading.first_places = dict(quarantine.reasons), quarantine.first
    return reading, parts


def read_item(row: Row, parse: Callable[[Mapping[str, Any]], Item]) -> Item | Fault:
    """A row's item, or its fault."""
    if isinstance(row.content, Fault):
        return row.content
    try:
        return parse(row.content)
    except Unusable as unusable:
        return Fault(*unusable.args)


def spell_item(item: Item, rewordings: Mapping[str, Callable[[str, str], str]]) -> Iterator[dict[str, Any]]:
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
) -> dict[str, Scored]:
    """Items with what `rmkit score` made of them, or with what `reward` does: by rewording, those as given first."""
    found: dict[str, Scored] = {AS_GIVEN: Scored()}
    with path.open(encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            scored = found.setdefault(row["rewording"], Scored())
            scored.numbers.append(row["number"])
            scored.ids.append(row["id"])
            scored.parts.append(row["part"])
            scored.groups.append(row["group"])
            scored.grades.append(np.array(row["grades"], dtype=np.float64))
            scored.rewards.append(np.array(reward(row), dtype=np.float64))
    return found


def top_credit(rewards: NDArray[np.float64], grades: NDArray[np.float64]) -> float:
    """Chance that the response of highest reward, drawn among equals, is one of highest grade."""
    best = rewards == rewards.max()
    return float((grades[best] == grades.max()).mean())


def pairs_credit(rewards: NDArray[np.float64], grades: NDArray[np.float64]) -> float:
    """Share of the pairs of different grade that the rewards order as the grades, equal rewards counting half."""
    better, worse = np.nonzero(grades[:, None] > grades[None, :])
    return float(pair_credits(rewards[better] - rewards[worse]).mean()) if len(better) else float("nan")
