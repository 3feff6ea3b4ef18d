import json
import os
import signal
import subprocess
import sys

import pytest

from rmkit.core.checks import InputError
from rmkit.data.chat_template import encode
from rmkit.data.parquet import BLOCK
from rmkit.data.reading import PairWriter, Source, read_pairs
from rmkit.data.sources import read_rows

GOOD = {"prompt": "Q", "chosen": "A", "rejected": "B"}


def write_lines(file, rows):
    file.parent.mkdir(exist_ok=True)
    file.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return str(file)


def read(folder, *data, columns=None, **options):
    folder.mkdir(exist_ok=True)
    sources = [Source(one, "train", lambda prompt: "train") for one in data]
    reading = read_pairs(sources, folder, columns=columns or {}, **options)
    pairs = [row.content for row in read_rows(str(folder / "train.parquet"))]
    quarantine = [json.loads(line) for line in (folder / "quarantine.jsonl").read_text().splitlines()]
    return reading, pairs, quarantine


def test_rows_are_kept_or_set_aside_with_their_place(tmp_path):
    data = write_lines(tmp_path / "in.jsonl", [GOOD, "oops", "", {**GOOD, "chosen": ""}, {**GOOD, "source": "web"}])
    reading, pairs, quarantine = read(tmp_path / "out", data)
    assert str(reading) == "rows in 4 = rows out 2 + quarantined 2"
    assert [(pair["id"], pair["source"]) for pair in pairs] == [("in:1", "in"), ("in:5", "web")]
    assert pairs[0]["prompt"] == [{"role": "user", "content": "Q"}]
    assert [(entry["file"], entry["line"], entry["reason"]) for entry in quarantine] == [
        (data, 2, "bad JSON"), (data, 4, "empty chosen")
    ]
    assert quarantine[0]["row"] == "oops"
    assert json.loads(quarantine[1]["row"]) == {**GOOD, "chosen": ""}
    assert reading.list_reasons() == [f"bad JSON: 1 (first at {data}:2)", f"empty chosen: 1 (first at {data}:4)"]


def test_what_was_written_reads_back_the_same_in_order(tmp_path):
    count = 2 * BLOCK + 1
    data = write_lines(tmp_path / "in.jsonl", [{**GOOD, "id": str(row), "gold_gap": row / 2} for row in range(count)])
    _, pairs, _ = read(tmp_path / "out", data)
    _, again, quarantine = read(tmp_path / "again", str(tmp_path / "out" / "train.parquet"))
    assert again == pairs and not quarantine
    assert [(pair["id"], pair["gold_gap"]) for pair in again] == [(str(row), row / 2) for row in range(count)]


def test_ids_are_unique_over_files_of_one_stem(tmp_path):
    write_lines(tmp_path / "data" / "in.jsonl", [GOOD, {**GOOD, "id": "mine"}])
    second = write_lines(tmp_path / "data" / "in.ndjson", [{**GOOD, "id": "mine"}, GOOD, {**GOOD, "id": "in:1"}])
    reading, pairs, quarantine = read(tmp_path / "out", str(tmp_path / "data"))
    assert [pair["id"] for pair in pairs] == ["in:1", "mine", "in~2:2"]
    assert [(entry["file"], entry["line"], entry["detail"]) for entry in quarantine] == [
        (second, 1, "mine"), (second, 3, "in:1")
    ]
    assert reading.quarantined == {"duplicate id": 2}


def test_an_id_may_be_used_again_by_another_source_and_after_a_rejected_row(tmp_path):
    one = write_lines(tmp_path / "a" / "in.jsonl", [{**GOOD, "id": "1", "chosen": ""}, {**GOOD, "id": "1"}, GOOD])
    two = write_lines(tmp_path / "b" / "in.jsonl", [{**GOOD, "id": "1"}, GOOD])
    _, pairs, _ = read(tmp_path / "out", one, two)
    assert [pair["id"] for pair in pairs] == ["1", "in:3", "1", "in~2:2"]


@pytest.mark.parametrize("first, second", [({"gold_gap": 1.0}, {}), ({}, {"gold_gap": 1.0})])
def test_a_gold_gap_in_some_rows_only_is_never_guessed(tmp_path, first, second):
    data = write_lines(tmp_path / "in.jsonl", [{**GOOD, **first}, {**GOOD, **second}])
    reading, pairs, _ = read(tmp_path / "out", data)
    assert reading.quarantined == {"gold_gap in some rows only": 1}
    assert ("gold_gap" in pairs[0]) == ("gold_gap" in first)


def test_lengths_are_counted_in_tokens(tmp_path, llama):
    rows = [GOOD, {**GOOD, "prompt": "long " * 100}, {**GOOD, "rejected": "long " * 100}]
    data = write_lines(tmp_path / "in.jsonl", rows)
    reading, pairs, quarantine = read(tmp_path / "out", data, tokenizer=llama, max_length=100)
    assert [pair["id"] for pair in pairs] == ["in:1", "in:2"]
    assert reading.prompts_truncated == 1
    assert quarantine[0]["reason"] == "over-long response"
    assert "max_length 100 tokens" in quarantine[0]["detail"]
    for pair in pairs:
        assert len(encode(llama, pair["prompt"], pair["rejected"], 100).input_ids) <= 100


def test_rows_that_the_template_refuses_are_set_aside(tmp_path, llama):
    llama.chat_template = (
        "{% for message in messages %}{% if message['role'] == 'system' %}{{ raise_exception('no system') }}"
        "{% endif %}{{ message['content'] }}{% endfor %}"
    )
    system = [{"role": "system", "content": "S"}, {"role": "user", "content": "Q"}]
    data = write_lines(tmp_path / "in.jsonl", [{**GOOD, "prompt": system}, GOOD])
    reading, _, quarantine = read(tmp_path / "out", data, tokenizer=llama, max_length=100)
    assert reading.quarantined == {"not encoded": 1}
    assert "no system" in quarantine[0]["detail"]


def test_no_usable_row_is_refused_and_leaves_its_quarantine(tmp_path):
    data = write_lines(tmp_path / "in.jsonl", ["oops", {"question": "Q", "better": "A", "worse": "B"}])
    with pytest.raises(InputError, match=r"at least one usable row, got rows in 2 = rows out 0 \+ quarantined 2"):
        read(tmp_path / "out", data)
    assert sorted(os.listdir(tmp_path / "out")) == ["quarantine.jsonl"]
    good = write_lines(tmp_path / "good.jsonl", [GOOD])
    with pytest.raises(InputError, match="at least one usable row"):
        read(tmp_path / "out", good, data)
    assert sorted(os.listdir(tmp_path / "out")) == ["quarantine.jsonl"]


@pytest.mark.parametrize("columns", [{"source": "sorce"}, {"chosen": "chosn"}])
def test_a_mapping_to_a_column_that_no_row_has_is_refused(tmp_path, columns):
    data = write_lines(tmp_path / "in.jsonl", [{**GOOD, "source": "web"}])
    ours, theirs = next(iter(columns.items()))
    with pytest.raises(InputError, match=f"columns: {ours}: {theirs}: .* Did you mean {ours}?"):
        read(tmp_path / "out", data, columns=columns)
    assert not (tmp_path / "out" / "train.parquet").exists()


def test_a_writer_that_fails_leaves_no_file(tmp_path):
    with pytest.raises(ZeroDivisionError), PairWriter(tmp_path / "x.parquet", ["id", "prompt"]) as writer:
        writer.write({"id": "1", "prompt": []})
        raise ZeroDivisionError
    assert os.listdir(tmp_path) == []


KILLED = """
import os, signal, sys
from pathlib import Path
from rmkit.data.reading import Source, read_pairs

routed = 0

def route(prompt):
    global routed
    routed += 1
    if routed == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
    return "train"

read_pairs([Source(sys.argv[1], "train", route)], Path(sys.argv[2]), columns={})
"""


@pytest.mark.parametrize("moment", [1, BLOCK + 1, 2 * BLOCK + 1])
def test_a_killed_read_leaves_no_file_taken_for_whole(tmp_path, moment):
    data = write_lines(tmp_path / "in.jsonl", [GOOD] * (2 * BLOCK + 1))
    out = tmp_path / "out"
    out.mkdir()
    process = subprocess.run([sys.executable, "-c", KILLED, data, str(out), str(moment)], check=False, timeout=120)
    assert process.returncode == -signal.SIGKILL
    assert all(name.endswith(".part") for name in os.listdir(out))
    reading, _, _ = read(out, data)
    assert reading.rows_out == {"train": 2 * BLOCK + 1}
    assert sorted(os.listdir(out)) == ["quarantine.jsonl", "train.parquet"]
