"""`rmkit evaluate` on unrepaired pairs."""

import json
import shutil

import numpy as np
import pytest
from datasets import Dataset

from rmkit.commands.evaluate import EvaluateConfig, evaluate
from rmkit.core.checks import InputError
from rmkit.core.stage import read_record
from rmkit.data.parquet import load_split


@pytest.fixture
def configure(synthetic_run, tmp_path):
    def make(**settings):
        settings = {"data": str(synthetic_run / "pairs"), "output_dir": str(tmp_path / "out"), "max_length": 256,
                    "models": {"plain": str(synthetic_run / "plain")}, "n_bootstrap": 20, **settings}
        return EvaluateConfig(**settings)

    return make


def check_finite(value):
    if isinstance(value, dict):
        return all(map(check_finite, value.values()))
    if isinstance(value, list):
        return all(map(check_finite, value))
    return not isinstance(value, float) or np.isfinite(value)


def test_metrics_follow_from_the_written_rewards(synthetic_run):
    folder = synthetic_run / "evaluation"
    metrics = json.loads((folder / "metrics.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert set(metrics) == {"plain", "robust"} and check_finite(metrics)
    record = read_record(folder)
    assert record["metrics"] == metrics
    pairs = load_split(synthetic_run / "pairs", "test")
    correct = {}
    for name, values in metrics.items():
        rewards = load_split(folder / f"{name}.parquet", "test", ("id", "rewards_chosen", "rewards_rejected"))
        gaps = np.array(rewards["rewards_chosen"][:]) - np.array(rewards["rewards_rejected"][:])
        assert rewards["id"][:] == pairs["id"][:]
        assert values["pairs"] == len(pairs) == 40
        correct[name] = (gaps > 0) + 0.5 * (gaps == 0)
        assert values["accuracy"] == pytest.approx(np.mean(correct[name]))
        assert set(values["by_source"]) == {"in_distribution", "new_topics", "new_phrasings", "another_policy"}
        assert len(values["by_strength"]) == 10
    comparison, = record["comparisons"]
    better = correct[comparison["first"]] - correct[comparison["second"]]
    assert comparison["difference"] == pytest.approx(better.mean())
    assert (comparison["better"], comparison["worse"]) == (np.sum(better > 0), np.sum(better < 0))


def test_votes_are_joined_by_id(configure, synthetic_run, tmp_path):
    votes = tmp_path / "votes"
    votes.mkdir()
    rows = load_split(synthetic_run / "votes", "test").to_list()
    Dataset.from_list(rows[::-1] + [{**rows[0], "id": "of another set"}]).to_parquet(votes / "test.parquet")
    metrics = read_record(evaluate(configure(votes=str(votes))))["metrics"]["plain"]
    assert metrics["by_strength"] == read_record(synthetic_run / "evaluation")["metrics"]["plain"]["by_strength"]
    Dataset.from_list(rows[1:]).to_parquet(votes / "test.parquet")
    with pytest.raises(InputError, match=f"a vote on every pair, got none on 1, the first {rows[0]['id']}"):
        evaluate(configure(votes=str(votes), output_dir=str(tmp_path / "other")))


def test_repaired_pairs_are_refused(configure, synthetic_run, tmp_path):
    folder = evaluate(configure(split="validation"))
    before = (folder / "metrics.json").read_bytes()
    with pytest.raises(InputError, match="unrepaired pairs, got repaired ones"):
        evaluate(configure(data=str(synthetic_run / "repaired"), split="train"))
    assert (folder / "metrics.json").read_bytes() == before and read_record(folder)


def test_a_finished_evaluation_prints_its_table_again(configure, capsys):
    config = configure(models=dict.fromkeys(("one", "two"), configure().models["plain"]))
    folder = evaluate(config)
    printed = capsys.readouterr().out
    times = {file: file.stat().st_mtime_ns for file in folder.iterdir()}
    evaluate(config)
    assert capsys.readouterr().out == printed and "one" in printed and "two" in printed
    assert {file: file.stat().st_mtime_ns for file in folder.iterdir()} == times


def test_a_models_folder_cannot_be_the_output(configure, synthetic_run, tmp_path):
    shutil.copytree(synthetic_run / "plain", tmp_path / "model")
    with pytest.raises(InputError, match="a folder apart from models.plain"):
        evaluate(configure(models={"plain": str(tmp_path / "model")}, output_dir=str(tmp_path / "model")))
    assert (tmp_path / "model/model.safetensors").exists()


@pytest.mark.parametrize("settings, match", [
    ({"models": {}}, "models: expected"),
    ({"models": {"a/b": "x"}}, "models: expected.*letters, digits"),
    ({"n_bootstrap": 0}, "n_bootstrap"),
    ({"max_tokens_per_batch": 0}, "max_tokens_per_batch"),
])
def test_invalid_settings(configure, settings, match):
    with pytest.raises(InputError, match=match):
        configure(**settings)


def test_missing_inputs(configure, tmp_path):
    with pytest.raises(InputError, match="model .*nowhere|tokenizer .*nowhere"):
        evaluate(configure(models={"a": str(tmp_path / "nowhere")}))
    with pytest.raises(InputError, match="a stage's folder with tst.parquet.*test.parquet"):
        evaluate(configure(split="tst"))
