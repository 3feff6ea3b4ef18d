"""`rmkit score`: every row accounted for, the rewards of `score_responses`, and the same after a kill."""

import gzip
import json

import numpy as np
import pytest
from datasets import Dataset

from rmkit.cli import main
from rmkit.commands.score import ScoreConfig, score
from rmkit.core.checks import InputError
from rmkit.core.stage import read_record
from rmkit.data import resumable as ledger
from rmkit.models import score_file as scoring
from rmkit.models.reward_model import load_reward_model, load_tokenizer
from rmkit.models.scoring import load_scorer, score_responses


def speak(role, content):
    return [{"role": role, "content": content}]


@pytest.fixture
def model(tiny_base, tmp_path):
    folder = tmp_path / "model"
    tokenizer = load_tokenizer(tiny_base)
    load_reward_model(tiny_base, tokenizer, seed=3).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


SOUND = [
    {"prompt": "What colour?", "responses": ["It is red.", "Grey and grey and grey.", "It is red."], "note": {"a": 1}},
    {"prompt": speak("user", "Which tree?"), "responses": [speak("assistant", "The green one."), "None."]},
    {"prompt": "Which lamp?", "response": "The white lamp \ue000.", "id": 7},
    {"prompt": speak("user", "A stone?"), "completions": ["Yes."], "score": None},
    {"prompt": "What colour is the river?", "response": speak("assistant", "Blue.")},
]
BROKEN = {
    "missing prompt": {"responses": ["It is red."]},
    "missing responses": {"prompt": "What colour?"},
    "wrong type": {"prompt": "What colour?", "responses": [3]},
    "empty responses": {"prompt": "What colour?", "responses": []},
    "empty response": {"prompt": "What colour?", "responses": ["Red.", " "]},
    "over-long response": {"prompt": "What colour?", "responses": ["Red.", "Red and grey. " * 40]},
    "bad Unicode": {"prompt": "What colour?", "response": "\ud800"},
    "bad JSON": None,
}


@pytest.fixture
def rows_file(tmp_path):
    """Sound rows and broken ones in turn, and one with half a surrogate where nobody reads it."""
    lines = [json.dumps(row) if row else "{" for pair in zip(SOUND, BROKEN.values(), strict=False) for row in pair]
    lines += [json.dumps(row) if row else "{" for row in list(BROKEN.values())[len(SOUND):]]
    path = tmp_path / "rows.jsonl.gz"
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.write("\n".join([*lines, json.dumps({**SOUND[0], "note": "\ud800"})]) + "\n")
    return path


def configure(rows_file, model, tmp_path, **settings):
    return ScoreConfig(
        **{"data": str(rows_file), "model_name_or_path": str(model), "output_dir": str(tmp_path / "scored"),
           "max_length": 64, **settings}
    )


def read_lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_rows_come_out_with_their_rewards_or_in_quarantine(rows_file, model, tmp_path, capsys):
    folder = score(configure(rows_file, model, tmp_path))
    scored, quarantine = read_lines(folder / "scored.jsonl"), read_lines(folder / "quarantine.jsonl")
    assert [{name: value for name, value in row.items() if name != "rewards"} for row in scored] == [
        *SOUND, {**SOUND[0], "note": "\ud800"}
    ]
    assert [entry["reason"] for entry in quarantine] == list(BROKEN)
    assert [entry["line"] for entry in quarantine] == [2, 4, 6, 8, 10, 11, 12, 13]
    assert {entry["file"] for entry in quarantine} == {str(rows_file)}
    assert quarantine[-1]["row"] == "{"
    record = read_record(folder)
    assert (record["rows_in"], record["rows_out"]) == (14, 6)
    assert record["quarantined"] == dict.fromkeys(BROKEN, 1)
    assert "rows in 14 = rows out 6 + quarantined 8" in capsys.readouterr().out
    assert {file.name for file in folder.iterdir()} == {"scored.jsonl", "quarantine.jsonl", "stage.json"}

    responses = [speak("assistant", text) for text in SOUND[0]["responses"]]
    rows = Dataset.from_list([{"prompt": speak("user", "What colour?"), "responses": responses}])
    expected, = score_responses(*load_scorer(model), rows, max_length=64)
    np.testing.assert_allclose(scored[0]["rewards"], expected, atol=1e-5)
    assert [len(row["rewards"]) for row in scored] == [3, 2, 1, 1, 1, 3]
    assert np.ptp(scored[0]["rewards"]) > 1e-4


@pytest.mark.parametrize("stop", [1, 2, 3, 5])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_killed_run_goes_on_to_the_same_result(rows_file, model, tmp_path, monkeypatch, stop, moment):
    monkeypatch.setattr(scoring, "BLOCK", 3)
    whole = score(configure(rows_file, model, tmp_path, output_dir=str(tmp_path / "whole")))
    written, scored_blocks = [], []
    genuine = ledger.write_json

    def die(path, content):
        written.append(path)
        if len(written) == stop and moment == "before":
            raise KeyboardInterrupt  # the rows are written, the progress is not
        genuine(path, content)
        if len(written) == stop:
            raise KeyboardInterrupt

    monkeypatch.setattr(ledger, "write_json", die)
    config = configure(rows_file, model, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        score(config)
    assert not (tmp_path / "scored" / "stage.json").exists()
    assert not (tmp_path / "scored" / "scored.jsonl").exists()
    monkeypatch.setattr(ledger, "write_json", genuine)
    score_units = scoring.score_units
    monkeypatch.setattr(scoring, "score_units", lambda *args, **named: scored_blocks.append(1) or
                        score_units(*args, **named))
    folder = score(config)
    assert len(scored_blocks) == 5 - stop + (moment == "before")  # no finished block twice
    for name in ("scored.jsonl", "quarantine.jsonl"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes()
    facts = ("rows_in", "rows_out", "quarantined", "report")
    assert [read_record(folder)[fact] for fact in facts] == [read_record(whole)[fact] for fact in facts]


def test_a_run_killed_behind_its_last_block_scores_nothing_again(rows_file, model, tmp_path, monkeypatch):
    config = configure(rows_file, model, tmp_path)

    def die():
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("rmkit.core.stage.versions", die)
        score(config)
    assert (tmp_path / "scored" / "scored.jsonl").exists()
    monkeypatch.setattr(scoring, "score_units", None)
    folder = score(config)
    assert read_record(folder)["rows_out"] == len(read_lines(folder / "scored.jsonl")) == 6


def test_the_command_scores_parquet_rows_and_a_second_time_does_nothing(model, tmp_path, monkeypatch, capsys):
    path = tmp_path / "rows.parquet"
    Dataset.from_list(SOUND[:1] * 3).to_parquet(path)
    words = ["score", "--data", str(path), "--model_name_or_path", str(model), "--output_dir",
             str(tmp_path / "scored"), "--max_length", "64", "--dtype", "bfloat16"]
    assert main(words) == 0
    monkeypatch.setattr(scoring, "load_scorer", None)
    assert main(words) == 0
    assert capsys.readouterr().out.count("rows in 3") == 2
    assert [row["note"] for row in read_lines(tmp_path / "scored" / "scored.jsonl")] == [{"a": 1}] * 3


def test_refusals(rows_file, model, tmp_path):
    with pytest.raises(InputError, match="max_tokens_per_batch: expected int >= 1"):
        configure(rows_file, model, tmp_path, max_tokens_per_batch=0)
    with pytest.raises(InputError, match="data .*nowhere.jsonl"):
        score(configure(tmp_path / "nowhere.jsonl", model, tmp_path))
    path = tmp_path / "broken.jsonl"
    path.write_text(json.dumps(BROKEN["missing prompt"]) + "\n")
    with pytest.raises(InputError, match="at least one usable row, got rows in 1 = rows out 0 . quarantined 1"):
        score(configure(path, model, tmp_path))
