"""Quarantine: the rows that cannot be used, with their file, line and reason, as JSON lines."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from tqdm import tqdm

from rmkit.core.checks import InputError
from rmkit.core.stage import PARTIAL_SUFFIX
from rmkit.data.sources import Row, RowError, read_rows

Parsed = TypeVar("Parsed")


class RejectedRows:
    """Writes `file`, `line`, `reason`, `detail` and `row` (as it stood in its file) of every rejected row.

    `reasons` counts them; `first_seen` is the file and line of each reason's first row. The file gets its name only
    when it is complete, also when the data is refused, since it then says why.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.reasons: Counter[str] = Counter()
        self.first_seen: dict[str, str] = {}
        self.draft = path.with_name(path.name + PARTIAL_SUFFIX)
        # A lone surrogate in a row is written as the JSON escape that it came from.
        self.file = self.draft.open("w", encoding="utf-8", errors="backslashreplace")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.file.close()
        if error is None or isinstance(error, InputError):
            self.draft.replace(self.path)

    def add(self, row: Row, error: RowError) -> None:
        """Reject a row."""
        self.reasons[error.reason] += 1
        self.first_seen.setdefault(error.reason, f"{row.file}:{row.line}")
        self.file.write(format_rejected(row, error))


def format_rejected(row: Row, error: RowError) -> str:
    """A rejected row as a line of JSON."""
    entry = {"file": row.file, "line": row.line, "reason": error.reason, "detail": error.detail, "row": row.raw}
    return json.dumps(entry, ensure_ascii=False, default=str) + "\n"


def parse_rows(
    data: str, split: str, parse: Callable[[Row], Parsed], quarantine: RejectedRows
) -> Iterator[tuple[Row, Parsed]]:
    """Each row of `data` with what `parse` makes of it; rows for which it raises `RowError` are rejected."""
    for row in tqdm(read_rows(data, split), f"Reading {data}", unit=" rows", disable=None):
        try:
            parsed = parse(row)
        except RowError as error:
            quarantine.add(row, error)
        else:
            yield row, parsed
