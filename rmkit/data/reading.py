"""Reading: preference data of any usual shape into Parquet files of pairs, every row accounted for."""

import contextlib
import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow
import pyarrow.parquet
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from rmkit.core.arrays import text_key
from rmkit.core.checks import InputError, Verbatim, raise_input_error
from rmkit.data.chat_template import ResponseTooLong, encode_rows
from rmkit.data.parquet import BLOCK
from rmkit.data.rejected_rows import RejectedRows
from rmkit.data.schema import Messages, Pair, check_columns, parse_pair
from rmkit.data.sources import SUFFIXES, Row, RowError, read_rows

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
}


@dataclass(frozen=True)
class Source:
    """Data to read, the split to ask a dataset for, and which of our splits a prompt goes to."""

    data: str
    split: str
    route: Callable[[Messages], str]


@dataclass
class ReadSummary:
    """What became of the rows: those read, those written to each split, those set aside and why."""

    rows_in: int = 0
    rows_out: dict[str, int] = field(default_factory=dict)
    quarantined: dict[str, int] = field(default_factory=dict)
    first_places: dict[str, str] = field(default_factory=dict)
    prompts_cut: int = 0

    def __str__(self) -> str:
        return (f"rows in {self.rows_in} = rows out {sum(self.rows_out.values())} "
                f"+ quarantined {sum(self.quarantined.values())}")

    def list_reasons(self) -> list[str]:
        """Each reason with its count and the first place, the most frequent first."""
        ordered = sorted(self.quarantined.items(), key=lambda item: -item[1])
        return [f"{reason}: {count} (first at {self.first_places[reason]})" for reason, count in ordered]


def read_pairs(
    sources: Sequence[Source],
    directory: Path,
    *,
    columns: Mapping[str, str],
    tokenizer: PreTrainedTokenizerBase | None = None,
    max_length: int = 0,
) -> ReadSummary:
    """Stream the pairs in `sources` into `directory`/SPLIT.parquet and the rest into `directory`/quarantine.jsonl.

    `columns` maps our columns to theirs. With a `tokenizer`, a response that does not fit into `max_length` tokens
    puts its row into quarantine, and pairs whose prompt would be cut are counted; without one, lengths are not
    looked at. Memory is bounded by one row group. Ids are unique in each source; a row without id is named by its
    file's stem and its line. Raises `InputError` for a source without a usable row or a column that no row has.
    """
    check_columns(columns)
    with contextlib.ExitStack() as stack:
        writers: dict[str, PairWriter] = {}
        quarantine = stack.enter_context(RejectedRows(directory / "quarantine.jsonl"))
        reader = RowParser(columns, tokenizer, max_length)
        reading = ReadSummary(quarantined=quarantine.reasons, first_places=quarantine.first)
        for source in sources:
            before = sum(reading.rows_out.values())
            reader.start_source()
            for row in tqdm(read_rows(source.data, source.split), f"Reading {source.data}", unit=" rows", disable=None):
                reading.rows_in += 1
                pair = reader.read(row)
                if isinstance(pair, RowError):
                    quarantine.add(row, pair)
                    continue
                split = source.route(pair["prompt"])
                if split not in writers:
                    writers[split] = stack.enter_context(PairWriter(directory / f"{split}.parquet", pair))
                writers[split].write(pair)
                reading.rows_out[split] = reading.rows_out.get(split, 0) + 1
            if sum(reading.rows_out.values()) == before:
                reader.refuse_unknown_columns()
                raise_input_error(
                    f"data {source.data}",
                    "at least one usable row",
                    Verbatim("; ".join([str(reading), *reading.list_reasons()])),
                    f"See {quarantine.path}; columns of another name are mapped by --columns.chosen NAME.",
                )
        reader.refuse_unknown_columns()
        reading.prompts_cut = reader.prompts_cut
    assert reading.rows_in == sum(reading.rows_out.values()) + sum(reading.quarantined.values())
    return reading


class RowParser:
    """Reads one row after another, with the memory that this takes: ids seen, files named, columns found."""

    def __init__(self, columns: Mapping[str, str], tokenizer: PreTrainedTokenizerBase | None, max_length: int) -> None:
        self.columns, self.tokenizer, self.max_length = columns, tokenizer, max_length
        self.id_hashes: set[bytes] = set()
        self.names: dict[str, str] = {}
        self.columns_not_found = set(columns.values())
        self.first_columns: list[str] = []
        self.has_gold_gap: bool | None = None
        self.prompts_cut = 0

    def start_source(self) -> None:
        """Forget the last source's ids; the first usable row of each decides whether its rows carry a gold gap."""
        self.id_hashes.clear()
        self.has_gold_gap = None

    def read(self, row: Row) -> Pair | RowError:
        """The row's pair, or its fault."""
        if isinstance(row.content, RowError):
            return row.content
        self.first_columns = self.first_columns or list(row.content)
        self.columns_not_found.difference_update(row.content)
        name = self.name_file(row.file)
        pair = parse_pair(row.content, self.columns, f"{name}:{row.line}", name)
        if isinstance(pair, RowError):
            return pair
        if self.has_gold_gap not in (None, "gold_gap" in pair):
            return RowError("gold_gap in some rows only", "the first usable row decides")
        cut = False
        if self.tokenizer is not None:
            row_of_one = [(pair["prompt"], [pair["chosen"], pair["rejected"]])]
            for encoded in encode_rows(self.tokenizer, row_of_one, self.max_length)[0]:
                if isinstance(encoded, InputError):
                    kind = "over-long response" if isinstance(encoded, ResponseTooLong) else "not encoded"
                    return RowError(kind, str(encoded))
                cut = cut or encoded.prompt_tokens_cut > 0
        id_hash = text_key(pair["id"])
        if id_hash in self.id_hashes:
            return RowError("duplicate id", pair["id"])
        self.id_hashes.add(id_hash)
        self.has_gold_gap = "gold_gap" in pair
        self.prompts_cut += cut
        return pair

    def name_file(self, file: str) -> str:
        """A file's stem, numbered from the second file of that stem on."""
        if file not in self.names:
            stem = Path(file).name
            for suffix in (*SUFFIXES, ".json", ".json.gz"):
                stem = stem.removesuffix(suffix)
            name, number = stem, 1
            while name in self.names.values():
                number += 1
                name = f"{stem}~{number}"
            self.names[file] = name
        return self.names[file]

    def refuse_unknown_columns(self) -> None:
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


class PairWriter:
    """Writes pairs to a Parquet file, a row group at a time; the file has its name only once it is whole.

    The columns are those of `TYPES` that `example`, the first pair, has.
    """

    def __init__(self, path: Path, example: Iterable[str]) -> None:
        self.path = path
        self.draft = path.with_name(path.name + ".part")
        self.schema = pyarrow.schema([(name, TYPES[name]) for name in TYPES if name in example])
        # Statistics of texts are texts, kept for each row group and read whole whenever the file is opened.
        self.file = pyarrow.parquet.ParquetWriter(self.draft, self.schema, write_statistics=False)
        self.waiting: list[Pair] = []

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
        self.waiting.append(dict(pair))
        if len(self.waiting) == BLOCK:
            self.flush()

    def flush(self) -> None:
        """Write the pairs that wait."""
        if self.waiting:
            self.file.write_table(pyarrow.Table.from_pylist(self.waiting, self.schema))
            self.waiting = []
