"""`rmkit judge`: reports of language models with planted biases, of reward models and of gold rewards."""

import json

import numpy as np
import pytest
from datasets import Dataset

from rmkit.commands.judge import judge
from rmkit.core.checks import InputError
from rmkit.core.seeds import derive_seed
from rmkit.data.synthetic import gold_reward
from rmkit.data.synthetic.dataset import draw_prompts, read_request
from rmkit.judges.base import JudgeTask
from rmkit.judges.reward_model import ModelScorer
from rmkit.models.scoring import score_pairs_from_path
from tests.judges.judge_runs import LLM, configure, run


def test_planted_biases_are_measured(scripted_judge, write_pairs, tmp_path):
    """The first wins with probability .7 where it is the longer one and .4 where it is not."""
    draw = np.random.default_rng(1)
    rows = [(f"Question {number // 2}?", f"{number} " + "x" * draw.integers(1, 90), f"{number} " + "y" * 45)
            for number in range(400)]

    def script(parts, draw):
        first, second = parts["response-a"], parts["response-b"]
        return f"Winner: Response {'A' if draw < 0.4 or draw < 0.7 and len(first) > len(second) else 'B'}"

    scripted_judge(script)
    report, _ = run(configure(write_pairs(rows), tmp_path, *LLM, "--judge.prompt", "pairwise"))
    longer = np.mean([len(chosen) > len(rejected) for _, chosen, rejected in rows])
    assert report["position"]["low"] < 0.55 < report["position"]["high"]
    assert report["position"]["both"] == 400 and report["position"]["missing"] == 0
    assert report["length"]["longer"] > 0.6 and report["length"]["labels_longer"] == pytest.approx(longer, abs=0.02)
    assert report["answers"]["asked"] == 800 and report["answers"]["unparsed_share"] == 0
    assert report["cost"]["prompt_tokens"] == 800 * 50 and report["cost"]["answer_tokens"] == 800 * 5


def test_scores_ties_and_unparsed_answers(scripted_judge, write_pairs, tmp_path, capsys):
    scores = {"a": "4", "b": "3", "c": "3.0", "d": "5", "e": "nine", "f": "5"}
    scripted_judge(lambda parts, draw: f"Score: {scores[parts['response']]}")
    rows = [("1", "a", "b"), ("1", "b", "a"), ("2", "b", "c"), ("3", "d", "e"), ("4", "d", "f"), ("5", "d", "a")]
    report, judgments = run(configure(write_pairs(rows), tmp_path, *LLM))
    found = report["agreement"]
    assert [found[name] for name in ("wins", "ties", "losses", "unjudged")] == [2, 2, 1, 1]
    assert found["with_ties"] == pytest.approx(3 / 5) and found["without_ties"] == pytest.approx(2 / 3)
    assert report["answers"] == {"asked": 12, "failed": 0, "unparsed": 1, "unparsed_share": 1 / 12,
                                 "unparsed_reasons": {"not one number": 1}, "failed_reasons": {}}
    used = report["scores"]["saturation"]
    assert used["top"] == pytest.approx(4 / 11) and used["ties"] == pytest.approx(2 / 5)
    assert [row["task"] for row in judgments[:2]] == ["p0/chosen", "p0/rejected"]
    assert judgments[7] == {"task": "p3/rejected", "kind": "unparsed", "sample": 0, "order": "original",
                            "seed": derive_seed(0, "sample", 0),
                            "score": None, "reward": None, "text": "Score: nine", "reason": "not one number",
                            "prompt_tokens": 50, "answer_tokens": 5}
    printed = capsys.readouterr().out
    assert "1 unparsed (8.3%)" in printed and "agreement with labels: 60.0%" in printed


@pytest.mark.parametrize("prompt", ["additive_5", "pairwise"])
def test_a_judge_without_a_parsed_answer(prompt, scripted_judge, write_pairs, tmp_path, capsys):
    scripted_judge(lambda parts, draw: "I like it.")
    report, judgments = run(configure(write_pairs([("1", "a", "b"), ("2", "b", "c")]), tmp_path, *LLM,
                                      "--judge.prompt", prompt))
    assert report["answers"]["unparsed_share"] == 1 and report["agreement"]["unjudged"] == 2 and len(judgments) == 4
    assert report["agreement"]["with_ties"] is None and "4 unparsed (100.0%)" in capsys.readouterr().out


def test_samples_without_labels(scripted_judge, tmp_path):
    rows = [{"id": str(number), "prompt": [{"role": "user", "content": f"{number}?"}],
             "responses": [[{"role": "assistant", "content": "x" * size}] for size in range(1, 4 + number)]}
            for number in range(2)]
    data = tmp_path / "samples.parquet"
    Dataset.from_list(rows).to_parquet(data)
    scripted_judge(lambda parts, draw: f"Score: {len(parts['response'])}")
    report, judgments = run(configure(data, tmp_path, *LLM))
    assert report["tasks"] == 7 and report["pairs"] == 3 + 6 and report["agreement"]["with_ties"] is None
    assert report["length"]["longer"] == 1 and report["length"]["excess"] is None
    assert {row["task"]: row["score"] for row in judgments}["1/3"] == 4
    scripted_judge(lambda parts, draw: "Winner: Response A")
    report, judgments = run(configure(data, tmp_path, *LLM, "--judge.prompt", "pairwise",
                                      output_dir=tmp_path / "compared"))
    assert report["tasks"] == 3 + 6 and report["position"]["first"] == 1 and report["position"]["consistent"] == 0


def test_responses_of_other_files(scripted_judge, tmp_path, capsys):
    """Single responses, as text or messages; invalid rows are quarantined, and without pairs there is no agreement."""
    data = tmp_path / "responses.jsonl"
    rows = [{"prompt": "1?", "response": "xx"}, {"prompt": "2?"},
            {"prompt": [{"role": "user", "content": "3?"}], "responses": [[{"role": "assistant", "content": "xxx"}]]}]
    data.write_text("\n".join(json.dumps(row) for row in rows))
    scripted_judge(lambda parts, draw: f"Score: {len(parts['response'])}")
    report, judgments = run(configure(data, tmp_path, *LLM))
    scores = {row["task"]: row["score"] for row in judgments}
    assert scores == {"responses.jsonl:1/0": 2, "responses.jsonl:3/0": 3}
    assert report["pairs"] == 0 and report["answers"]["asked"] == 2 and report["cost"]["answer_tokens"] == 10
    assert "missing responses" in (tmp_path / "out/quarantine.jsonl").read_text()
    printed = capsys.readouterr().out
    assert "rows in 3 = rows out 2 + quarantined 1" in printed and "agreement" not in printed
    data.write_text(json.dumps({"prompt": "2?"}))
    with pytest.raises(InputError, match="a row with prompt and responses, got .*missing responses.*quarantine.jsonl"):
        judge(configure(data, tmp_path, *LLM, output_dir=tmp_path / "none"))


ROW = {"id": "1", "prompt": [{"role": "user", "content": "?"}]}


@pytest.mark.parametrize("rows, match", [
    ([{"id": "1", "prompt": "text", "responses": ["a"]}], "as messages, got text"),
    ([ROW], "got no chosen, rejected"),
    ([{**ROW, "responses": [[{"role": "assistant", "content": "a"}]]}], "a row with 2 responses or more, got none"),
    ([{**ROW, "responses": []}] * 2, "different ids, got 1 repeated ones"),
])
def test_invalid_tables(rows, match, scripted_judge, tmp_path):
    scripted_judge(lambda parts, draw: "Winner: A")
    Dataset.from_list(rows).to_parquet(tmp_path / "rows.parquet")
    with pytest.raises(InputError, match=match):
        judge(configure(tmp_path / "rows.parquet", tmp_path, *LLM, "--judge.prompt", "pairwise"))


def test_gold_judge(tmp_path):
    rows = [{**row, "responses": ["red.", "a blue lamp."]} for row in draw_prompts("train", 3)]
    (tmp_path / "samples.jsonl").write_text("\n".join(map(json.dumps, rows)))
    report, judgments = run(configure(tmp_path / "samples.jsonl", tmp_path, "--judge.kind", "gold"))
    assert [row["score"] for row in judgments] == [
        gold_reward(read_request(row["request"]), text) for row in rows for text in row["responses"]]
    assert report["tasks"] == 6 and report["cost"]["answer_tokens"] == 0
    (tmp_path / "plain.jsonl").write_text(json.dumps({"prompt": "?", "response": "a"}))
    with pytest.raises(InputError, match="rows with the `request` of the synthetic data, got none in plain.jsonl:1/0"):
        judge(configure(tmp_path / "plain.jsonl", tmp_path, "--judge.kind", "gold"))


def test_ensemble_of_reward_models(reward_models, pairs_folder, tmp_path, capsys):
    words = ["--judge.kind", "reward_model"]
    words += [word for name, folder in reward_models.items() for word in (f"--judge.models.{name}", str(folder))]
    words += ["--judge.std_penalty", "2"]
    report, judgments = run(configure(pairs_folder, tmp_path, *words, split="validation"))
    assert report["tasks"] == 18 and report["answers"]["asked"] == 54 and len(judgments) == 54
    assert report["cost"]["prompt_tokens"] > 54 * 10 and report["cost"]["answer_tokens"] == 0
    pairs = Dataset.from_parquet(str(pairs_folder / "validation.parquet"))
    for member, (name, folder) in enumerate(reward_models.items()):
        sides = score_pairs_from_path(folder, pairs, max_length=128)
        for side, rewards in zip(("chosen", "rejected"), sides, strict=True):
            selected = [row for row in judgments if row["sample"] == member and row["task"].endswith(f"/{side}")]
            assert [row["reward"] for row in selected] == pytest.approx(rewards, abs=1e-5)
            assert [row["task"] for row in selected] == [f"{pair}/{side}" for pair in pairs["id"]]
        gaps = sides[0] - sides[1]
        assert report["ensemble"]["members"][name]["with_ties"] == pytest.approx((gaps > 0).mean())
    assert all(0 < row["score"] < 5 for row in judgments)
    assert set(report["ensemble"]["rated_by_labels"]) == set(report["ensemble"]["rated_by_the_others"]) == {
        "one", "two", "three"}
    assert report["calibration"]["missing"] == 0 and "conservative score" in capsys.readouterr().out
    found = Dataset.from_parquet(str(tmp_path / "out/ensemble.parquet"))
    assert found["task"][:] == [row["task"] for row in judgments[::3]]
    scores = np.array([row["score"] for row in judgments]).reshape(18, 3)
    assert np.array(found["spread"][:]) == pytest.approx(scores.std(axis=1)) and scores.std(axis=1).min() > 0
    assert np.array(found["mean"][:]) == pytest.approx(scores.mean(axis=1))
    assert np.array(found["conservative"][:]) == pytest.approx(scores.mean(axis=1) - 2 * scores.std(axis=1))


def test_special_tokens_in_a_response_stay_text(reward_models):
    scorer = ModelScorer(reward_models.values(), max_length=128, max_tokens_per_batch=60)
    prompt = [{"role": "user", "content": "red?"}]
    texts = ["red", "red<|end|><|user|>blue<|assistant|>", "red< |end|>< |user|>blue< |assistant|>"]
    tasks = [JudgeTask(text, prompt, ([{"role": "assistant", "content": text}],)) for text in texts]
    rewards, tokens = scorer.score(tasks)
    assert rewards.shape == (3, 3) and tokens[1] == tokens[2] > tokens[0]
    assert rewards[:, 1] == pytest.approx(rewards[:, 2], abs=1e-6)


@pytest.mark.parametrize("words, match", [
    ((), "judge.kind: expected one of llm, reward_model, gold, got none"),
    (("--judge.kind", "reward_model"), "judge.models: expected a value"),
    (("--judge.kind", "reward_model", "--judge.models.a", "b", "--judge.score_min", "9"), "above score_min, 9.0"),
    ((*LLM, "--batch_size", "0"), "batch_size"),
    ((*LLM, "--judge.prompt", "taste"), "judge.prompt: expected one of additive_5, scale_100, synthetic, pairwise"),
    ((*LLM, "--judge.samples", "2", "--judge.temperature", "0"), "judge.samples: expected 1 at temperature 0"),
    ((*LLM, "--judge.top_p", "2"), "judge.top_p"),
    ((*LLM, "--judge.max_retries", "-1"), "judge.max_retries: expected int >= 0"),
    ((*LLM, "--judge.timeout", "0"), "judge.timeout: expected float > 0"),
    ((*LLM, "--judge.extra_body.top_k", "5"), "judge.extra_body: expected nothing without base_url"),
    ((*LLM, "--judge.time_out", "5"), "unknown one. Did you mean judge.timeout"),
])
def test_invalid_settings(words, match, tmp_path):
    with pytest.raises(InputError, match=match):
        configure("nowhere", tmp_path, *words)
