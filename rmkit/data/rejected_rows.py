"""Quarantine: the rows that cannot be used, with their place and reason, as JSON lines."""

import json
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Self

from rmkit.core.checks import InputError
from rmkit.data.sources import Row, RowError


class RejectedRows:
    """Writes `file`, `line`, `reason`, `detail` and `row` (as it stood in its file) of every row set aside.

    `reasons` counts them; `first` names the first place of each. The file has its name only once it is whole, also
    when the data is refused, since it then says why.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.reasons: Counter[str] = Counter()
        self.first: dict[str, str] = {}
        self.draft = path.with_name(path.name + ".part")
        # A lone surrogate out of a row is written as the JSON escape that it came from.
        self.file = self.draft.open("w", encoding="utf-8", errors="backslashreplace")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.file.close()
        if error is None or isinstance(error, InputError):
            self.draft.replace(self.path)

    def add(self, row: Row, fault: RowError) -> None:
        """Set a row aside."""
        self.reasons[fault.reason] += 1
        self.first.setdefault(fault.reason, f"{row.file}:{row.line}")
        self.file.write(format_entry(row, fault))


def format_entry(row: Row, fault: RowError) -> str:
    """The line of a row set aside."""
    entry = {"file": row.file, "line": row.line, **fault._asdict(), "row": row.raw}
    return json.dumps(entry, ensure_ascii=False, default=str) + "\n"
