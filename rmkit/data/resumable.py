"""Ledger: rows with what was found of them, and a quarantine, written a block at a time so that a killed run goes on.

The two files of JSON lines are cut back to where the last whole block ended, which `progress.json` says.
"""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rmkit.core.stage import PARTIAL_SUFFIX, read_json, write_json
from rmkit.data.reading import ReadSummary
from rmkit.data.rejected_rows import format_entry
from rmkit.data.sources import Row, RowError

PROGRESS = "progress.json"
QUARANTINE = "quarantine.jsonl"


class ResumableJsonlWriter:
    """Writes `directory`/NAME.jsonl and `directory`/quarantine.jsonl; `reading` counts what became of the rows.

    The files have their names only once all is written.
    """

    def __init__(self, directory: Path, name: str) -> None:
        self.directory, self.name = directory, name
        self.files = [f"{name}.jsonl", QUARANTINE]
        progress = read_json(directory / PROGRESS) or {"sizes": [0, 0], "reading": {"rows_out": {name: 0}}}
        self.reading = ReadSummary(**progress["reading"])
        self.drafts = []
        for file, size in zip(self.files, progress["sizes"], strict=True):
            draft = directory / (file + PARTIAL_SUFFIX)
            if (directory / file).exists():  # it was killed after the last block
                (directory / file).replace(draft)
            draft.touch()
            os.truncate(draft, size)
            self.drafts.append(draft.open("ab"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for draft in self.drafts:
            draft.close()
        if error is None:
            for file in self.files:
                (self.directory / (file + PARTIAL_SUFFIX)).replace(self.directory / file)

    def write(self, rows: Iterable[tuple[Row, Mapping[str, Any] | RowError]]) -> None:
        """Add a block: each row with the columns that were found for it, or set aside for its fault."""
        lines: list[list[str]] = [[], []]
        for row, found in rows:
            self.reading.rows_in += 1
            if isinstance(found, RowError):
                counts = self.reading.quarantined
                counts[found.reason] = counts.get(found.reason, 0) + 1
                self.reading.first_places.setdefault(found.reason, f"{row.file}:{row.line}")
                lines[1].append(format_entry(row, found))
                continue
            assert not isinstance(row.content, RowError)
            self.reading.rows_out[self.name] += 1
            lines[0].append(json.dumps({**row.content, **found}, ensure_ascii=False, default=str) + "\n")
        for draft, added in zip(self.drafts, lines, strict=True):
            # A lone surrogate out of a row is written as the JSON escape that it came from.
            draft.write("".join(added).encode("utf-8", errors="backslashreplace"))
            draft.flush()
            os.fsync(draft.fileno())
        sizes = [draft.tell() for draft in self.drafts]
        write_json(self.directory / PROGRESS, {"key": PROGRESS, "sizes": sizes, "reading": asdict(self.reading)})
