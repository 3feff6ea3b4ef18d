import gzip
import json

import datasets
import pyarrow
import pyarrow.parquet
import pytest

from rmkit.core.checks import InputError
from rmkit.data.sources import Row, RowError, find_files, parse_line, read_rows

ROWS = [{"prompt": f"Question {number}", "chosen": "Yes", "rejected": "Nö\u2028"} for number in range(5)]
TEXT = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()


def contents(data, split="train"):
    return [row.content for row in read_rows(str(data), split)]


def places(data):
    return [(row.file.rpartition("/")[2], row.line) for row in read_rows(str(data))]


@pytest.mark.parametrize("text, lines", [
    (TEXT, range(1, 6)), (TEXT.rstrip(b"\n"), range(1, 6)), (b"\xef\xbb\xbf" + TEXT, range(1, 6)),
    (TEXT.replace(b"\n", b"\r\n"), range(1, 6)), (gzip.compress(TEXT), range(1, 6)),
    (b"\n  \n" + TEXT.replace(b"\n", b"\n\n"), range(3, 12, 2)),
], ids=["plain", "no last newline", "byte order mark", "windows", "gzip", "blank lines"])
def test_json_lines(tmp_path, text, lines):
    file = tmp_path / "rows.jsonl"
    file.write_bytes(text)
    assert contents(file) == ROWS
    assert places(file) == [("rows.jsonl", line) for line in lines]
    assert [json.loads(row.raw) for row in read_rows(str(file))][1:] == ROWS[1:]


@pytest.mark.parametrize("line, reason", [
    (b'{"chosen": ', "bad JSON"),
    (b"\x00", "bad JSON"),
    (b"[" * 100_000, "bad JSON"),
    (b"9" * 5000, "bad JSON"),
    (b'{"chosen": "\xff"}', "bad UTF-8"),
    (b'["chosen"]', "not an object"),
    (b"null", "not an object"),
])
def test_a_line_that_is_no_object_is_a_fault(line, reason):
    assert parse_line(line).reason == reason


def test_faults_stand_in_their_place(tmp_path):
    file = tmp_path / "rows.jsonl"
    lines = TEXT.splitlines(keepends=True)
    file.write_bytes(lines[0] + b"oops\n" + lines[1] + b'{"chosen": "\xff"}\n')
    rows = list(read_rows(str(file)))
    assert [row.line for row in rows] == [1, 2, 3, 4]
    assert [isinstance(row.content, RowError) for row in rows] == [False, True, False, True]
    assert rows[1].raw == "oops"
    assert rows[3].raw == '{"chosen": "\\xff"}'


@pytest.mark.parametrize("damage", [lambda whole: whole[:-12], lambda whole: whole[:-6] + b"\xff" + whole[-5:]],
                         ids=["truncated", "wrong checksum"])
def test_a_damaged_gzip_gives_its_whole_rows_and_one_fault(tmp_path, damage):
    file = tmp_path / "rows.jsonl.gz"
    file.write_bytes(damage(gzip.compress(TEXT)))
    *rows, last = read_rows(str(file))
    assert [row.content for row in rows] == ROWS[:len(rows)]
    assert (last.content.reason, last.line) == ("damaged file", len(rows) + 1)


def test_a_json_list(tmp_path):
    file = tmp_path / "rows.json"
    file.write_bytes(b"\xef\xbb\xbf \n" + json.dumps(ROWS, indent=2).encode())
    assert contents(file) == ROWS and places(file)[-1] == ("rows.json", 5)
    file.write_bytes(TEXT)  # JSON lines of that name
    assert contents(file) == ROWS


@pytest.mark.parametrize("text, reasons", [
    (b'[{"a": 1}, 3, "x"]', [None, "not an object", "not an object"]),
    (b'[{"a": 1}, {"b"', ["damaged file"]),
    (b'[{"a": "\xff"}]', ["damaged file"]),
])
def test_faults_of_a_json_list(tmp_path, text, reasons):
    (tmp_path / "rows.json").write_bytes(text)
    found = contents(tmp_path / "rows.json")
    assert [content.reason if isinstance(content, RowError) else None for content in found] == reasons


def test_a_damaged_row_group_loses_its_own_rows_only(tmp_path):
    file = tmp_path / "rows.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), file, row_group_size=2)
    assert contents(file) == ROWS and places(file) == [("rows.parquet", line) for line in range(1, 6)]
    second = pyarrow.parquet.ParquetFile(file).metadata.row_group(1).column(0)
    start = second.dictionary_page_offset or second.data_page_offset
    damaged = bytearray(file.read_bytes())
    damaged[start:start + second.total_compressed_size] = b"\xff" * second.total_compressed_size
    file.write_bytes(damaged)
    rows = list(read_rows(str(file)))
    assert [row.line for row in rows] == [1, 2, 3, 4, 5]
    assert [row.content for row in rows if not isinstance(row.content, RowError)] == [ROWS[0], ROWS[1], ROWS[4]]
    assert rows[2].content.reason == "damaged file"


def test_a_saved_dataset(tmp_path):
    dataset = datasets.Dataset.from_list(ROWS)
    dataset.save_to_disk(tmp_path / "one")
    datasets.DatasetDict(train=dataset, extra=dataset.select([2])).save_to_disk(tmp_path / "several")
    assert contents(tmp_path / "one") == contents(tmp_path / "several") == ROWS
    assert contents(tmp_path / "several", "extra") == [ROWS[2]]
    assert places(tmp_path / "one")[-1] == ("one", 5)
    with pytest.raises(InputError, match="split test: expected a dataset .* with this split"):
        contents(tmp_path / "several", "test")


def test_a_folder_gives_its_files_in_order(tmp_path):
    (tmp_path / "b.jsonl").write_bytes(TEXT)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(TEXT))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "c.parquet")
    (tmp_path / "c.parquet.part").write_bytes(b"half")
    (tmp_path / "README.md").write_text("not data")
    assert contents(tmp_path) == ROWS * 3
    assert [name for name, _ in places(tmp_path)[::5]] == ["a.jsonl.gz", "b.jsonl", "c.parquet"]


def test_a_stage_folder_and_an_empty_folder_are_refused(tmp_path):
    with pytest.raises(InputError, match="none in the folder"):
        contents(tmp_path)
    (tmp_path / "stage.json").write_text('{"key": "made by a stage"}')
    with pytest.raises(InputError, match="Name its train.parquet"):
        contents(tmp_path)


def test_paths_that_cannot_be_read_are_refused(tmp_path, monkeypatch):
    for data in (tmp_path / "no.jsonl", tmp_path / "no" / "such", tmp_path / "misspelt", "~/x", "no.json"):
        with pytest.raises(InputError, match="No such file.*Check the path"):
            find_files(str(data))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    with pytest.raises(InputError, match="No such file"):
        find_files("data/misspelt")


def test_a_hub_name_is_streamed_and_its_errors_are_clear(monkeypatch):
    seen = []

    def load_dataset(name, split, streaming):
        seen.append((name, split, streaming))
        return datasets.IterableDataset.from_generator(lambda: iter(ROWS))

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert contents("owner/pairs", "test") == ROWS
    assert seen == [("owner/pairs", "test", True)]
    assert next(read_rows("owner/pairs")) == Row("owner/pairs", 1, ROWS[0], ROWS[0])

    def fail(name, split, streaming):
        raise ConnectionError("Couldn't reach the Hub\nmore lines")

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(InputError, match="data owner/pairs, split train: .*Couldn't reach the Hub. Check") as caught:
        contents("owner/pairs")
    assert "\n" not in str(caught.value)


def test_a_connection_that_breaks_names_the_row(monkeypatch):
    def generate():
        yield ROWS[0]
        raise ConnectionError("gone")

    monkeypatch.setattr(datasets, "load_dataset",
                        lambda *_, **__: datasets.IterableDataset.from_generator(generate))
    rows = read_rows("owner/pairs")
    assert next(rows).line == 1
    with pytest.raises(InputError, match="data owner/pairs, row 2: "):
        next(rows)
