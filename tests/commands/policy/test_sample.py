"""Sampling: the meta set that MetaRM reads, and a killed run that goes on."""

import json

import numpy as np
import pytest

from rmkit.cli import main
from rmkit.commands.sample import CACHE, SampleConfig, sample
from rmkit.core.checks import InputError
from rmkit.core.stage import read_record
from rmkit.data.samples import SAMPLES, read_samples
from rmkit.evaluation.policies import follow_up_prompt
from rmkit.generation import Completion, Failed, TransformersGenerator
from rmkit.models.reward_model import load_tokenizer


@pytest.fixture
def make(pairs_folder, tiny_base, tmp_path):
    """make(**settings) -> a configuration over the tiny pairs' prompts."""

    def configure(**settings):
        return SampleConfig(**{
            "data": str(pairs_folder / "train.parquet"), "model_name_or_path": str(tiny_base), "samples": 3,
            "output_dir": str(tmp_path / "samples"), "max_new_tokens": 5, "prompts": 4, **settings,
        })

    return configure


def read_rows(folder):
    return [json.loads(line) for line in (folder / SAMPLES).read_text().splitlines()]


def test_samples_are_a_meta_set(make, tiny_base, tmp_path):
    folder = sample(make())
    rows = read_rows(folder)
    assert len(rows) == 4 and all(len(row["responses"]) == 3 for row in rows)
    assert all(row["id"].startswith("p") and not {"chosen", "rejected"} & set(row) for row in rows)
    counts = read_record(folder)["counts"]
    assert counts["rows"] == 4 and counts["responses"] == 12 and counts["cut"] <= 12 and counts["tokens"] <= 60
    reading = read_samples(
        str(folder / SAMPLES), tmp_path / "read", tokenizer=load_tokenizer(tiny_base), max_length=128)
    assert reading.rows_out == 4 and not (folder / CACHE).exists()


def test_other_seeds_draw_other_responses(make, tmp_path):
    first = read_rows(sample(make()))
    others = read_rows(sample(make(output_dir=str(tmp_path / "other"), seed=1, prompts=None)))
    assert len(others) > 4
    by_prompt = {json.dumps(row["prompt"]): row["responses"] for row in others}
    assert all(by_prompt[json.dumps(row["prompt"])] != row["responses"] for row in first)


def test_a_prompt_of_which_a_response_failed_is_left_out_and_counted(make, monkeypatch):
    def fail(self, requests, done):
        for number, _ in enumerate(requests):
            yield number, Failed("no room") if number == 4 else Completion(f"text {number}", "stop", 3, 2)

    monkeypatch.setattr(TransformersGenerator, "complete_missing", fail)
    folder = sample(make())
    counts = read_record(folder)["counts"]
    assert counts["rows"] == len(read_rows(folder)) == 3
    assert counts["rows left out"] == counts["failures"] == 1 and counts["responses"] == 9


def test_refusals(make):
    with pytest.raises(InputError, match="a response to any prompt, got .* exceed the model's"):
        sample(make(max_new_tokens=5000))
    for settings, match in (({"samples": 0}, "samples"), ({"temperature": 0.0}, "samples"), ({"prompts": 0}, "prompts"),
                            ({"top_p": 0.0}, "top_p")):
        with pytest.raises(InputError, match=f"{match}: expected"):
            make(**settings)


@pytest.fixture
def two_turns(tmp_path):
    """A file of three prompts, two of which have a second question."""
    rows = [{"id": f"q{number}", "prompt": f"Name {number} stones.", **more} for number, more in enumerate((
        {"follow_up": "And their colours?"}, {}, {"follow_up": "Why these?", "question": "stones"}))]
    path = tmp_path / "questions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_second_question_follows_the_policys_own_first_answer(make, two_turns, tmp_path):
    """As if the second turn's prompts had been made by hand and answered by a run of their own."""
    settings = {"data": str(two_turns), "prompts": None, "samples": 2}
    first = read_rows(sample(make(**settings, output_dir=str(tmp_path / "first"))))
    prompts = tmp_path / "second.jsonl"
    prompts.write_text("".join(json.dumps(row) + "\n" for row in follow_up_prompt(first)))
    by_hand = read_rows(sample(make(**{**settings, "data": str(prompts)}, output_dir=str(tmp_path / "second"))))
    folder = sample(make(**settings, turns=2))
    rows = read_rows(folder)
    assert rows == first + by_hand and read_record(folder)["counts"]["rows"] == 5
    assert [(row["id"], row["turn"]) for row in rows[3:]] == [("q0/2", 2), ("q2/2", 2)]
    assert rows[4]["question"] == rows[2]["question"] == "stones" and len({row["id"] for row in rows}) == 5
    assert rows[3]["prompt"] == [*first[0]["prompt"], *first[0]["responses"][0],
                                 {"role": "user", "content": "And their colours?"}]
    with pytest.raises(InputError, match="follow_up.* got none"):
        sample(make(turns=2, output_dir=str(tmp_path / "other")))


@pytest.mark.parametrize("turns, last, asked", [(1, 5, [9, 4]), (2, 2, [9, 6, 0, 4])])
def test_a_killed_run_goes_on_with_what_it_has(make, two_turns, monkeypatch, tmp_path, turns, last, asked):
    """Killed in turn `turns` after `last` completions; `asked`: completions missing at the start of each turn."""
    settings = {"data": str(two_turns), "prompts": None, "turns": turns}
    whole = read_rows(sample(make(**settings)))
    complete, missing = TransformersGenerator.complete_missing, []

    def die(self, requests, done):
        missing.append(len(requests) - len(done))
        for count, found in enumerate(complete(self, requests, done)):
            if len(missing) == turns and count == last:
                raise KeyboardInterrupt
            yield found

    other = make(**settings, output_dir=str(tmp_path / "killed"))
    monkeypatch.setattr(TransformersGenerator, "complete_missing", die)
    with pytest.raises(KeyboardInterrupt):
        sample(other)
    assert read_rows(sample(other)) == whole and missing == asked
    sample(other)
    assert missing == asked  # a finished stage is not redone


def test_both_turns_are_graded_by_any_judge(two_turns, tiny_base, tiny_reward_model, tmp_path):
    """From a file of prompts to grades by turn, by commands alone."""
    for name, seed in (("one", "2"), ("other", "3")):
        assert main(["sample", "--data", str(two_turns), "--model_name_or_path", str(tiny_base), "--samples", "1",
                     "--turns", "2", "--max_new_tokens", "5", "--seed", seed, "--output_dir",
                     str(tmp_path / name)]) == 0
    judge = ["--judge.kind", "reward_model", "--judge.models.rm", str(tiny_reward_model)]
    assert main(["compare", "--policies.one", str(tmp_path / "one"), "--policies.other", str(tmp_path / "other"),
                 *judge, "--output_dir", str(tmp_path / "compared")]) == 0
    found = json.loads((tmp_path / "compared" / "comparison.json").read_text())
    assert found["questions"] == 5
    for grades in found["grades"].values():
        assert {turn: own["answers"] for turn, own in grades["turns"].items()} == {"1": 3, "2": 2}
        assert all(np.isfinite(own["mean"]) for own in (*grades["turns"].values(), grades["all"]))
    samples = str(tmp_path / "one" / SAMPLES)
    assert main(["judge", "--data", samples, *judge, "--output_dir", str(tmp_path / "judged")]) == 0
    report = json.loads((tmp_path / "judged" / "report.json").read_text())
    assert report["tasks"] == report["answers"]["asked"] == 5
