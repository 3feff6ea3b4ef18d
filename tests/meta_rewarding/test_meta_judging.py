"""Meta-judging as a step: which judgments are compared, what is written, and a killed or failing run that continues."""

import re

import pytest

from rmkit.core.checks import InputError
from rmkit.core.stage import read_record
from rmkit.generation import Completion, Failed, Generator
from rmkit.meta_rewarding.meta_judging import META_JUDGMENTS, read_meta_judgments, run_meta_judging
from rmkit.meta_rewarding.step_config import MetaJudgingConfig
from tests.meta_rewarding.judged_folder import write_judged

RESPONSES = [["calm", "torn"], ["only"], ["twin"], ["odd", "even"]]
SCORES = [[[3.0, 3.0, 3.0], [1.0, 5.0, 3.0]], [[2.0, None, None]], [[4.0, 4.0, 4.0]],
          [[1.0, 4.0, None], [2.0, 2.0, 2.0]]]


class Scripted(Generator):
    """Prefers the judgment of the higher score, and the first of equals; `answers` replaces answers by number."""

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
            if answer is None:
                first, second = map(float, re.findall(r"Score ?: ([0-9.]+)", request.prompt[-1]["content"]))
                answer = Completion(f"so\nWinner: Judgment {'A' if first >= second else 'B'}", "stop", 9, 3)
            yield number, answer


@pytest.fixture
def run(tmp_path, monkeypatch):
    """run(generator, **settings) -> the output folder, with `generator` as the language model."""
    judged = write_judged(tmp_path / "judgments", RESPONSES, SCORES)

    def compare(generator, **settings):
        monkeypatch.setattr("rmkit.judges.language_model.load_judge_generator", lambda *_: generator)
        return run_meta_judging(MetaJudgingConfig(**{
            "data": judged, "output_dir": str(tmp_path / "out"), "batch_size": 1, "model_name_or_path": "m",
            "prompt": "synthetic", **settings,
        }))

    return compare


def test_distinct_judgments_of_the_disputed_response_are_compared_in_both_orders(run, tmp_path):
    generator = Scripted()
    folder = run(generator)
    first, second = read_meta_judgments(folder)
    assert (first["id"], second["id"]) == ("f:0", "f:3")  # the others have one judgment, or one text
    assert (first["response"], second["response"]) == (1, 0) and generator.asked == 3 * 2 + 1 * 2
    assert first["judgments"] == ["Score: 1.0", "Score: 5.0", "Score: 3.0"] and first["scores"] == [1.0, 5.0, 3.0]
    assert first["verdicts"] == [[None, -1, -1], [1, None, 1], [1, -1, None]]
    assert first["prompt"][0]["content"] == "Request:\n> prompt 0\nResponse:\n> torn\nHow good is the response?"
    assert len(first["answers"]) == 6 and first["answers"][0]["text"].startswith("so")
    record = read_record(folder)
    assert record["rows"] == 2 and record["skipped"] == 2 and record["answers"] == {"judgment": 8}
    limited = read_meta_judgments(run(Scripted(), max_judgments=2, output_dir=str(tmp_path / "limited")))
    assert limited[0]["judgments"] == ["Score: 1.0", "Score: 5.0"]


def test_a_killed_run_continues_where_it_was(run, tmp_path):
    complete = (run(Scripted(), output_dir=str(tmp_path / "complete")) / META_JUDGMENTS).read_text()
    with pytest.raises(KeyboardInterrupt):
        run(Scripted({7: KeyboardInterrupt()}))
    with (tmp_path / "out" / f"{META_JUDGMENTS}.part").open("a") as file:
        file.write('{"id": "f:3", "ver')  # a line that the kill cut off
    generator = Scripted()
    assert (run(generator) / META_JUDGMENTS).read_text() == complete and generator.asked == 2
    run(generator)
    assert generator.asked == 2


def test_failed_answers_are_asked_for_again(run):
    with pytest.raises(InputError, match="meta_judge: expected an answer to every question, got .*1 failures.*gone"):
        run(Scripted({2: Failed("gone")}))
    generator = Scripted()
    assert len(read_meta_judgments(run(generator))) == 2 and generator.asked == 1 + 2


def test_unparsed_verdicts_are_none(run):
    row = read_meta_judgments(run(Scripted({1: Completion("both are fine", "stop", 9, 3)})))[0]
    assert row["verdicts"][0][1] is None and row["verdicts"][1][0] == 1
    answer = row["answers"][0]
    assert (answer["kind"], answer["text"], answer["score"]) == ("unparsed", "both are fine", None)


@pytest.mark.parametrize("settings, match", [
    ({"prompt": "pairwise"}, "prompt: expected one that scores"), ({"max_judgments": 1}, "max_judgments: expected"),
    ({"batch_size": 0}, "batch_size: expected"),
])
def test_invalid_settings(run, settings, match):
    with pytest.raises(InputError, match=match):
        run(Scripted(), **settings)
