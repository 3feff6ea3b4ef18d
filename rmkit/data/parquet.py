"""The Parquet files that commands pass on, read and written a block of rows at a time."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.compute
import pyarrow.dataset
import pyarrow.parquet
from datasets import Dataset, Features, Value
from numpy.typing import DTypeLike, NDArray

from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.core.stage import PARTIAL_SUFFIX

PAIR_SIDES = ("prompt", "chosen", "rejected")
BLOCK = 4000  # rows held in memory at once, and written as one group


def split_path(data: str | Path, split: str) -> Path:
    """The Parquet file that holds `split`: `data` itself, or the one in the stage's folder `data`."""
    path = Path(data)
    file = path / f"{split}.parquet" if path.is_dir() else path
    if not file.is_file() or file.suffix != ".parquet":
        existing = ", ".join(sorted(other.name for other in path.glob("*.parquet"))) or "no Parquet file"
        raise_input_error(
            f"data {data}",
            f"a stage's folder with {split}.parquet, or a Parquet file of pairs",
            Verbatim(existing),
            "Check the path; `rmkit read` makes one from other formats.",
        )
    return file


def load_split(data: str | Path, split: str, columns: Sequence[str] = PAIR_SIDES) -> Dataset:
    """The pairs of `split` in a stage's folder or a Parquet file, mapped from disk.

    Raises `InputError` when there are none, and when one of `columns` is missing.
    """
    file = split_path(data, split)
    if not pyarrow.parquet.read_metadata(file).num_rows:  # which `datasets` cannot load
        raise_input_error(str(file), "at least one row", Verbatim("none"), "Check what was dropped on the way.")
    # Without pre_buffer=False, everything that was read of the file stays in memory until its end is reached.
    scanning = pyarrow.dataset.ParquetFragmentScanOptions(pre_buffer=False)
    pairs = Dataset.from_parquet(str(file), fragment_scan_options=scanning, writer_batch_size=BLOCK)
    pyarrow.default_memory_pool().release_unused()
    missing = [name for name in columns if name not in pairs.column_names]
    if missing:
        raise_input_error(
            str(file),
            f"the columns {', '.join(columns)}",
            Verbatim(f"none named {', '.join(missing)}"),
            "Name the folder of the stage that writes them; `rmkit read` maps columns of other names.",
        )
    return pairs


def stream_blocks(rows: Dataset, columns: Sequence[str]) -> Iterator[pyarrow.Table]:
    """These columns of `rows` in order, a block at a time."""
    part = rows.select_columns(list(columns)).with_format("arrow")
    for start in range(0, len(rows), BLOCK):
        yield part[start:start + BLOCK]


def stream_rows(rows: Dataset, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """These columns of `rows` in order, row by row."""
    for block in stream_blocks(rows, columns):
        yield from block.to_pylist()


def read_column(rows: Dataset, name: str, dtype: DTypeLike) -> NDArray[Any]:
    """A column of numbers over [row], in memory."""
    column = np.empty(len(rows), dtype)
    start = 0
    for block in stream_blocks(rows, [name]):
        column[start:start + len(block)] = block[name].to_numpy()
        start += len(block)
    return column


def prompt_ids(rows: Dataset) -> NDArray[np.int32]:
    """Numbers [row] from 0 on, the same for rows with the same prompt, in the order of the prompts' text."""
    texts = rows.select_columns(["prompt"]).map(
        lambda block: {"text": [str(prompt) for prompt in block["prompt"]]},
        batched=True,
        remove_columns=["prompt"],
        features=Features({"text": Value("string")}),
        load_from_cache_file=False,
        desc="Numbering prompts",
    )
    column = texts.with_format("arrow")[:]["text"]
    return (pyarrow.compute.rank(column, tiebreaker="dense").to_numpy() - 1).astype(np.int32)


def write_table(rows: Dataset, path: Path, columns: Mapping[str, NDArray[Any]] | None = None) -> None:
    """Write rows as Parquet, then `columns` [row] or [row, member], which replace columns of the same name.

    The file gets its name only when it is complete.
    """
    added = columns or {}
    kept = [name for name in rows.column_names if name not in added]
    fields = list(rows.select_columns(kept).features.arrow_schema)
    for name, values in added.items():
        kind = pyarrow.from_numpy_dtype(values.dtype)
        fields.append(pyarrow.field(name, kind if values.ndim == 1 else pyarrow.list_(kind)))
    schema = pyarrow.schema(fields)
    draft = path.with_name(path.name + PARTIAL_SUFFIX)
    start = 0
    with pyarrow.parquet.ParquetWriter(draft, schema, write_statistics=False) as file:
        for block in stream_blocks(rows, kept):
            parts = [values[start:start + len(block)] for values in added.values()]
            more = [pyarrow.array(list(part) if part.ndim > 1 else part) for part in parts]
            file.write_table(pyarrow.table([*block.columns, *more], schema=schema))
            start += len(block)
    draft.replace(path)
