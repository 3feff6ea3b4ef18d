"""Evaluation fine-tuning data: from ranked responses and judgments of them to rows for `rmkit sft`."""

import json
import re

import pytest

from rmkit.commands.judge import JudgeConfig, judge
from rmkit.core.checks import InputError
from rmkit.core.seeds import derive_seed
from rmkit.core.stage import read_record
from rmkit.data.completions import read_completions
from rmkit.data.rejected_rows import RejectedRows
from rmkit.generation import Completion, Generator
from rmkit.judges.config import LLMJudgeConfig
from rmkit.meta_rewarding.eft import EftConfig, write_eft_data
from rmkit.models.reward_model import load_tokenizer


class Grader(Generator):
    """Scores a response by its first number, at times one too many, at times not at all."""

    name = "grader"

    def __init__(self):
        self.shown = set()

    def complete(self, requests):
        for number, request in enumerate(requests):
            text = request.prompt[-1]["content"]
            self.shown.add(text)
            response = re.search(r"<response>\n> (\d)", text).group(1)
            luck = derive_seed(request.seed, text) % 10
            score = int(response) + (luck < 3)
            yield number, Completion("no idea" if luck == 9 else f"because {luck}\nScore: {score}", "stop", 9, 9)


@pytest.fixture
def judged(tmp_path, monkeypatch):
    """judged(model="name", url=..): ranked responses in `ranked.jsonl`, judged four times each; the generator."""

    def make(model="none", base_url="http://nowhere/v1", extra=""):
        rows = [{"prompt": f"Question {number}?{extra}", "responses": [f"{score} points{extra}" for score in (4, 2, 1)],
                 "ranks": [0, 1, None if number == 5 else 2]} for number in range(30)]
        (tmp_path / "ranked.jsonl").write_text("no row\n" + "".join(json.dumps(row) + "\n" for row in rows))
        grader = Grader()
        monkeypatch.setattr("rmkit.judges.config.load_judge_generator", lambda model, trust: grader)
        judge(JudgeConfig(
            data=str(tmp_path / "ranked.jsonl"), output_dir=str(tmp_path / "judgments"),
            language_model=LLMJudgeConfig(model, samples=4, base_url=base_url), n_bootstrap=10,
        ))
        return grader

    return make


def configure(tmp_path, **settings):
    return EftConfig(
        **{
            "data": str(tmp_path / "ranked.jsonl"),
            "judgments": str(tmp_path / "judgments"),
            "output_dir": str(tmp_path / "lessons"),
            "question": "rubric",
            "most": 100.0,
            **settings,
        }
    )


def read(folder, split):
    return [json.loads(line) for line in (folder / f"{split}.jsonl").read_text().splitlines()]


def test_lessons_are_what_was_shown_and_said(judged, tmp_path):
    grader = judged()
    folder = write_eft_data(configure(tmp_path))
    counts = read_record(folder)["judgments"]
    rows = {split: read(folder, split) for split in ("train", "validation")}
    assert sum(counts.values()) == 30 * 3 * 4 and {name: len(own) for name, own in rows.items()} == {
        name: counts[name] for name in rows}
    assert set(counts) == {"train", "validation", "no score", "no rank", "nothing to compare", "a tie"}
    for row in rows["train"] + rows["validation"]:
        shown, said = row["prompt"][-1]["content"], row["completion"][0]["content"]
        assert shown in grader.shown and re.fullmatch(r"because \d\nScore: \d", said)
    questions = [{re.search(r"Question \d+", row["prompt"][0]["content"]).group() for row in own}
                 for own in rows.values()]
    assert not questions[0] & questions[1] and len(questions[1]) > 2
    with RejectedRows(tmp_path / "aside.jsonl") as aside:  # `rmkit sft` takes them
        assert len(read_completions(str(folder / "train.jsonl"), "train", aside)) == counts["train"]


def test_instructions_come_first_and_share_no_prompt(judged, tmp_path):
    judged()
    taught = [{"prompt": f"Question {number}?", "completion": "Yes."} for number in range(10)]
    (tmp_path / "taught.jsonl").write_text("".join(json.dumps(row) + "\n" for row in taught))
    folder = write_eft_data(configure(tmp_path, instructions=str(tmp_path / "taught.jsonl"), most=1.0))
    record, rows = read_record(folder), read(folder, "train")
    assert record["instructions"] == 10 and record["judgments"]["in the instruction data"] == 10 * 3 * 4
    assert [row["completion"][0]["content"] for row in rows[:10]] == ["Yes."] * 10
    assert all("Score:" in row["completion"][0]["content"] for row in rows[10:])
    assert not any(re.search(r"Question \d\?", row["prompt"][0]["content"]) for row in rows[10:])
    assert record["judgments"]["score in excess"] > 0
    files = [(folder / f"{split}.jsonl").read_bytes() for split in ("train", "validation")]
    again = write_eft_data(
        configure(tmp_path, instructions=str(tmp_path / "taught.jsonl"), most=1.0, output_dir=str(tmp_path / "again"))
    )
    assert [(again / f"{split}.jsonl").read_bytes() for split in ("train", "validation")] == files


def test_a_judge_in_this_process_is_shown_no_special_tokens(judged, tiny_base, tmp_path):
    special = load_tokenizer(tiny_base).eos_token
    judged(str(tiny_base), None, extra=f" {special}")
    folder = write_eft_data(configure(tmp_path, tokenizer=str(tiny_base)))
    prompts = [row["prompt"][0]["content"] for row in read(folder, "train")]
    assert prompts and not any(special in prompt for prompt in prompts)


def test_a_row_without_its_ranks(judged, tmp_path):
    judged()
    path = tmp_path / "ranked.jsonl"
    path.write_text(path.read_text().replace("[0, 1, 2]", "[0, 1]"))
    with pytest.raises(InputError, match="ranks, one for each response"):
        write_eft_data(configure(tmp_path))
