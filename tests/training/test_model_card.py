"""The model card with the results of evaluations, as hubs read it."""

import pytest
from huggingface_hub import ModelCard

from rmkit.core.checks import InputError
from rmkit.training.model_card import add_results, write_model_card

TOTAL = {"total": {"value": 0.75, "low": 0.7, "high": 0.8, "items": 2985}, "Chat": {"value": 0.5, "items": 358}}


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "a-model"
    folder.mkdir()
    write_model_card(folder, base_model="base", data={"rows": 3}, settings={"lr": 1e-5}, metrics={})
    return folder


def read(folder):
    return (folder / "README.md").read_text(encoding="utf-8")


def test_hubs_read_the_results(model):
    add_results(model, "RewardBench", "allenai/reward-bench", TOTAL, split="filtered")
    card = ModelCard.load(model / "README.md")
    assert card.data.model_name == "a-model" and card.data.base_model == "base" and "reward-model" in card.data.tags
    total, chat = card.data.eval_results
    assert (total.dataset_name, total.dataset_type, total.dataset_split) == (
        "RewardBench", "allenai/reward-bench", "filtered")
    assert (total.metric_name, total.metric_type, total.metric_value) == ("total", "accuracy", 0.75)
    assert total.metric_args == {"low": 0.7, "high": 0.8, "items": 2985} and chat.metric_value == 0.5


def test_the_rest_of_the_card_is_left_and_the_section_says_the_same(model):
    before = read(model).partition("# Reward model")[2].strip()
    add_results(model, "RewardBench", "allenai/reward-bench", TOTAL, split="filtered")
    text = read(model)
    assert before in text
    assert "### RewardBench (`allenai/reward-bench`, filtered)" in text
    assert "| total | 0.75 | 0.7 to 0.8 | 2985 |" in text and "| Chat | 0.5 |  | 358 |" in text


def test_the_same_again_changes_nothing_and_others_stay(model):
    add_results(model, "RewardBench", "allenai/reward-bench", TOTAL, split="filtered")
    once = read(model)
    add_results(model, "RewardBench", "allenai/reward-bench", TOTAL, split="filtered")
    assert read(model) == once
    add_results(model, "RM-Bench", "rm.json", {"total": {"value": 0.25}, "lost": {"value": None}})
    with_both = read(model)
    assert with_both.count("## Evaluation") == 1 and "lost" not in with_both
    add_results(model, "RewardBench", "allenai/reward-bench", {"total": {"value": 0.875}}, split="filtered")
    changed = read(model)
    assert "| total | 0.875 |" in changed and "0.75" not in changed and "| total | 0.25 |" in changed
    add_results(model, "RewardBench", "allenai/reward-bench", TOTAL, split="filtered")
    assert read(model) == with_both


def test_a_card_is_begun_where_there_is_none(tmp_path):
    add_results(tmp_path, "RM-Bench", "rm.json", {"total": {"value": 0.25}})
    assert ModelCard.load(tmp_path / "README.md").data.eval_results[0].metric_value == 0.25
    assert "# Reward model" in read(tmp_path) and "### RM-Bench (`rm.json`)" in read(tmp_path)


@pytest.mark.parametrize("header", ["a: [", "just words"])
def test_a_header_that_cannot_be_read_is_left_alone(tmp_path, header):
    (tmp_path / "README.md").write_text(f"---\n{header}\n---\ntext\n")
    with pytest.raises(InputError, match="README.md: expected a YAML header"):
        add_results(tmp_path, "RM-Bench", "rm.json", {"total": {"value": 0.25}})
    assert read(tmp_path) == f"---\n{header}\n---\ntext\n"
