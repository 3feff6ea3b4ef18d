"""`rmkit synthetic`: the files, demonstrations that ask as the judges do, and a finished folder that is reused."""

import json

import pytest

from rmkit.commands.synthetic import BASE_MODEL, SyntheticConfig, synthetic
from rmkit.core.checks import InputError
from rmkit.data.synthetic.dataset import read_request
from rmkit.data.synthetic.judgments import draw_judgments, draw_verdicts
from rmkit.generation import Sampling, load_generator
from rmkit.judges.base import ORDERS, JudgeTask
from rmkit.judges.language_model import JudgeSampler, render_task
from rmkit.judges.meta_judge import JudgmentSet, MetaJudge
from rmkit.judges.prompts import JUDGE_PROMPTS

SIZES = {"train": 8, "validation": 4, "test": 2, "prompts": 6, "evaluation_prompts": 5, "demonstrations": 12,
         "judgments": 10, "verdicts": 9, "hidden": 32, "layers": 1}


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return SyntheticConfig(output_dir=str(tmp_path_factory.mktemp("synthetic")), seed=3, **SIZES)


@pytest.fixture(scope="module")
def folder(config):
    return synthetic(config)


def read(folder, name):
    return [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]


def test_files(folder):
    sizes = {"train": 8, "validation": 4, "test": 8, "prompts": 6, "evaluation": 5, "demonstrations": 31}
    assert {name: len(read(folder, name)) for name in sizes} == sizes
    assert all(read_request(row["request"]).themes for row in read(folder, "prompts") + read(folder, "evaluation"))
    assert (folder / BASE_MODEL / "model.safetensors").exists()


def test_demonstrations_ask_as_the_judges_do(folder):
    demonstrations = [[{"role": "user", "content": row["prompt"]}] for row in read(folder, "demonstrations")]
    sampler = JudgeSampler(load_generator(folder / BASE_MODEL), Sampling())
    meta_judge = MetaJudge(sampler, "synthetic")

    def dialogue(row):
        return [{"role": "user", "content": row["prompt"]}], [{"role": "assistant", "content": row["response"]}]

    for shown, row in zip(demonstrations[12:22], draw_judgments(10, seed=3), strict=True):
        prompt, response = dialogue(row)
        assert render_task(JUDGE_PROMPTS["synthetic"], JudgeTask("t", prompt, (response,)), "original", ()) == shown
    for shown, row in zip(demonstrations[22:], draw_verdicts(9, seed=3), strict=True):
        judged = JudgmentSet(*dialogue(row), row["judgments"])
        original, swapped = (meta_judge.render(judged, row["judgments"], order) for order in ORDERS)
        assert original == shown != swapped


def test_a_finished_folder_is_reused(config, folder):
    times = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    synthetic(config)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()} == times


def test_without_demonstrations_there_is_no_model(tmp_path):
    folder = synthetic(SyntheticConfig(output_dir=str(tmp_path), train=2, validation=1, test=1, demonstrations=0))
    assert {path.name for path in folder.iterdir()} == {"train.jsonl", "validation.jsonl", "test.jsonl", "stage.json"}


@pytest.mark.parametrize("changes, match", [({"train": 0}, "train"), ({"hidden": 48}, "hidden"),
                                            ({"min_quality": 1.5}, "min_quality")])
def test_invalid_settings(changes, match):
    with pytest.raises(InputError, match=match):
        SyntheticConfig(output_dir="synthetic", **changes)
