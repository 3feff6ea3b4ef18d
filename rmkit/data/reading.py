"""Preference data of any usual format into Parquet files of pairs, with every row accounted for."""

import contextlib
import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow
import pyarrow.parquet
from transformers import PreTrainedTokenizerBase

from rmkit.core.arrays import text_key
from rmkit.core.checks import InputError, Verbatim, raise_input_error
from rmkit.core.stage import PARTIAL_SUFFIX
from rmkit.data.chat_template import ResponseTooLong, encode_rows
from rmkit.data.parquet import BLOCK
from rmkit.data.rejected_rows import RejectedRows, parse_rows
from rmkit.data.schema import Messages, Pair, check_columns, parse_pair
from rmkit.data.sources import SUFFIXES, Row, RowError

MESSAGES = pyarrow.list_(pyarrow.struct([("role", pyarrow.string()), ("content", pyarrow.string())]))
TYPES = {
    "id": pyarrow.string(),
    "prompt": MESSAGES,
    "chosen": MESSAGES,
    "rejected": MESSAGES,
    "responses": pyarrow.list_(MESSAGES),
    "source": pyarrow.string(),
    "gold_gap": pyarrow.float64(),
    "is_flipped": pyarrow.bool_(),
    "request": pyarrow.struct([  # of the synthetic data
        ("themes", pyarrow.list_(pyarrow.string())), ("count", pyarrow.int64()), ("ordered", pyarrow.bool_()),
        ("tone", pyarrow.string()), ("bound", pyarrow.string()), ("length", pyarrow.int64()),
    ]),
}


@dataclass(frozen=True)
class Source:
    """Data to read, the split to ask a dataset for, and which of our splits a prompt belongs to."""

    data: str
    split: str
    split_of: Callable[[Messages], str]


@dataclass
class ReadSummary:
    """Rows read, rows written to each split, rejected rows by reason with the first of each, prompts to truncate."""

    rows_in: int = 0
    rows_out: dict[str, int] = field(default_factory=dict)
    quarantined: dict[str, int] = field(default_factory=dict)
    first_seen: dict[str, str] = field(default_factory=dict)
    prompts_truncated: int = 0

    def __str__(self) -> str:
        return (f"rows in {self.rows_in} = rows out {sum(self.rows_out.values())} "
                f"+ quarantined {sum(self.quarantined.values())}")

    def list_reasons(self) -> list[str]:
        """Each reason with its count and its first row, the most frequent first."""
        ordered = sorted(self.quarantined.items(), key=lambda item: -item[1])
        return [f"{reason}: {count} (first at {self.first_seen[reason]})" for reason, count in ordered]


def read_pairs(
    sources: Sequence[Source],
    directory: Path,
    *,
    columns: Mapping[str, str],
    tokenizer: PreTrainedTokenizerBase | None = None,
    max_length: int | None = None,
) -> ReadSummary:
    """Stream the pairs in `sources` into `directory`/SPLIT.parquet, all other rows into `directory`/quarantine.jsonl.

    `columns` maps our columns to theirs. With a `tokenizer`, pairs with a response of more than `max_length` tokens are
    rejected, and pairs whose prompt would be truncated are counted. Memory is bounded by one row group and 16 bytes per
    id. Ids are unique in each source; a row without id is named by its file's stem and its line.

    Raises:
        InputError: for a source without a usable row, and a column that no row has.
    """
    check_columns(columns)
    with contextlib.ExitStack() as stack:
        writers: dict[str, PairWriter] = {}
        quarantine = stack.enter_context(RejectedRows(directory / "quarantine.jsonl"))
        parser = RowParser(columns, tokenizer, max_length)
        summary = ReadSummary(quarantined=quarantine.reasons, first_seen=quarantine.first_seen)
        for source in sources:
            before = sum(summary.rows_out.values())
            parser.start_source()
            for _, pair in parse_rows(source.data, source.split, parser.parse, quarantine):
                split = source.split_of(pair["prompt"])
                if split not in writers:
                    writers[split] = stack.enter_context(PairWriter(directory / f"{split}.parquet", pair))
                writers[split].write(pair)
                summary.rows_out[split] = summary.rows_out.get(split, 0) + 1
            summary.rows_in = sum(summary.rows_out.values()) + quarantine.reasons.total()
            if sum(summary.rows_out.values()) == before:
                parser.check_columns_exist()
                raise_input_error(
                    f"data {source.data}",
                    "at least one usable row",
                    Verbatim("; ".join([str(summary), *summary.list_reasons()])),
                    f"See {quarantine.path}; columns of another name are mapped by --columns.chosen NAME.",
                )
        parser.check_columns_exist()
        summary.prompts_truncated = parser.prompts_truncated
    return summary


class RowParser:
    """Parses one row after another and remembers what later rows are checked against: ids, file names, columns."""

    def __init__(
        self, columns: Mapping[str, str], tokenizer: PreTrainedTokenizerBase | None, max_length: int | None
    ) -> None:
        self.columns, self.tokenizer, self.max_length = columns, tokenizer, max_length
        self.ids: set[bytes] = set()
        self.file_names: dict[str, str] = {}
        self.columns_not_found = set(columns.values())
        self.first_columns: list[str] = []
        self.has_gold_gap: bool | None = None
        self.prompts_truncated = 0

    def start_source(self) -> None:
        """Forget the last source's ids; the first usable row of each decides whether its rows carry a gold gap."""
        self.ids.clear()
        self.has_gold_gap = None

    def parse(self, row: Row) -> Pair:
        """The row's pair; raises `RowError` where it cannot be used."""
        self.first_columns = self.first_columns or list(row.columns)
        self.columns_not_found.difference_update(row.columns)
        name = self.name_file(row.file)
        pair = parse_pair(row.columns, self.columns, f"{name}:{row.line}", name)
        if self.has_gold_gap not in (None, "gold_gap" in pair):
            raise RowError("gold_gap in some rows only", "the first usable row decides")
        truncated = False
        if self.tokenizer is not None and self.max_length is not None:
            responses = [pair["chosen"], pair["rejected"]]
            for encoded in encode_rows(self.tokenizer, [(pair["prompt"], responses)], self.max_length)[0]:
                if isinstance(encoded, InputError):
                    raise encoding_error(encoded)
                truncated = truncated or encoded.prompt_tokens_cut > 0
        key = text_key(pair["id"])
        if key in self.ids:
            raise RowError("duplicate id", pair["id"])
        self.ids.add(key)
        self.has_gold_gap = "gold_gap" in pair
        self.prompts_truncated += truncated
        return pair

    def name_file(self, file: str) -> str:
        """A file's stem, numbered from the second file of that stem on."""
        if file not in self.file_names:
            stem = Path(file).name
            for suffix in (*SUFFIXES, ".json", ".json.gz"):
                stem = stem.removesuffix(suffix)
            name, number = stem, 1
            while name in self.file_names.values():
                number += 1
                name = f"{stem}~{number}"
            self.file_names[file] = name
        return self.file_names[file]

    def check_columns_exist(self) -> None:
        """Refuse a mapping to columns that no row had."""
        for theirs in sorted(self.columns_not_found):
            ours = next(ours for ours, name in self.columns.items() if name == theirs)
            nearest = difflib.get_close_matches(theirs, self.first_columns, n=1, cutoff=0.0)
            raise_input_error(
                f"columns: {ours}: {theirs}",
                "a column that some row has",
                Verbatim(f"none; the first row has {', '.join(self.first_columns)}"),
                f"Did you mean {nearest[0]}?" if nearest else "Check the data.",
            )


def encoding_error(error: InputError) -> RowError:
    """Why a row is rejected whose encoding failed with `error`."""
    return RowError("over-long response" if isinstance(error, ResponseTooLong) else "not encoded", str(error))


class PairWriter:
    """Writes pairs to a Parquet file, a row group at a time; the file gets its name only when it is complete.

    The columns are those of `TYPES` that `example`, the first pair, has.
    """

    def __init__(self, path: Path, example: Iterable[str]) -> None:
        self.path = path
        self.draft = path.with_name(path.name + PARTIAL_SUFFIX)
        self.schema = pyarrow.schema([(name, TYPES[name]) for name in TYPES if name in example])
        # Statistics of texts are texts, kept for each row group and read whole whenever the file is opened.
        self.file = pyarrow.parquet.ParquetWriter(self.draft, self.schema, write_statistics=False)
        self.buffer: list[Pair] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            if error is None:
                self.flush()
        finally:
            self.file.close()
        if error is None:
            self.draft.replace(self.path)
        else:
            self.draft.unlink()

    def write(self, pair: Mapping[str, Any]) -> None:
        """Add a pair."""
        self.buffer.append(dict(pair))
        if len(self.buffer) == BLOCK:
            self.flush()

    def flush(self) -> None:
        """Write the buffered pairs."""
        if self.buffer:
            self.file.write_table(pyarrow.Table.from_pylist(self.buffer, self.schema))
            self.buffer = []
