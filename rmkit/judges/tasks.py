"""Rows of pairs or samples, and the tasks of a judge on them."""

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from datasets import Dataset

from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.data.parquet import PAIR_SIDES, load_split, stream_rows
from rmkit.data.reading import PairWriter
from rmkit.data.rejected_rows import RejectedRows, parse_rows
from rmkit.data.samples import parse_responses
from rmkit.data.sources import find_files
from rmkit.judges.base import JudgeTask, Messages

COLUMNS = ("id", "prompt", "responses")
REQUEST = "request"  # column of the synthetic data
ROWS, QUARANTINE = "rows.parquet", "quarantine.jsonl"


class JudgedRow(NamedTuple):
    """A prompt with its responses by name: `chosen` and `rejected`, or their indices."""

    id: str
    prompt: Messages
    responses: dict[str, Messages]
    request: Mapping[str, Any] | None


def load_table(data: str, split: str) -> Dataset | None:
    """The pairs or samples of a Parquet file or a stage's folder; None for files of other formats.

    Raises `InputError` for a table without the columns and for files that cannot be found.
    """
    if Path(data).suffix != ".parquet" and not (Path(data) / f"{split}.parquet").is_file():
        find_files(data)
        return None
    rows = load_split(data, split, ("id", "prompt"))
    wanted = ("responses",) if "responses" in rows.column_names else PAIR_SIDES[1:]
    missing = [name for name in wanted if name not in rows.column_names]
    if missing or not isinstance(rows[0]["prompt"], list):
        raise_input_error(
            f"data {data}",
            "chosen and rejected, or responses, as messages",
            Verbatim(f"no {', '.join(missing)}" if missing else "text"),
            "`rmkit read` makes pairs of other formats.",
        )
    return rows


def read_responses(data: str, split: str, folder: Path) -> Dataset:
    """Rows of any file with `prompt`, and `responses` or `response`, read into `folder`/rows.parquet.

    Invalid rows go to `folder`/quarantine.jsonl. Raises `InputError` if no row is left.
    """
    path = folder / ROWS
    if not path.exists():
        count = 0
        with RejectedRows(folder / QUARANTINE) as rejected, PairWriter(path, (*COLUMNS, REQUEST)) as out:
            for row, parsed in parse_rows(data, split, parse_responses, rejected):
                count += 1
                request = row.columns.get(REQUEST)
                out.write({**dict(zip(COLUMNS, (f"{Path(row.file).name}:{row.line}", *parsed), strict=True)),
                           REQUEST: request if isinstance(request, dict) else None})
            if not count:
                raise_input_error(
                    f"data {data}",
                    "a row with prompt and responses",
                    Verbatim(dict(rejected.reasons)),
                    f"See {rejected.path}.",
                )
    return load_split(path, split, COLUMNS)


def check_unique_ids(rows: Dataset) -> None:
    """Refuse rows with equal ids, by which answers are kept."""
    ids = rows["id"][:]
    if len(set(ids)) != len(ids):
        raise_input_error(
            "data",
            "different ids",
            Verbatim(f"{len(ids) - len(set(ids))} repeated ones"),
            "Read the data again by `rmkit read`.",
        )


def iterate_rows(rows: Dataset) -> Iterator[JudgedRow]:
    """The rows, in order."""
    paired = "chosen" in rows.column_names
    columns = ["id", *PAIR_SIDES] if paired else list(COLUMNS)
    if REQUEST in rows.column_names:
        columns.append(REQUEST)
    for row in stream_rows(rows, columns):
        sides = {side: row[side] for side in PAIR_SIDES[1:]} if paired else {
            str(index): response for index, response in enumerate(row["responses"])}
        yield JudgedRow(row["id"], row["prompt"], sides, row.get(REQUEST))


def list_tasks(row: JudgedRow, responses: int) -> list[JudgeTask]:
    """A row's tasks: one for each response, or for each two of them."""
    return [
        JudgeTask("/".join((row.id, *names)), row.prompt, tuple(row.responses[name] for name in names), row.request)
        for names in itertools.combinations(row.responses, responses)
    ]
