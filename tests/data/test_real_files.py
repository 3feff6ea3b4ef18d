"""Round trips over real preference files, in the folder that RMKIT_DATA names."""

import gzip
import json
import os
from pathlib import Path

import pytest

from rmkit.data.reading import Source, read_pairs
from rmkit.data.sources import read_rows

FOLDER = os.environ.get("RMKIT_DATA")
FILES = {
    "gsm8k_solutions": 2426, "hh_rlhf_test": 4630, "pandalm_test": 835, "qa_feedback_dev": 2616,
    "tulu1_human_eval": 952, "ukp_convarg1": 16371, "ultrafeedback_sample": 1191,
}

pytestmark = pytest.mark.skipif(FOLDER is None, reason="RMKIT_DATA names no folder with the real preference files")


def compact(text):
    return "".join(text.split())


def write_dialogue(prompt):
    if len(prompt) == 1:
        return prompt[0]["content"]
    names = {"user": "Human", "assistant": "Assistant"}
    return "\n\n".join(f"{names[message['role']]}: {message['content']}" for message in prompt)


@pytest.mark.parametrize("name, rows", FILES.items())
def test_every_row_comes_through_with_its_text(tmp_path, name, rows):
    file = Path(str(FOLDER)) / f"{name}.jsonl.gz"
    if not file.exists():
        pytest.skip(f"{file.name} is not in RMKIT_DATA")
    reading = read_pairs([Source(str(file), "train", lambda prompt: "train")], tmp_path, columns={})
    assert str(reading) == f"rows in {rows} = rows out {rows} + quarantined 0"
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        originals = [json.loads(line) for line in lines]
    pairs = (row.content for row in read_rows(str(tmp_path / "train.parquet")))
    for number, (original, pair) in enumerate(zip(originals, pairs, strict=True), 1):
        assert pair["id"] == f"{name}:{number}"
        assert pair["source"] == original["source"]
        assert pair["prompt"][-1]["role"] == "user"
        for side in ("chosen", "rejected"):
            assert pair[side] == [{"role": "assistant", "content": original[side]}]
        expected = original["prompt"]
        if name == "hh_rlhf_test":
            assert expected.startswith("Human:") and expected.endswith("Assistant:")
            expected = expected.removesuffix("Assistant:")
            if len(pair["prompt"]) == 1:
                expected = expected.removeprefix("Human:")
        assert compact(write_dialogue(pair["prompt"])) == compact(expected)
