"""A .json file that is one list of rows."""

import json

import pytest

from rmkit.data.sources import RowError, read_rows


def read(tmp_path, text):
    path = tmp_path / "rows.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return [(row.line, row.content) for row in read_rows(str(path))]


def test_its_rows_are_numbered_in_their_order(tmp_path):
    rows = [{"prompt": "a"}, {"prompt": "b", "chosen": ["c", "d"]}]
    assert read(tmp_path, json.dumps(rows, indent=2)) == [(1, rows[0]), (2, rows[1])]
    assert read(tmp_path, b"\xef\xbb\xbf \n" + json.dumps(rows).encode()) == [(1, rows[0]), (2, rows[1])]
    assert read(tmp_path, "[]") == []


def test_json_lines_of_that_name_are_read_as_before(tmp_path):
    assert read(tmp_path, '{"prompt": "a"}\n{"prompt": "b"}\n') == [(1, {"prompt": "a"}), (2, {"prompt": "b"})]


@pytest.mark.parametrize("text, reasons", [
    ('[{"a": 1}, 3, "x"]', [None, "not an object", "not an object"]),
    ('[{"a": 1}, {"b"', ["damaged file"]),
    (b'[{"a": "\xff"}]', ["damaged file"]),
])
def test_what_is_wrong_with_it_is_a_fault(tmp_path, text, reasons):
    found = [content.reason if isinstance(content, RowError) else None for _, content in read(tmp_path, text)]
    assert found == reasons
