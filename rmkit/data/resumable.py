"""A resumable pair of JSON lines files: rows with new columns, and rejected rows, written a block at a time.

A killed run continues at the end of the last complete block: both files are truncated to the sizes in `progress.json`.
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
from rmkit.data.rejected_rows import format_rejected
from rmkit.data.sources import Row, RowError

PROGRESS = "progress.json"
QUARANTINE = "quarantine.jsonl"


class ResumableJsonlWriter:
    """Writes `directory`/NAME.jsonl and `directory`/quarantine.jsonl; `summary` counts rows in, out and rejected.

    The files get their names only when all is written.
    """

    def __init__(self, directory: Path, name: str) -> None:
        self.directory, self.name = directory, name
        self.names = [f"{name}.jsonl", QUARANTINE]
        progress = read_json(directory / PROGRESS) or {"sizes": [0, 0], "summary": {"rows_out": {name: 0}}}
        self.summary = ReadSummary(**progress["summary"])
        self.files = []
        for file_name, size in zip(self.names, progress["sizes"], strict=True):
            draft = directory / (file_name + PARTIAL_SUFFIX)
            if (directory / file_name).exists():  # the last run was killed after the last block
                (directory / file_name).replace(draft)
            draft.touch()
            os.truncate(draft, size)
            self.files.append(draft.open("ab"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for file in self.files:
            file.close()
        if error is None:
            for file_name in self.names:
                (self.directory / (file_name + PARTIAL_SUFFIX)).replace(self.directory / file_name)

    def write(self, rows: Iterable[tuple[Row, Mapping[str, Any] | RowError]]) -> None:
        """Add a block: each row with its new columns, or with the reason why it is rejected."""
        lines: list[list[str]] = [[], []]
        for row, result in rows:
            self.summary.rows_in += 1
            if isinstance(result, RowError):
                counts = self.summary.quarantined
                counts[result.reason] = counts.get(result.reason, 0) + 1
                self.summary.first_seen.setdefault(result.reason, f"{row.file}:{row.line}")
                lines[1].append(format_rejected(row, result))
                continue
            assert not isinstance(row.content, RowError)
            self.summary.rows_out[self.name] += 1
            lines[0].append(json.dumps({**row.content, **result}, ensure_ascii=False, default=str) + "\n")
        for file, added in zip(self.files, lines, strict=True):
            # A lone surrogate in a row is written as the JSON escape that it came from.
            file.write("".join(added).encode("utf-8", errors="backslashreplace"))
            file.flush()
            os.fsync(file.fileno())
        sizes = [file.tell() for file in self.files]
        write_json(self.directory / PROGRESS, {"key": PROGRESS, "sizes": sizes, "summary": asdict(self.summary)})


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as JSON lines."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def append_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Append rows as JSON lines; they are on disk when this returns. Read them with `read_partial_jsonl`."""
    with path.open("a", encoding="utf-8") as file:
        file.write("\n")  # ends a line that a killed process left incomplete
        file.writelines(json.dumps(row) + "\n" for row in rows)
        file.flush()
        os.fsync(file.fileno())


def read_partial_jsonl(path: Path) -> list[dict[str, Any]]:
    """The rows of a file of `append_jsonl`, without incomplete lines; none if there is no file."""
    rows = []
    if path.exists():
        for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
            try:
                rows.append(json.loads(line))
            except ValueError:
                continue
    return rows
