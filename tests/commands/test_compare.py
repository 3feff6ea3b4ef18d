"""`rmkit compare`: policies with known differences, judges of every kind, two turns, kills."""

import json
import random

import numpy as np
import pytest
from datasets import Dataset

from rmkit.commands.compare import CompareConfig, compare
from rmkit.core.checks import InputError
from rmkit.core.config import load_config
from rmkit.core.stage import write_json
from rmkit.data.synthetic import gold_reward, write_response
from rmkit.data.synthetic.dataset import draw_prompts, read_request
from rmkit.evaluation.policies import follow_up_prompt
from rmkit.generation import Failed

LLM = ("--judge.kind", "llm", "--judge.model_name_or_path", "none")
COMPARISON = (*LLM, "--judge.prompt", "pairwise")


def user(text):
    return {"role": "user", "content": text}


def say(text):
    return [{"role": "assistant", "content": text}]


def write_samples(path, said, **columns):
    """A file of samples: responses [question][response], prompts "Question 0?" and so on."""
    rows = [{"prompt": [user(f"Question {number}?")], "responses": [say(text) for text in texts],
             **{name: values[number] for name, values in columns.items()}} for number, texts in enumerate(said)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run(tmp_path, *words, **settings):
    """The record of a comparison of the samples in `tmp_path`."""
    config = {f"policies.{path.stem}": path for path in sorted(tmp_path.glob("*.jsonl"))}
    config |= {"baseline": "sft", "output_dir": tmp_path / "out", "n_bootstrap": 100, **settings}
    given = [str(word) for key, value in config.items() for word in (f"--{key}", value)]
    folder = compare(load_config(CompareConfig, None, [*given, *words]))
    return json.loads((folder / "comparison.json").read_text(), parse_constant=lambda name: pytest.fail(name))


def score_by_text(parts, draw):
    return f"Score: {parts['response'].split()[0]}"


def test_scores_grades_and_what_is_left_out(scripted_judge, tmp_path, capsys):
    write_samples(tmp_path / "sft.jsonl", [["3 x"], ["3 x"], ["3 x"], ["3 x"], ["none x"], ["2 x"]])
    write_samples(tmp_path / "dpo.jsonl", [["5 xyz"], ["4 xyz"], ["3 xyz"], ["1 xyz"], ["5 xyz"]])
    with (tmp_path / "dpo.jsonl").open("a") as file:
        file.write("no row\n")
    scripted_judge(score_by_text)
    found = run(tmp_path, *LLM)
    assert found["questions"] == 5 and found["left_out"] == {"dpo": 1, "sft": 1}
    mine = found["policies"]["dpo"]
    assert [mine[name] for name in ("pairs", "wins", "ties", "losses", "missing")] == [5, 2, 1, 1, 1]
    assert mine["win_rate"] == pytest.approx(2.5 / 4) and (mine["length"], mine["baseline_length"]) == (5, 3)
    assert mine["arena"]["score"] == pytest.approx(2.5 / 4, abs=0.01)
    assert found["grades"]["dpo"]["all"]["mean"] == pytest.approx(18 / 5)
    assert found["grades"]["sft"]["turns"]["1"] == found["grades"]["sft"]["all"]
    assert found["grades"]["sft"]["all"]["missing"] == 1
    assert found["answers"]["unparsed"] == 1 and found["answers"]["asked"] == 10
    printed = capsys.readouterr().out
    assert "5 questions against sft; 1 pairs without a preference" in printed and "0.625" in printed
    judgments = Dataset.from_parquet(str(tmp_path / "out" / "judgments.parquet"))
    assert len(judgments) == 10 and "0/dpo/0" in judgments["task"][:]


def test_nth_responses_are_compared(scripted_judge, tmp_path):
    write_samples(tmp_path / "sft.jsonl", [["3 x", "3 x"]] * 4)
    write_samples(tmp_path / "a.jsonl", [["4 x", "2 x"]] * 4)
    write_samples(tmp_path / "b.jsonl", [["3.5 x", "1 x", "0 x"]] * 4)
    scripted_judge(score_by_text)
    plain = run(tmp_path, *LLM)["policies"]
    every = run(tmp_path, *LLM, matches="all", output_dir=tmp_path / "all")["policies"]
    for name in "ab":
        assert (plain[name]["wins"], plain[name]["losses"], plain[name]["arena"]["score"]) == (4, 4, pytest.approx(0.5))
    assert {name: every[name]["win_rate"] for name in "ab"} == {name: plain[name]["win_rate"] for name in "ab"}
    assert every["a"]["arena"]["score"] > 0.6 > 0.4 > every["b"]["arena"]["score"]  # a always beats b


def test_pairwise_judge_in_both_orders(scripted_judge, tmp_path):
    """A judge that takes the first on odd questions, the longer one on even ones: half of the pairs are ties."""
    write_samples(tmp_path / "dpo.jsonl", [["much longer"]] * 10, difficulty=list(range(10)))
    write_samples(tmp_path / "sft.jsonl", [["short"]] * 10, difficulty=list(range(10)))

    def script(parts, draw):
        longer = "A" if len(parts["response-a"]) > len(parts["response-b"]) else "B"
        return f"Winner: Response {'A' if int(parts['request'].split()[1][:-1]) % 2 else longer}"

    generator = scripted_judge(script)
    found = run(tmp_path, *COMPARISON)
    mine = found["policies"]["dpo"]
    assert len(generator.asked) == 20
    assert (mine["wins"], mine["ties"], mine["losses"], mine["win_rate"]) == (5, 5, 0, 0.75)
    assert found["position"]["first"] == pytest.approx(0.75) and found["position"]["first_twice"] == 0.5
    assert "grades" not in found and mine["length_controlled"]["difficulty"] is not None


def test_two_turns(scripted_judge, tmp_path):
    """The second answer is judged with its policy's conversation."""
    for name, first in (("sft", "3"), ("dpo", "4")):
        path = write_samples(tmp_path / f"{name}.jsonl", [[f"{first} {name}"]] * 6, follow_up=["And then?"] * 6)
        rows = follow_up_prompt(map(json.loads, path.read_text().splitlines()))
        with path.open("a") as file:
            file.writelines(json.dumps({**row, "responses": [say(f"{int(first) - 2} {name}")]}) + "\n" for row in rows)
    generator = scripted_judge(score_by_text)
    found = run(tmp_path, *LLM)
    assert found["questions"] == 12
    assert {turn: grade["mean"] for turn, grade in found["grades"]["dpo"]["turns"].items()} == {"1": 4, "2": 2}
    assert found["grades"]["sft"]["all"]["mean"] == 2 and found["policies"]["dpo"]["wins"] == 12
    later = [text for text in generator.asked if "And then?" in text]
    assert len(later) == 12 and sum("4 dpo" in text and "2 dpo" in text for text in later) == 6
    with pytest.raises(InputError, match="turn 2.*same conversation"):
        run(tmp_path, *COMPARISON, output_dir=tmp_path / "other")


def test_a_killed_run_continues(scripted_judge, tmp_path):
    write_samples(tmp_path / "sft.jsonl", [["3 x"]] * 6)
    write_samples(tmp_path / "dpo.jsonl", [[f"{number} x"] for number in range(6)])
    whole = scripted_judge(score_by_text)
    expected = run(tmp_path, *LLM, output_dir=tmp_path / "whole")

    def stop(parts, draw):
        if parts["response"] == "2 x":
            raise KeyboardInterrupt
        return score_by_text(parts, draw)

    stopped = scripted_judge(stop)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, *LLM, batch_size=2)
    rest = scripted_judge(score_by_text)
    assert run(tmp_path, *LLM, batch_size=3) == expected
    assert len(whole.asked) == 11 and len(stopped.asked) == 5 and len(rest.asked) == 8  # one text occurs twice
    again = scripted_judge(score_by_text)
    assert run(tmp_path, *LLM) == expected and not again.asked


def test_failures_end_the_run_unless_allowed(scripted_judge, tmp_path):
    write_samples(tmp_path / "sft.jsonl", [["3 x"]] * 2)
    write_samples(tmp_path / "dpo.jsonl", [["4 x"], ["down x"]])
    scripted_judge(
        lambda parts, draw: Failed("no server") if "down" in parts["response"] else score_by_text(parts, draw)
    )
    with pytest.raises(InputError, match="1 failures.*no server"):
        run(tmp_path, *LLM)
    found = run(tmp_path, *LLM, "--allow_failures")
    assert found["answers"]["failed"] == 1 and found["policies"]["dpo"]["missing"] == 1


@pytest.fixture
def gold_samples(tmp_path):
    """Two policies on synthetic data, as folders of `rmkit sample`: one writes better than the other."""
    draw = random.Random(0)
    prompts = list(draw_prompts("train", 12))
    for name, quality in (("sft", 0.5), ("dpo", 0.9)):
        folder = tmp_path / name
        folder.mkdir()
        rows = [{**row, "prompt": [user(row["prompt"])], "responses": [
            say(write_response(read_request(row["request"]), quality, draw)) for _ in range(2)]} for row in prompts]
        (folder / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        write_json(folder / "stage.json", {"stage": "sample", "key": name})
    return {f"policies.{name}": tmp_path / name for name in ("sft", "dpo")}


def test_gold_judge(gold_samples, tmp_path):
    found = run(tmp_path, "--judge.kind", "gold", **gold_samples)
    mine = found["policies"]["dpo"]
    assert mine["pairs"] == 24 and mine["win_rate"] > 0.75
    assert found["answers"]["asked"] == 48 and found["answers"]["failed"] == 0
    rows = [[json.loads(line) for line in (tmp_path / name / "samples.jsonl").read_text().splitlines()]
            for name in ("sft", "dpo")]
    rewards = [[[gold_reward(read_request(row["request"]), response[0]["content"]) for response in row["responses"]]
                for row in rows_of_policy] for rows_of_policy in rows]
    wins = (np.sign(np.subtract(*reversed(rewards))) + 1) / 2
    assert mine["win_rate"] == pytest.approx(wins.mean())
    assert found["grades"]["dpo"]["all"]["mean"] == pytest.approx(np.mean(rewards[1]))


def test_reward_models_judge_by_their_conservative_score(reward_models, gold_samples, tmp_path):
    models = {f"judge.models.{name}": folder for name, folder in reward_models.items()}
    found = run(tmp_path, "--judge.kind", "reward_model", "--judge.std_penalty", "2", **models, **gold_samples)
    scores = Dataset.from_parquet(str(tmp_path / "out" / "judgments.parquet")).to_pandas().groupby("task")["score"]
    conservative = scores.mean() - 2 * scores.std(ddof=0)
    wins = [conservative[f"{question}/dpo/{number}"] > conservative[f"{question}/sft/{number}"]
            for question in range(12) for number in range(2)]
    assert found["answers"]["asked"] == 144 and found["policies"]["dpo"]["win_rate"] == pytest.approx(np.mean(wins))
    assert found["grades"]["sft"]["all"]["mean"] == pytest.approx(conservative.filter(like="/sft/").mean())


@pytest.mark.parametrize("words, names", [
    ((), "judge.kind: expected one of llm, reward_model, gold, got none"), (("--judge.kind", "me"), "got 'me'"),
    (("--judge.kind", "gold", "--baseline", "other"), "baseline"), (("--judge.kind", "gold"), "request"),
    (("--judge.kind", "gold", "--judge.prompt", "pairwise"), "judge.prompt: expected a known key"),
])
def test_comparison_refuses(words, names, tmp_path):
    write_samples(tmp_path / "sft.jsonl", [["a"]])
    write_samples(tmp_path / "dpo.jsonl", [["b"]])
    with pytest.raises(InputError, match=names):
        run(tmp_path, *words)


def test_invalid_samples(tmp_path):
    write_samples(tmp_path / "sft.jsonl", [["a"]])
    (tmp_path / "dpo.jsonl").write_text(json.dumps({"prompt": "Other?", "responses": ["b"]}) + "\n")
    with pytest.raises(InputError, match="answer the same questions"):
        run(tmp_path, "--judge.kind", "gold")
    write_samples(tmp_path / "dpo.jsonl", [["a"]])
    twice = f"[{tmp_path / 'dpo.jsonl'}, {tmp_path / 'dpo.jsonl'}]"
    with pytest.raises(InputError, match="once in each turn"):
        run(tmp_path, "--judge.kind", "gold", **{"policies.dpo": twice})
    with pytest.raises(InputError, match="policies: expected mapping of length >= 2"):
        CompareConfig(policies={"sft": "x"}, output_dir="y", judge={"kind": "gold"})
