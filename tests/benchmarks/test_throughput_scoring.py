"""The scoring benchmark: every prompt has its responses, and both sides give the same rewards."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    from benchmarks.speed import scoring as throughput_scoring

    monkeypatch.setattr(throughput_scoring, "MODEL", {"hidden": 32, "layers": 1})
    monkeypatch.setattr(throughput_scoring, "VOCABULARY", 300)
    return throughput_scoring


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "hh_rlhf_test.jsonl.gz"
    with gzip.open(path, "wt") as file:
        for number in range(20):
            sides = {"chosen": f"Yes {'yes ' * number}", "rejected": f"No {number}."}
            file.write(json.dumps({"prompt": f"Question {number // 2}?", **sides}) + "\n")
    return path


def test_a_prompts_own_responses_come_first_and_all_differ(benchmark, path, tmp_path):
    prompts, (_, tokenizer) = benchmark.prepare(path, tmp_path)
    assert len(prompts) == 10 and all(len(own) == 4 for _, own in prompts)
    rows = benchmark.fill_rows(prompts, 8, tokenizer)(2, 5)
    assert [row["prompt"][0]["content"] for row in rows] == [prompt for prompt, _ in prompts[2:7]]
    for row, (_, own) in zip(rows, prompts[2:7], strict=True):
        texts = [response[0]["content"] for response in row["responses"]]
        assert texts[:4] == own and len(set(texts)) == len(texts) == 8


def test_both_sides_give_the_same_rewards_and_others_are_noticed(benchmark, path, tmp_path):
    prompts, loaded = benchmark.prepare(path, tmp_path)
    rows = benchmark.fill_rows(prompts, 8, loaded[1])(0, 3)
    reference = benchmark.Remembered(loaded)
    for score in (benchmark.score_by_rmkit, lambda *both: benchmark.score_by_pipeline(*both, batch_size=4)):
        record = benchmark.run_round(lambda rows, score=score: score(loaded, rows), reference, [rows], 0)
        assert record["responses"] == 24 and record["apart"] < 1e-5 < record["spread"]
    with pytest.raises(AssertionError, match="rewards differ"):
        benchmark.run_round(lambda rows: np.array(reference(rows)) + 1e-3, reference, [rows], 0)
