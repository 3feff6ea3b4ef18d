"""Every recipe for `rmkit judge` is executed as it stands, on tiny models; nothing in it is left out."""

import json
from pathlib import Path

import pytest

from rmkit.commands.judge import JudgeConfig, judge
from rmkit.core.legacy_config import load_config, read_yaml
from rmkit.core.stage import read_record
from rmkit.models.reward_model import load_reward_model, load_tokenizer

pytestmark = pytest.mark.filterwarnings(r"ignore:.*torch\.jit\.:DeprecationWarning")
RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("judge*.yaml"))


@pytest.fixture
def reward_model(tiny_base, tmp_path):
    tokenizer = load_tokenizer(tiny_base)
    load_reward_model(tiny_base, tokenizer, seed=0).save_pretrained(tmp_path / "rm")
    tokenizer.save_pretrained(tmp_path / "rm")
    return tmp_path / "rm"


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_judge_recipe(path, tiny_pairs, tiny_base, reward_model, tmp_path, capsys):
    tiny_pairs.select(range(4)).remove_columns(["target", "margin"]).to_parquet(tmp_path / "test.parquet")
    words = ["--data", str(tmp_path / "test.parquet"), "--output_dir", str(tmp_path / "out")]
    if "language_model" in read_yaml(path):
        words += ["--language_model.model_name_or_path", str(tiny_base), "--language_model.max_new_tokens", "4"]
    else:
        words += [word for name in "ab" for word in (f"--reward_model.models.{name}", str(reward_model))]
    folder = judge(load_config(JudgeConfig, path, words))
    report = json.loads((folder / "report.json").read_text())
    assert report == read_record(folder)["report"] and report["pairs"] == 4
    answers = report["answers"]
    if "language_model" in read_yaml(path):  # a model of random weights names no winner
        assert answers["unparsed"] + answers["failed"] == answers["asked"] == 8
        assert report["agreement"]["unjudged"] == 4 and report["agreement"]["with_ties"] is None
    else:
        assert answers["unparsed"] == 0 and report["agreement"]["unjudged"] == 0
    assert "tokens read" in capsys.readouterr().out
