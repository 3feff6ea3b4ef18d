"""What is put to a judge: nothing twice, whatever was killed or failed, and nothing that failed is taken for heard."""

import itertools
import json

import pytest
from datasets import Dataset

from rmkit.commands.judge import judge
from rmkit.core.checks import InputError
from rmkit.generation import Failed, ServerGenerator
from rmkit.judges.config import JudgeConfig, LLMJudgeConfig, list_settings, load_judge_generator
from tests.judges.judge_runs import LANGUAGE, configure, run

pytestmark = pytest.mark.filterwarnings(r"ignore:.*torch\.jit\.:DeprecationWarning")


@pytest.mark.parametrize("question", ["rubric", "comparison"])
def test_a_killed_run_goes_on(question, appointed, write_pairs, tmp_path):
    """Killed within every block, and while it was writing: nothing is asked twice, and the outcome is the same."""
    rows = [(f"Question {number}?", f"red {number}", f"blue {number}") for number in range(10)]
    data = write_pairs(rows)
    words = (*LANGUAGE, "--language_model.question", question, "--at_once", "3")

    def answer(parts, luck):
        return "Score: 3" if question == "rubric" else f"Winner: Response {'A' if luck < 0.6 else 'B'}"

    left = [5]

    def mortal(parts, luck):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return answer(parts, luck)

    generator = appointed(mortal)
    config = configure(data, tmp_path, *words)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            judge(config)
        left[0] = 5
        journal = tmp_path / "out/answers.jsonl"
        if journal.exists():
            journal.write_bytes(journal.read_bytes() + b'{"task": "p9/chosen", "ans')
    report, judgments = run(config)
    assert len(generator.asked) == 20 + 3  # the one in whose middle it was killed is asked again
    assert not list((tmp_path / "out").glob("*.jsonl")) and len(judgments) == 20
    appointed(answer)
    whole, same = run(configure(data, tmp_path, *words, output_dir=tmp_path / "whole"))
    assert same == judgments and {**whole, "cost": None} == {**report, "cost": None}


def test_a_finished_run_asks_nothing_and_another_pace_is_the_same_run(appointed, write_pairs, tmp_path, capsys):
    generator = appointed(lambda parts, luck: "Score: 3")
    data = write_pairs([("1", "a", "b"), ("2", "a", "b")])
    run(configure(data, tmp_path, *LANGUAGE))
    first = capsys.readouterr().out
    run(configure(data, tmp_path, *LANGUAGE, "--at_once", "1", "--language_model.concurrency", "2"))
    assert len(generator.asked) == 4 and capsys.readouterr().out == first


def test_failures_are_asked_again_or_accepted(appointed, write_pairs, tmp_path):
    broken = [True]

    def script(parts, luck):
        return Failed("status 500") if broken[0] and parts["response"] in "bd" else "Score: 3"

    generator = appointed(script)
    data = write_pairs([("1", "a", "b"), ("2", "c", "d"), ("3", "e", "f")])
    config = configure(data, tmp_path, *LANGUAGE)
    with pytest.raises(InputError, match="got 2 failures, the first: status 500.*--allow_failures"):
        judge(config)
    assert len(generator.asked) == 6 and not (tmp_path / "out/report.json").exists()
    report, judgments = run(configure(data, tmp_path, *LANGUAGE, "--allow_failures"))
    assert len(generator.asked) == 8 and report["answers"]["failed"] == 2
    assert report["answers"]["failed_reasons"] == {"status 500": 2} and report["answers"]["unparsed"] == 0
    assert report["agreement"]["unjudged"] == 2 and [row["kind"] for row in judgments].count("failed") == 2
    config = configure(data, tmp_path, *LANGUAGE, output_dir=tmp_path / "again")
    with pytest.raises(InputError):
        judge(config)
    broken[0] = False
    report, _ = run(config)
    assert len(generator.asked) == 8 + 6 + 2 and report["answers"]["failed"] == 0


def fail_first(asked):
    """A script whose answer number `asked` fails, counted from 1."""
    count = iter(range(1, 1000))
    return lambda parts, luck: Failed("status 503") if next(count) == asked else "Score: 3"


@pytest.mark.parametrize("at_once", [1, 2, 4])
@pytest.mark.parametrize("asked", [1, 12])
def test_what_a_failed_block_has_had_answered_is_not_asked_again(asked, at_once, appointed, write_pairs, tmp_path):
    """One answer of five to one of six responses fails: it alone is asked for again, in whichever block it was."""
    data = write_pairs([(str(number), f"red {number}", f"blue {number}") for number in range(3)])
    config = configure(data, tmp_path, *LANGUAGE, "--language_model.samples", "5", at_once=at_once)
    first = appointed(fail_first(asked))
    with pytest.raises(InputError, match="1 failures"):
        judge(config)
    again = appointed(fail_first(None))
    report, _ = run(config)
    assert (len(first.asked), len(again.asked)) == (30, 1) and report["answers"]["failed"] == 0
    assert not list((tmp_path / "out").glob("*.jsonl"))


def test_answers_on_their_way_take_the_room_of_one_block(appointed, write_pairs, tmp_path):
    """What is in the journal is not kept twice, nor read again for every block."""
    sizes = []

    def script(parts, luck):
        pending = tmp_path / "out/pending.jsonl"
        sizes.append(pending.stat().st_size if pending.exists() else 0)
        return Failed("status 503") if parts["response"] == "red 0" else "Score: 3"

    appointed(script)
    data = write_pairs([(str(number), f"red {number}", f"blue {number}") for number in range(6)])
    with pytest.raises(InputError):
        judge(configure(data, tmp_path, *LANGUAGE, at_once=1))
    line = sizes[2]
    assert line > 0 and sizes[2::2] == [line] * 5 and max(sizes) < 2.2 * line


def test_failures_that_were_accepted_are_asked_again_by_who_does_not(appointed, write_pairs, tmp_path):
    data = write_pairs([(str(number), f"red {number}", f"blue {number}") for number in range(4)])
    left = [6]

    def script(parts, luck):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return Failed("status 503") if parts["response"] == "red 0" else "Score: 3"

    appointed(script)
    with pytest.raises(KeyboardInterrupt):
        judge(configure(data, tmp_path, *LANGUAGE, "--allow_failures", at_once=2))
    again = appointed(lambda parts, luck: Failed("down") if parts["response"] == "red 0" else "Score: 3")
    with pytest.raises(InputError, match="1 failures, the first: down"):
        judge(configure(data, tmp_path, *LANGUAGE, at_once=2))
    assert len(again.asked) == 1 + 2  # the failed one, and what the killed run had not come to
    last = appointed(lambda parts, luck: "Score: 3")
    report, judgments = run(configure(data, tmp_path, *LANGUAGE, at_once=2))
    assert len(last.asked) == 1 and report["answers"]["failed"] == 0 and len(judgments) == 8


def test_what_a_run_killed_behind_its_journal_left_goes(appointed, write_pairs, tmp_path, monkeypatch):
    data = write_pairs([("1", "a", "b")])
    appointed(lambda parts, luck: "Score: 3")

    def die(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("rmkit.judges.runner.file_size", lambda file: 0 if not file.exists() else die())
        judge(configure(data, tmp_path, *LANGUAGE))
    assert (tmp_path / "out/pending.jsonl").exists()
    run(configure(data, tmp_path, *LANGUAGE))
    assert not list((tmp_path / "out").glob("*.jsonl"))


def test_a_comparison_of_single_responses_is_refused(appointed, tmp_path):
    data = tmp_path / "responses.jsonl"
    data.write_text("".join(json.dumps({"prompt": f"{number}?", "response": "x"}) + "\n" for number in range(3)))
    appointed(lambda parts, luck: "Winner: Response A")
    with pytest.raises(InputError, match="data: expected a row with 2 responses or more, got none"):
        judge(configure(data, tmp_path, *LANGUAGE, "--language_model.question", "comparison"))


def test_a_table_without_rows_is_refused(appointed, write_pairs, tmp_path):
    appointed(lambda parts, luck: "Score: 3")
    rows = Dataset.from_parquet(str(write_pairs([("1", "a", "b")]) / "test.parquet"))
    rows.select([]).to_parquet(tmp_path / "none.parquet")
    with pytest.raises(InputError, match="none.parquet: expected at least one row, got none"):
        judge(configure(tmp_path / "none.parquet", tmp_path, *LANGUAGE))


def test_a_clock_that_steps_back_takes_no_time(appointed, write_pairs, tmp_path, monkeypatch):
    appointed(lambda parts, luck: "Score: 3")
    monkeypatch.setattr("rmkit.judges.runner.time.time", itertools.count(0, -1).__next__)
    report, _ = run(configure(write_pairs([("1", "a", "b")]), tmp_path, *LANGUAGE))
    assert 0 < report["cost"]["seconds"] < 10


SERVER = ("--language_model.base_url", "http://localhost:9/v1", "--language_model.extra_body.top_k", "-1",
          "--language_model.timeout", "7", "--language_model.max_retries", "2")


def test_a_server_gets_what_it_needs(tmp_path):
    config = configure("data", tmp_path, *LANGUAGE, *SERVER)
    generator = load_judge_generator(config.language_model, False)
    assert isinstance(generator, ServerGenerator) and generator.extra_body == {"top_k": -1}
    assert (generator.timeout, generator.max_retries) == (7, 2)


def test_a_model_in_this_process_gets_its_token_budget(tiny_base):
    assert load_judge_generator(LLMJudgeConfig(str(tiny_base), max_tokens_per_batch=77), False).max_tokens_per_batch == 77


def test_what_decides_the_answers_is_in_the_settings():
    """Pace is not, nor is `extra_body` where there is none, so that folders from before it was known stay what they are."""
    plain, hurried = (JudgeConfig("data", "out", language_model=LLMJudgeConfig("m", base_url="http://h/v1", **pace))
                      for pace in ({}, {"timeout": 1, "max_retries": 1, "max_tokens_per_batch": 1, "concurrency": 1}))
    assert list_settings(plain) == list_settings(hurried)
    assert set(list_settings(plain)["language_model"]) == {
        "model_name_or_path", "question", "way", "samples", "base_url", "temperature", "top_p", "max_new_tokens"}
    other = JudgeConfig("data", "out", language_model=LLMJudgeConfig("m", base_url="http://h/v1", extra_body={"top_k": 1}))
    assert list_settings(other)["language_model"]["extra_body"] == {"top_k": 1}
