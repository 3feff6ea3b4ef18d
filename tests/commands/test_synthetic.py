"""The school of the gold world's model: what it is taught is what judges will ask, and its folder is reused."""

import json

import pytest

from rmkit.commands.synthetic import (
    BASE_MODEL,
    EVALUATION,
    LESSONS,
    PROMPTS,
    WORLD,
    SyntheticLMConfig,
    make_synthetic_lm,
)
from rmkit.core.checks import InputError
from rmkit.data.synthetic.dataset import read_request
from rmkit.data.synthetic.judgments import draw_judgments, draw_verdicts
from rmkit.generation import Sampling, load_generator
from rmkit.judges.base import JudgeTask
from rmkit.judges.language_model import JudgeSampler, LanguageModelJudge
from rmkit.judges.meta_judge import JudgmentPair, MetaJudge
from rmkit.judges.prompts import JUDGE_PROMPTS

pytestmark = pytest.mark.filterwarnings(r"ignore:.*torch\.jit\.:DeprecationWarning")
SIZES = {"train": 8, "validation": 4, "test": 2, "prompts": 6, "evaluation": 5, "instructions": 12, "judgments": 10,
         "verdicts": 9, "hidden": 32, "layers": 1}


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    config = SyntheticLMConfig(output_dir=str(tmp_path_factory.mktemp("school")), seed=3, **SIZES)
    make_synthetic_lm(config)
    return config


def read(folder, name):
    return [json.loads(line) for line in (folder / WORLD / name).read_text().splitlines()]


@pytest.fixture(scope="module")
def folder(config):
    return make_synthetic_lm(config)


def test_what_is_there(folder):
    sizes = {"train.jsonl": 8, "validation.jsonl": 4, "test.jsonl": 8, PROMPTS: 6, EVALUATION: 5, LESSONS: 31}
    assert {name: len(read(folder, name)) for name in sizes} == sizes
    assert all(read_request(row["request"]).themes for row in read(folder, PROMPTS) + read(folder, EVALUATION))


def test_lessons_ask_as_the_judges_do(folder):
    lessons = [[{"role": "user", "content": row["prompt"]}] for row in read(folder, LESSONS)]
    asking = JudgeSampler(load_generator(folder / BASE_MODEL), Sampling())

    def say(role, text):
        return [{"role": role, "content": text}]

    judge, meta = LanguageModelJudge(asking, JUDGE_PROMPTS["gold"]), MetaJudge(asking, "gold")
    for place, row in enumerate(draw_judgments(10, seed=3), 12):
        task = JudgeTask("t", say("user", row["prompt"]), (say("assistant", row["response"]),))
        assert judge.show(task, "given") == lessons[place]
    for place, row in enumerate(draw_verdicts(9, seed=3), 22):
        contest = JudgmentPair(say("user", row["prompt"]), say("assistant", row["response"]), tuple(row["judgments"]))
        assert meta.show(contest, "given") == lessons[place] != meta.show(contest, "swapped")


def test_a_whole_school_is_not_held_again(config, folder):
    times = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    make_synthetic_lm(config)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()} == times
    assert (folder / BASE_MODEL / "model.safetensors").exists()


@pytest.mark.parametrize("changes, message", [
    ({"judgments": 0}, "judgments"), ({"hidden": 48}, "hidden"), ({"worst": 1.5}, "worst"),
])
def test_refusals(changes, message):
    with pytest.raises(InputError, match=message):
        SyntheticLMConfig(output_dir="school", **changes)
