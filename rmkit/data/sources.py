"""Rows with their file and line, from JSON lines, Parquet, a saved dataset, a folder or the hub.

A row that cannot be decoded has a `RowError` as its content, so that every row is accounted for. Blank lines are no
rows.
"""

import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import pyarrow
import pyarrow.parquet

from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.core.stage import read_record

SUFFIXES = (".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz", ".parquet")  # what is read out of a folder
FORMATS = (
    "JSON lines (.jsonl, .jsonl.gz), a JSON list (.json), Parquet, a folder of these, a folder of `save_to_disk`, "
    "or a hub name"
)
HUB_NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
ROWS_AT_A_TIME = 256
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class RowError(Exception):
    """Why a row cannot be used: the reason, by which rows are counted, and a detail."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


class Row(NamedTuple):
    """One row: its file, its line (in a table its number, from 1), its text or columns as read, and its content."""

    file: str
    line: int
    raw: str | dict[str, Any]
    content: dict[str, Any] | RowError

    @property
    def columns(self) -> dict[str, Any]:
        """The content of a row that can be decoded; raises `RowError` for another."""
        if isinstance(self.content, RowError):
            raise self.content
        return self.content


def read_rows(data: str, split: str = "train") -> Iterator[Row]:
    """Every row of `data`, in order; `split` is used for a saved dataset dictionary and a hub dataset."""
    files = find_files(data)
    if not files:
        yield from read_dataset(data, split)
    for file in files:
        yield from choose_reader(file)(file)


def choose_reader(path: Path) -> Callable[[Path], Iterator[Row]]:
    """The function that reads this file: a Parquet file, a .json file that is one list, or JSON lines."""
    if path.suffix == ".parquet":
        return read_table
    if path.suffix == ".json":
        with path.open("rb") as file:
            if file.read(1024).removeprefix(BYTE_ORDER_MARK).lstrip()[:1] == b"[":
                return read_array
    return read_lines


def find_files(data: str) -> list[Path]:
    """The files that `data` names, each one readable; none where it is a saved dataset or a hub name.

    Raises `InputError` where there is nothing to read.
    """
    path = Path(data)
    if path.is_dir():
        if (path / "state.json").is_file() or (path / "dataset_dict.json").is_file():
            return []
        if read_record(path) is not None:
            raise_input_error(
                f"data {data}", "a file of this stage", Verbatim("the stage's folder"), "Name its train.parquet."
            )
        files = sorted(file for file in path.iterdir() if file.name.endswith(SUFFIXES) and file.is_file())
        if not files:
            raise_input_error(
                f"data {data}", f"files ending in {', '.join(SUFFIXES)}", Verbatim("none in the folder"), "Check it."
            )
    elif is_hub_name(data):
        return []
    else:
        files = [path]
    for file in files:
        try:
            file.open("rb").close()
        except OSError as error:
            raise_input_error(f"data {file}", FORMATS, Verbatim(error.strerror or error), "Check the path.")
    return files


def is_hub_name(data: str) -> bool:
    """Whether `data` can only be a name on the hub: no path that exists, nor, by its looks, one misspelt."""
    path = Path(data)
    local = path.exists() or len(path.parts) > 1 and path.parent.is_dir() or data.endswith((*SUFFIXES, ".json"))
    return not local and HUB_NAME.fullmatch(data) is not None


def read_lines(path: Path) -> Iterator[Row]:
    """The rows of a JSON lines file, compressed by gzip (detected by its first bytes) or not."""
    line_number = 0
    with path.open("rb") as file:
        lines = gzip.open(file) if file.peek(2)[:2] == b"\x1f\x8b" else file
        try:
            for line_number, line in enumerate(lines, 1):
                if line_number == 1:
                    line = line.removeprefix(BYTE_ORDER_MARK)
                if line.strip():
                    raw = line.decode("utf-8", errors="backslashreplace").rstrip("\r\n")
                    yield Row(str(path), line_number, raw, parse_line(line))
        except (EOFError, zlib.error, OSError) as error:
            damaged = RowError("damaged file", f"nothing can be read from here on: {error}")
            yield Row(str(path), line_number + 1, "", damaged)


def read_array(path: Path) -> Iterator[Row]:
    """The rows of a JSON file that is one list of them; one `RowError` where it cannot be decoded."""
    try:
        contents = json.loads(path.read_bytes().decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        yield Row(str(path), 1, "", RowError("damaged file", str(error)))
        return
    for number, content in enumerate(contents, 1):
        row = content if isinstance(content, dict) else RowError("not an object", type(content).__name__)
        yield Row(str(path), number, json.dumps(content) if isinstance(row, RowError) else content, row)


def parse_line(line: bytes) -> dict[str, Any] | RowError:
    """The JSON object in a line."""
    try:
        content = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        return RowError("bad UTF-8", f"byte {error.start + 1}: {error.reason}")
    except (ValueError, RecursionError) as error:
        return RowError("bad JSON", str(error))
    if not isinstance(content, dict):
        return RowError("not an object", type(content).__name__)
    return content


def read_table(path: Path) -> Iterator[Row]:
    """The rows of a Parquet file; where one of its row groups is damaged, that group's rows are `RowError`s."""
    try:
        table = pyarrow.parquet.ParquetFile(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise_input_error(f"data {path}", "a Parquet file", Verbatim(error), "Write it again.")
    with table:
        end = 0
        for group in range(table.num_row_groups):
            line, end = end, end + table.metadata.row_group(group).num_rows
            try:
                for batch in table.iter_batches(ROWS_AT_A_TIME, row_groups=[group]):
                    for content in batch.to_pylist():
                        line += 1
                        yield Row(str(path), line, content, content)
            except (OSError, ValueError, pyarrow.ArrowException) as error:
                for number in range(line + 1, end + 1):
                    yield Row(str(path), number, "", RowError("damaged file", str(error)))


def read_dataset(data: str, split: str) -> Iterator[Row]:
    """The rows of a split of a saved dataset (memory-mapped) or of a hub dataset (streamed)."""
    line, saved = 0, Path(data).is_dir()
    try:
        dataset = datasets.load_from_disk(data) if saved else datasets.load_dataset(data, split=split, streaming=True)
        rows = dataset[split] if isinstance(dataset, datasets.DatasetDict) else dataset
        for line, content in enumerate(rows, 1):
            yield Row(data, line, content, content)
    except Exception as error:  # the hub's client, its file system and its builders each have their own
        where = f"row {line + 1}" if line else f"split {split}"
        expected = "a hub dataset that can be reached (or a path that exists)"
        if saved:
            expected = "a dataset that `save_to_disk` wrote, with this split"
        problem = Verbatim(f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}")
        raise_input_error(f"data {data}, {where}", expected, problem, "Check the path, the name and the network.")
