"""Samples: what is read, what is left out and counted, and the batches that they become."""

import json

import pytest
import torch
from datasets import Dataset

from rmkit.core.checks import InputError
from rmkit.data.samples import collate_samples, encode_samples, read_samples
from rmkit.models.reward_model import load_tokenizer

ROWS = [
    {"prompt": "Red?", "responses": ["Yes.", " Yes. ", "No.", ""]},
    {"prompt": "\n\nHuman: Red?\n\nAssistant:", "completions": ["It is red.", "It is not " + "red " * 99, "Blue."]},
    {"prompt": [{"role": "user", "content": "Blue?"}], "responses": [
        [{"role": "assistant", "content": "Yes."}],
        [{"role": "user", "content": "Blue?"}, {"role": "assistant", "content": "No."}],
    ]},
    {"prompt": "Red?", "responses": ["Yes.", "Yes."]},
    {"prompt": "Red?", "responses": ["Yes."]},
    {"prompt": "Red?"},
    {"prompt": "Red?", "responses": "Yes."},
    {"prompt": "Red?", "responses": ["Yes.", 7]},
    {"responses": ["Yes.", "No."]},
    {"prompt": "Red?", "responses": ["Yes.", "\ud800"]},
]


@pytest.fixture
def tokenizer(tiny_base):
    return load_tokenizer(tiny_base)


def read(rows, tokenizer, tmp_path):
    file = tmp_path / "samples.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows) + "{half a row\n")
    return read_samples(str(file), tmp_path / "meta", tokenizer=tokenizer, max_length=64)


def test_rows_in_are_rows_out_and_quarantined(tokenizer, tmp_path):
    reading = read(ROWS, tokenizer, tmp_path)
    assert (reading.rows_in, reading.rows_out, reading.responses) == (11, 3, 6)
    assert reading.left_out == {"equal to another": 2, "empty": 1, "over-long": 1}
    assert reading.quarantined == {
        "fewer than two different responses": 2, "missing responses": 2, "wrong type": 1, "missing prompt": 1,
        "bad Unicode": 1, "bad JSON": 1,
    }
    quarantine = [json.loads(line) for line in (tmp_path / "meta/quarantine.jsonl").read_text().splitlines()]
    assert [entry["line"] for entry in quarantine] == [4, 5, 6, 7, 8, 9, 10, 11]
    assert str(reading).startswith("meta set: rows in 11 = rows out 3 + quarantined 8; 6 responses, left out 2 ")
    rows = Dataset.from_parquet(str(tmp_path / "meta/samples.parquet"))
    assert [[response[-1]["content"] for response in row["responses"]] for row in rows] == [
        ["Yes.", "No."], ["It is red.", "Blue."], ["Yes.", "No."],
    ]
    assert rows[1]["prompt"] == [{"role": "user", "content": "Red?"}] and rows[0]["id"] == "samples.jsonl:1"


def test_nothing_to_compare_is_refused(tokenizer, tmp_path):
    with pytest.raises(InputError, match="a prompt and two different responses, got meta set: rows in 2"):
        read([ROWS[3]], tokenizer, tmp_path)


def test_batches_hold_every_response_once(tokenizer, tiny_samples):
    encoded = encode_samples(tiny_samples, tokenizer, 64)
    rows = [encoded[row] for row in (0, 3, 5)]
    sequences = [sequence for row in rows for sequence in row["input_ids"]]
    assert [row["length"] for row in rows] == [max(map(len, row["input_ids"])) for row in rows]
    assert [row["responses"] for row in rows] == [2, 5, 3] and [row["equal"] for row in rows] == [0] * 3
    padded = collate_samples(rows, tokenizer, packed=False)
    assert padded["present"].tolist() == [[True, True, False, False, False], [True] * 5, [True] * 3 + [False] * 2]
    assert [ids[mask.bool()].tolist() for ids, mask in
            zip(padded["input_ids"], padded["attention_mask"], strict=True)] == sequences
    packed = collate_samples(rows, tokenizer, packed=True)
    assert torch.equal(packed["present"], padded["present"]) and len(packed["last"]) == len(sequences)
    assert packed["input_ids"].shape[1] < sum(map(len, sequences))  # the prompt is there once
    assert packed["input_ids"].shape[1] == sum(row["tokens"] for row in rows)
    assert packed["input_ids"][0, packed["last"]].tolist() == [sequence[-1] for sequence in sequences]


def test_equal_responses_are_left_out_when_encoding(tokenizer, caplog):
    yes, no = ([{"role": "assistant", "content": text}] for text in ("Yes.", "No."))
    row = {"prompt": [{"role": "user", "content": "Red?"}], "responses": [yes, no, yes]}
    (encoded,) = encode_samples(Dataset.from_list([row]), tokenizer, 64)
    assert (encoded["responses"], encoded["equal"], len(encoded["input_ids"])) == (2, 1, 2)
    assert "1 responses have the same tokens as another" in caplog.text
    row["responses"] = [yes, yes]
    with pytest.raises(InputError, match="at least two different responses"):
        encode_samples(Dataset.from_list([row]), tokenizer, 64)
