"""The docket: the tasks that rows of pairs or samples make, and where each one's answers belong."""

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from datasets import Dataset
from tqdm import tqdm

from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.data.parquet import PAIR_SIDES, load_split, stream_rows
from rmkit.data.reading import PairWriter
from rmkit.data.rejected_rows import RejectedRows
from rmkit.data.samples import parse_responses
from rmkit.data.sources import RowError
from rmkit.data.sources import read_rows as read_source
from rmkit.judges.base import JudgeTask, Messages

COLUMNS = ("id", "prompt", "responses")
QUARANTINE = "quarantine.jsonl"


class Row(NamedTuple):
    """A prompt with its responses, and what each is called: `chosen` and `rejected`, or a number."""

    id: str
    prompt: Messages
    responses: dict[str, Messages]


def is_table(data: str, split: str) -> bool:
    """Whether `data` is a stage's folder with this split, or a Parquet file; anything else is read as it came."""
    return Path(data).suffix == ".parquet" or (Path(data) / f"{split}.parquet").is_file()


def load_table(data: str, split: str) -> Dataset:
    """The pairs, or the samples, of a table."""
    rows = load_split(data, split, ("id", "prompt"))
    wanted = ("responses",) if "responses" in rows.column_names else PAIR_SIDES[1:]
    lacking = [name for name in wanted if name not in rows.column_names]
    if lacking or not isinstance(rows[0]["prompt"], list):
        raise_input_error(
            f"data {data}",
            "chosen and rejected, or responses, as messages",
            Verbatim(f"no {', '.join(lacking)}" if lacking else "text"),
            "`rmkit read` makes pairs of other formats.",
        )
    return rows


def read_responses(data: str, split: str, folder: Path) -> Dataset:
    """Rows of any usual file with `prompt`, and `responses` or `response`, read into `folder`/rows.parquet.

    Rows that cannot be used go into `folder`/quarantine.jsonl. Raises `InputError` where none is left.
    """
    path = folder / "rows.parquet"
    if not path.exists():
        kept = 0
        with RejectedRows(folder / QUARANTINE) as quarantine, PairWriter(path, COLUMNS) as out:
            for row in tqdm(read_source(data, split), f"Reading {data}", unit=" rows", disable=None):
                parsed = parse_responses(row)
                if isinstance(parsed, RowError):
                    quarantine.add(row, parsed)
                else:
                    kept += 1
                    name = f"{Path(row.file).name}:{row.line}"
                    out.write(dict(zip(COLUMNS, (name, *parsed), strict=True)))
            if not kept:
                raise_input_error(
                    f"data {data}",
                    "a row with prompt and responses",
                    Verbatim(dict(quarantine.reasons)),
                    f"See {quarantine.path}.",
                )
    return load_split(path, split, COLUMNS)


def refuse_equal_ids(rows: Dataset) -> None:
    """Answers are kept by id."""
    ids = rows["id"][:]
    if len(set(ids)) != len(ids):
        raise_input_error(
            "data",
            "ids that are all different",
            Verbatim(f"{len(ids) - len(set(ids))} that come again"),
            "Read the data again by `rmkit read`.",
        )


def read_rows(rows: Dataset) -> Iterator[Row]:
    """The rows, in order."""
    paired = "chosen" in rows.column_names
    for row in stream_rows(rows, ("id", *PAIR_SIDES) if paired else COLUMNS):
        responses = {side: row[side] for side in PAIR_SIDES[1:]} if paired else dict(name_responses(row))
        yield Row(row["id"], row["prompt"], responses)


def name_responses(row: Mapping[str, Any]) -> Iterator[tuple[str, Messages]]:
    """A sample's responses by number."""
    return ((str(number), response) for number, response in enumerate(row["responses"]))


def list_tasks(row: Row, responses: int) -> list[JudgeTask]:
    """A row's tasks, one for each response, or for each two of them."""
    return [
        JudgeTask("/".join((row.id, *names)), row.prompt, tuple(row.responses[name] for name in names))
        for names in itertools.combinations(row.responses, responses)
    ]
