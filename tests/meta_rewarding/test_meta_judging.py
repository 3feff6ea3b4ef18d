"""Battles as a stage: which judgments fight, what is kept, and a killed or failing run that goes on."""

import json
import re

import pytest

from rmkit.core.checks import InputError
from rmkit.core.legacy_config import as_dict
from rmkit.core.stage import read_record
from rmkit.generation import Completion, Failed, Generator
from rmkit.judges.config import LLMJudgeConfig
from rmkit.judges.prompts import META_JUDGE_PROMPTS
from rmkit.meta_rewarding.meta_judging import BATTLES, MetaJudgingConfig, read_battles, run_meta_judging
from tests.meta_rewarding.judged_folder import write_judged

RESPONSES = [["calm", "torn"], ["only"], ["twin"], ["odd", "even"]]
SCORES = [[[3.0, 3.0, 3.0], [1.0, 5.0, 3.0]], [[2.0, None, None]], [[4.0, 4.0, 4.0]],
          [[1.0, 4.0, None], [2.0, 2.0, 2.0]]]


class Scripted(Generator):
    """Prefers the judgment of the higher score, and the first of equals; `answers` change that by number of call."""

    name = "scripted"

    def __init__(self, answers=None):
        self.answers = answers or {}
        self.asked = 0

    def complete(self, requests):
        for number, request in enumerate(requests):
            self.asked += 1
            answer = self.answers.pop(self.asked, None)
            if isinstance(answer, BaseException):
                raise answer
            if answer is not None:
                yield number, answer
                continue
            shown = request.prompt[-1]["content"]
            first, second = map(float, re.findall(r"Score ?: ([0-9.]+)", shown))
            yield number, Completion(f"so\nWinner: Judgment {'A' if first >= second else 'B'}", "stop", 9, 3)


@pytest.fixture
def make(tmp_path, monkeypatch):
    """make(generator, **settings) -> a configuration that `generator` answers."""
    judged = write_judged(tmp_path / "judgments", RESPONSES, SCORES)

    def configure(generator, **settings):
        monkeypatch.setattr("rmkit.meta_rewarding.meta_judging.find_generator", lambda model, trust: generator)
        return MetaJudgingConfig(
            **{
                "data": judged,
                "output_dir": str(tmp_path / "battles"),
                "at_once": 1,
                "language_model": LLMJudgeConfig("m", question="gold"),
                **settings,
            }
        )

    return configure


def test_the_disputed_responses_different_judgments_fight_in_both_orders(make):
    generator = Scripted()
    folder = run_meta_judging(make(generator))
    rows = read_battles(folder)
    assert [row["id"] for row in rows] == ["f:0", "f:3"]  # the others have one judgment, or one text
    assert [row["response"] for row in rows] == [1, 0] and generator.asked == 3 * 2 + 1 * 2
    assert rows[0]["judgments"] == ["Score: 1.0", "Score: 5.0", "Score: 3.0"] and rows[0]["scores"] == [1.0, 5.0, 3.0]
    assert rows[0]["verdicts"] == [[None, -1, -1], [1, None, 1], [1, -1, None]]
    assert rows[0]["prompt"][0]["content"] == "Request:\n> prompt 0\nResponse:\n> torn\nHow good is the response?"
    assert len(rows[0]["answers"]) == 6 and rows[0]["answers"][0]["text"].startswith("so")
    record = read_record(folder)
    assert record["rows"] == 2 and record["undisputed"] == 2 and record["answers"] == {"judgment": 8}
    limited = read_battles(run_meta_judging(make(Scripted(), most=2, output_dir=str(folder.parent / "few"))))
    assert limited[0]["judgments"] == ["Score: 1.0", "Score: 5.0"]


def test_a_killed_run_goes_on_where_it_was(make, tmp_path):
    whole = (run_meta_judging(make(Scripted(), output_dir=str(tmp_path / "whole"))) / BATTLES).read_text()
    with pytest.raises(KeyboardInterrupt):
        run_meta_judging(make(Scripted({7: KeyboardInterrupt()})))
    with (tmp_path / "battles" / f"{BATTLES}.part").open("a") as file:
        file.write('{"id": "f:3", "ver')  # what a kill leaves of a line
    generator = Scripted()
    folder = run_meta_judging(make(generator))
    assert (folder / BATTLES).read_text() == whole and generator.asked == 2
    run_meta_judging(make(generator))
    assert generator.asked == 2


def test_answers_that_failed_are_asked_for_again(make):
    with pytest.raises(InputError, match="battle: expected an answer to every question, got .*1 failures.*gone"):
        run_meta_judging(make(Scripted({2: Failed("gone")})))
    generator = Scripted()
    assert len(read_battles(run_meta_judging(make(generator)))) == 2 and generator.asked == 1 + 2


def test_unread_verdicts_are_none(make):
    rows = read_battles(run_meta_judging(make(Scripted({1: Completion("both are fine", "stop", 9, 3)}))))
    assert rows[0]["verdicts"][0][1] is None and rows[0]["verdicts"][1][0] == 1
    assert rows[0]["answers"][0] == {"kind": "unparsed", "order": "given", "text": "both are fine", "score": None}


def test_refusals(make):
    assert "comparison" not in META_JUDGE_PROMPTS
    for settings, match in (
        ({"language_model": LLMJudgeConfig("m", question="comparison")}, "question: expected one with a meta-judge"),
        ({"most": 1}, "most: expected"),
        ({"at_once": 0}, "at_once: expected"),
    ):
        with pytest.raises(InputError, match=match):
            make(Scripted(), **settings)
    assert json.dumps(as_dict(make(Scripted())))
