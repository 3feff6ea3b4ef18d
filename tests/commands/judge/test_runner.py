"""Resumed runs repeat no request; settings of generators; a judge of another module."""

import itertools

import pytest

from rmkit.commands.judge import JudgeConfig, judge
from rmkit.core.checks import InputError
from rmkit.core.config import output_settings
from rmkit.generation import Failed, ServerGenerator
from rmkit.judges.config import LLMJudgeConfig
from rmkit.judges.language_model import load_judge_generator
from tests.judges.judge_runs import LLM, configure, run


def colours(count):
    """Rows for `write_pairs`."""
    return [(f"{number}?", f"red {number}", f"blue {number}") for number in range(count)]


def kill_after(left, answer):
    """A script that answers `left[0]` times and then kills the run."""

    def script(parts, draw):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return answer(parts, draw)

    return script


def red_0_fails(parts, draw):
    return Failed("status 503") if parts["response"] == "red 0" else "Score: 3"


@pytest.mark.parametrize("prompt", ["additive_5", "pairwise"])
def test_a_killed_run_continues(prompt, scripted_judge, write_pairs, tmp_path):
    """Killed within every batch and while writing: no request is repeated, and the results are the same."""
    data = write_pairs(colours(10))
    words = (*LLM, "--judge.prompt", prompt, "--batch_size", "3")

    def answer(parts, draw):
        return "Score: 3" if prompt == "additive_5" else f"Winner: Response {'A' if draw < 0.6 else 'B'}"

    left = [5]
    generator = scripted_judge(kill_after(left, answer))
    config = configure(data, tmp_path, *words)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            judge(config)
        left[0] = 5
        log = tmp_path / "out/answers.jsonl"
        if log.exists():
            log.write_bytes(log.read_bytes() + b'{"task": "p9/chosen", "ans')
    report, judgments = run(config)
    assert len(generator.asked) == 20 + 3  # each kill repeats one request
    assert not list((tmp_path / "out").glob("*.jsonl")) and len(judgments) == 20
    scripted_judge(answer)
    whole, same = run(configure(data, tmp_path, *words, output_dir=tmp_path / "whole"))
    assert same == judgments and {**whole, "cost": None} == {**report, "cost": None}


def test_speed_settings_reuse_a_finished_run(scripted_judge, write_pairs, tmp_path, capsys):
    generator = scripted_judge(lambda parts, draw: "Score: 3")
    data = write_pairs([("1", "a", "b"), ("2", "a", "b")])
    run(configure(data, tmp_path, *LLM))
    first = capsys.readouterr().out
    run(configure(data, tmp_path, *LLM, "--batch_size", "1", "--judge.concurrency", "2"))
    assert len(generator.asked) == 4 and capsys.readouterr().out == first


def test_failures_end_the_run_unless_allowed(scripted_judge, write_pairs, tmp_path):
    generator = scripted_judge(lambda parts, draw: Failed("status 500") if parts["response"] in "bd" else "Score: 3")
    data = write_pairs([("1", "a", "b"), ("2", "c", "d"), ("3", "e", "f")])
    config = configure(data, tmp_path, *LLM)
    with pytest.raises(InputError, match="got 2 failures, the first: status 500.*--allow_failures"):
        judge(config)
    assert len(generator.asked) == 6 and not (tmp_path / "out/report.json").exists()
    report, judgments = run(configure(data, tmp_path, *LLM, "--allow_failures"))
    assert len(generator.asked) == 8 and report["answers"]["failed"] == 2
    assert report["answers"]["failed_reasons"] == {"status 500": 2} and report["answers"]["unparsed"] == 0
    assert report["agreement"]["unjudged"] == 2 and [row["kind"] for row in judgments].count("failed") == 2


@pytest.mark.parametrize("batch_size", [1, 2, 4])
@pytest.mark.parametrize("failed", [1, 12])
def test_only_failed_requests_are_repeated(failed, batch_size, scripted_judge, write_pairs, tmp_path):
    """One answer of five to one of six responses fails: only it is requested again, whichever batch it was in."""
    config = configure(write_pairs(colours(3)), tmp_path, *LLM, "--judge.samples", "5", batch_size=batch_size)
    count = itertools.count(1)
    first = scripted_judge(lambda parts, draw: Failed("status 503") if next(count) == failed else "Score: 3")
    with pytest.raises(InputError, match="1 failures"):
        judge(config)
    again = scripted_judge(lambda parts, draw: "Score: 3")
    report, _ = run(config)
    assert (len(first.asked), len(again.asked)) == (30, 1) and report["answers"]["failed"] == 0
    assert not list((tmp_path / "out").glob("*.jsonl"))


def test_pending_answers_are_those_of_one_batch(scripted_judge, write_pairs, tmp_path):
    """Logged answers are not kept twice."""
    sizes = []

    def script(parts, draw):
        pending = tmp_path / "out/pending.jsonl"
        sizes.append(pending.stat().st_size if pending.exists() else 0)
        return red_0_fails(parts, draw)

    scripted_judge(script)
    with pytest.raises(InputError):
        judge(configure(write_pairs(colours(6)), tmp_path, *LLM, batch_size=1))
    line = sizes[2]
    assert line > 0 and sizes[2::2] == [line] * 5 and max(sizes) < 2.2 * line


def test_allowed_failures_are_repeated_by_a_run_that_does_not_allow_them(scripted_judge, write_pairs, tmp_path):
    data = write_pairs(colours(4))
    scripted_judge(kill_after([6], red_0_fails))
    with pytest.raises(KeyboardInterrupt):
        judge(configure(data, tmp_path, *LLM, "--allow_failures", batch_size=2))
    again = scripted_judge(red_0_fails)
    with pytest.raises(InputError, match="1 failures, the first: status 503"):
        judge(configure(data, tmp_path, *LLM, batch_size=2))
    assert len(again.asked) == 1 + 2  # the failed one and the unanswered ones
    last = scripted_judge(lambda parts, draw: "Score: 3")
    report, judgments = run(configure(data, tmp_path, *LLM, batch_size=2))
    assert len(last.asked) == 1 and report["answers"]["failed"] == 0 and len(judgments) == 8


def test_pending_answers_of_a_run_killed_after_logging_are_deleted(scripted_judge, write_pairs, tmp_path, monkeypatch):
    data = write_pairs([("1", "a", "b")])
    scripted_judge(lambda parts, draw: "Score: 3")
    kill = kill_after([0], None)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("rmkit.judges.runner.file_size", lambda file: 0 if not file.exists() else kill(None, 0))
        judge(configure(data, tmp_path, *LLM))
    assert (tmp_path / "out/pending.jsonl").exists()
    run(configure(data, tmp_path, *LLM))
    assert not list((tmp_path / "out").glob("*.jsonl"))


def test_a_generator_gets_its_settings(tiny_base):
    server = LLMJudgeConfig(model_name_or_path="m", base_url="http://localhost:9/v1", extra_body={"top_k": -1},
                            timeout=7, max_retries=2)
    generator = load_judge_generator(server, False)
    assert isinstance(generator, ServerGenerator) and generator.extra_body == {"top_k": -1}
    assert (generator.timeout, generator.max_retries) == (7, 2)
    local = LLMJudgeConfig(model_name_or_path=str(tiny_base), max_tokens_per_batch=77)
    assert load_judge_generator(local, False).max_tokens_per_batch == 77


def test_speed_settings_do_not_affect_output():
    judge = {"kind": "llm", "model_name_or_path": "m", "base_url": "http://h/v1"}
    plain, fast, other = (output_settings(JudgeConfig(data="data", output_dir="out", judge={**judge, **changes}))
                          for changes in ({}, {"timeout": 1, "max_retries": 1, "concurrency": 1}, {"samples": 2}))
    assert plain == fast != other
    assert set(plain["judge"]) == {"kind", "model_name_or_path", "prompt", "score_from", "samples", "base_url",
                                   "extra_body", "temperature", "top_p", "max_new_tokens"}
