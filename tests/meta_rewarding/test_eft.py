"""Evaluation fine-tuning data as a step: from ranked responses and judgments of them to rows for `rmkit sft`."""

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
from rmkit.meta_rewarding.eft import write_eft_data
from rmkit.meta_rewarding.step_config import EftConfig
from rmkit.models.reward_model import load_tokenizer


class Grader(Generator):
    """Scores a response by its first number, sometimes one too high, sometimes without a score."""

    name = "grader"

    def __init__(self):
        self.prompts = set()

    def complete(self, requests):
        for number, request in enumerate(requests):
            text = request.prompt[-1]["content"]
            self.prompts.add(text)
            response = re.search(r"<response>\n> (\d)", text).group(1)
            draw = derive_seed(request.seed, text) % 10
            score = int(response) + (draw < 3)
            yield number, Completion("no idea" if draw == 9 else f"because {draw}\nScore: {score}", "stop", 9, 9)


@pytest.fixture
def judged(tmp_path, monkeypatch):
    """judged(model, base_url): ranked responses in `ranked.jsonl`, judged four times each; returns the generator."""

    def make(model="none", base_url="http://nowhere/v1", extra=""):
        rows = [{"prompt": f"Question {number}?{extra}", "responses": [f"{score} points{extra}" for score in (4, 2, 1)],
                 "ranks": [0, 1, None if number == 5 else 2]} for number in range(30)]
        (tmp_path / "ranked.jsonl").write_text("no row\n" + "".join(json.dumps(row) + "\n" for row in rows))
        grader = Grader()
        monkeypatch.setattr("rmkit.judges.language_model.load_judge_generator", lambda *_: grader)
        judge(JudgeConfig(
            data=str(tmp_path / "ranked.jsonl"), output_dir=str(tmp_path / "judgments"), n_bootstrap=10,
            judge={"kind": "llm", "model_name_or_path": model, "samples": 4, "base_url": base_url},
        ))
        return grader

    return make


@pytest.fixture
def write(tmp_path):
    """write(**settings) -> the rows by split, and the record."""

    def run(**settings):
        folder = write_eft_data(EftConfig(**{
            "data": str(tmp_path / "ranked.jsonl"), "judgments": str(tmp_path / "judgments"),
            "output_dir": str(tmp_path / "eft"), "judge_prompt": "additive_5", "max_score_ratio": 100.0, **settings,
        }))
        return {split: [json.loads(line) for line in (folder / f"{split}.jsonl").read_text().splitlines()]
                for split in ("train", "validation")}, read_record(folder)

    return run


def test_rows_are_prompts_and_judgments_of_the_judge(judged, write, tmp_path):
    grader = judged()
    rows, record = write()
    counts = record["judgments"]
    assert sum(counts.values()) == 30 * 3 * 4
    assert {split: len(split_rows) for split, split_rows in rows.items()} == {split: counts[split] for split in rows}
    assert set(counts) == {"train", "validation", "no score", "no rank", "nothing to compare", "a tie"}
    for row in rows["train"] + rows["validation"]:
        assert row["prompt"][-1]["content"] in grader.prompts
        assert re.fullmatch(r"because \d\nScore: \d", row["completion"][0]["content"])
    train, validation = ({re.search(r"Question \d+", row["prompt"][0]["content"]).group() for row in split_rows}
                         for split_rows in rows.values())
    assert not train & validation and len(validation) > 2
    with RejectedRows(tmp_path / "rejected.jsonl") as rejected:  # `rmkit sft` reads them
        assert len(read_completions(str(tmp_path / "eft/train.jsonl"), "train", rejected)) == counts["train"]


def test_instructions_come_first_and_share_no_prompt(judged, write, tmp_path):
    judged()
    instructions = [{"prompt": f"Question {number}?", "completion": "Yes."} for number in range(10)]
    (tmp_path / "sft.jsonl").write_text("".join(json.dumps(row) + "\n" for row in instructions))
    settings = {"instructions": str(tmp_path / "sft.jsonl"), "max_score_ratio": 1.0}
    rows, record = write(**settings)
    assert record["instructions"] == 10 and record["judgments"]["in the instruction data"] == 10 * 3 * 4
    assert [row["completion"][0]["content"] for row in rows["train"][:10]] == ["Yes."] * 10
    for row in rows["train"][10:]:
        assert "Score:" in row["completion"][0]["content"]
        assert not re.search(r"Question \d\?", row["prompt"][0]["content"])
    assert record["judgments"]["score in excess"] > 0
    assert write(**settings, output_dir=str(tmp_path / "again"))[0] == rows


def test_special_tokens_of_a_judge_in_this_process_are_escaped(judged, write, tiny_base):
    special = load_tokenizer(tiny_base).eos_token
    judged(str(tiny_base), None, extra=f" {special}")
    rows, _ = write(tokenizer=str(tiny_base))
    assert rows["train"] and not any(special in row["prompt"][0]["content"] for row in rows["train"])


def test_ranks_are_needed_for_each_response(judged, write, tmp_path):
    judged()
    path = tmp_path / "ranked.jsonl"
    path.write_text(path.read_text().replace("[0, 1, 2]", "[0, 1]"))
    with pytest.raises(InputError, match="ranks, one for each response"):
        write()
