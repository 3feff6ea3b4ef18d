"""The stage `train`: recipes, the folder it writes, resumption after kill -9, several processes."""

import gc
import json
import os
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
import yaml
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from rmkit.commands.train import TrainConfig, train
from rmkit.core.checks import InputError
from rmkit.core.config import load_config, to_cli_args
from rmkit.core.stage import read_record
from rmkit.data.parquet import load_split
from rmkit.models.reward_model import load_reward_model
from rmkit.models.scoring import score_pairs
from rmkit.training.zero import default_config

pytestmark = pytest.mark.slow
RECIPES = Path(__file__).parents[2] / "recipes"
TRAINING = sorted(
    path for path in RECIPES.glob("*.yaml") if "learning_rate" in yaml.safe_load(path.read_text(encoding="utf-8"))
)


def run(words, *more, path=None):
    return train(load_config(TrainConfig, path, [*words, *more]))


@pytest.mark.parametrize("path", TRAINING, ids=lambda path: path.stem)
def test_recipe(path, words, samples_file):
    meta = ["--meta_data", samples_file] if path.stem == "metarm" else []
    folder = run(words, "--max_steps", "2", *meta, path=path)
    record = read_record(folder)
    assert [entry["step"] for entry in record["log_history"] if "loss" in entry] == [1, 2]
    assert record["config"]["contrastive"] == (path.stem if path.stem not in ("train", "metarm") else "none")
    assert ("meta_difference" in record["log_history"][0]) == bool(meta)
    AutoModelForSequenceClassification.from_pretrained(folder)


def test_there_are_recipes():
    names = {"train", "simcse", "simcse_difference", "swav", "swav_difference", "metarm"}
    assert names <= {path.stem for path in TRAINING}


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_deepspeed_recipes_are_the_defaults(stage):
    assert json.loads((RECIPES / f"deepspeed/zero{stage}.json").read_text(encoding="utf-8")) == default_config(stage)


@pytest.mark.parametrize("lora", [False, True])
def test_folder_gives_the_training_time_rewards(words, labelled_folder, tiny_pairs, lora):
    more = ["--lora_rank", "4", "--learning_rate", "1e-2"] if lora else []
    folder = run(words, "--evaluation_data", str(labelled_folder), "--num_train_epochs", "3", *more)
    record = read_record(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert model.config.problem_type == "regression" and tokenizer.chat_template
    chosen, rejected = score_pairs(model, tokenizer, tiny_pairs.select(range(9)), max_length=128)
    metrics = record["metrics"]
    rewards = np.concatenate([chosen, rejected])
    seen = [(chosen - rejected).mean(), rewards.mean(), rewards.min(), rewards.max()]
    recorded = [metrics[f"eval_{name}"] for name in ("gap", "reward_mean", "reward_min", "reward_max")]
    np.testing.assert_allclose(seen, recorded, atol=1e-5)
    assert seen[0] > 0.5  # trained, and the head is the trained one
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert yaml.safe_load(card.split("---")[1])["base_model"] == record["config"]["model_name_or_path"]
    assert "eval_accuracy" in card


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_nothing_of_a_training_stays_in_memory(words, monkeypatch, stage):
    models = []

    def remember(*arguments, **settings):
        models.append(weakref.ref(model := load_reward_model(*arguments, **settings)))
        return model

    monkeypatch.setattr("rmkit.models.reward_model.load_reward_model", remember)
    run(words, "--max_steps", "1", "--deepspeed", str(RECIPES / f"deepspeed/zero{stage}.json"))
    gc.collect()
    assert [model() for model in models] == [None]


def test_a_training_that_stops_early_is_not_finished(words, monkeypatch):
    """Such as by SIGTERM under enable_jit_checkpoint."""
    monkeypatch.setattr("rmkit.training.samplers.SetEpochCallback.on_step_end",
                        lambda self, args, state, control, **others: setattr(control, "should_training_stop", True),
                        raising=False)
    with pytest.raises(InputError, match="train: expected all of 2 steps, got a stop after 1"):
        run(words, "--max_steps", "2")
    monkeypatch.undo()
    assert read_record(run(words, "--max_steps", "2"))["log_history"][-1]["step"] == 2


def test_finished_stage_is_not_redone(words):
    folder = run(words, "--max_steps", "1")
    before = (folder / "model.safetensors").stat().st_mtime_ns
    assert run(words, "--max_steps", "1") == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == before
    run(words, "--max_steps", "1", "--ddp_timeout", "99")  # which says nothing about the model
    assert (folder / "model.safetensors").stat().st_mtime_ns == before
    run(words, "--max_steps", "2")
    assert (folder / "model.safetensors").stat().st_mtime_ns != before


def test_a_checkpoint_is_not_emptied_with_the_folder_it_lies_in(words):
    folder = run(words, "--max_steps", "2", "--save_steps", "1")
    with pytest.raises(InputError, match="a folder apart from resume_from_checkpoint"):
        run(words, "--max_steps", "3", "--save_steps", "1", "--resume_from_checkpoint", str(folder / "checkpoint-2"))
    assert (folder / "checkpoint-2").exists()


def test_killed_run_goes_on_to_the_same_weights(words, tmp_path):
    more = ["--num_train_epochs", "60", "--save_steps", "20", "--contrastive", "simcse"]
    whole = run(words, *more, "--output_dir", str(tmp_path / "whole"))
    killed = tmp_path / "model"
    process = subprocess.Popen(
        [sys.executable, "-m", "rmkit", "train", *words, *more],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )
    deadline = time.time() + 120
    while not list(killed.glob("checkpoint-*/complete.json")) and time.time() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert list(killed.glob("checkpoint-*/complete.json")) and read_record(killed) is None
    run(words, *more)
    weights = [safetensors.torch.load_file(folder / "model.safetensors") for folder in (whole, killed)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_two_processes_from_one_command(words, labelled_folder):
    """LoRA included, ZeRO-3 on the two: the same losses, and the same model in the folder."""
    more = ["--max_steps", "3", "--max_grad_norm", "0", "--evaluation_data", str(labelled_folder), "--lora_rank", "4"]
    one = read_record(run(words, *more))
    zero3 = ["--deepspeed", str(RECIPES / "deepspeed/zero3.json")]
    folder = run(words, *more, *zero3, "--num_processes", "2", "--per_device_train_batch_size", "2")
    two = read_record(folder)
    assert (one["world_size"], two["world_size"]) == (1, 2)
    curves = [[entry["loss"] for entry in record["log_history"] if "loss" in entry] for record in (one, two)]
    np.testing.assert_allclose(curves[1], curves[0], rtol=1e-5)
    assert one["metrics"]["eval_loss"] == pytest.approx(two["metrics"]["eval_loss"], rel=1e-5)
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    pairs = load_split(labelled_folder, "validation")
    chosen, rejected = score_pairs(model, AutoTokenizer.from_pretrained(folder), pairs, max_length=128)
    assert (chosen - rejected).mean() == pytest.approx(one["metrics"]["eval_gap"], abs=1e-5)


def test_config_survives_the_command_line(words):
    config = load_config(TrainConfig, None, [*words, "--lr_scheduler_kwargs", "{power: 1.0e-05}"])
    config.deepspeed = default_config(3)
    config.run_name = "null"
    assert load_config(TrainConfig, None, to_cli_args(config)) == config


@pytest.mark.parametrize("more, match", [
    (["--learning_rte", "1e-5"], "Did you mean learning_rate?"),
    (["--learning_rate", "fast"], "learning_rate: expected float"),
    (["--contrastive", "simclr"], "one of none, simcse"),
    (["--dropout", "0", "--contrastive", "simcse"], "dropout"),
    (["--num_processes", "0"], "num_processes: expected int >= 1"),
    (["--data", "no/where"], "data no/where"),
    (["--model_name_or_path", "/no/where"], "no/where"),
    (["--deepspeed", "no/where.json"], "deepspeed: expected"),
    (["--lr_scheduler_type", "cosin"], "train: expected settings that fit together"),
    (["--eval_strategy", "steps"], "evaluation_data"),
])
def test_refusals(words, more, match):
    with pytest.raises(InputError, match=match):
        run(words, *more)


def test_refuses_what_the_model_has_no_positions_for(words, labelled_folder, tiny_pairs):
    long = tiny_pairs.map(lambda row: {"prompt": [{"role": "user", "content": "river " * 1500}]})
    long.to_parquet(labelled_folder / "train.parquet")
    with pytest.raises(InputError, match="1024 positions"):
        run(words, "--max_length", "2000")


def test_configuration_starts_nothing(words):
    code = (
        "import sys; from rmkit.core.config import load_config; from rmkit.commands.train import TrainConfig\n"
        "load_config(TrainConfig, None, sys.argv[1:])\n"
        "assert not {'torch', 'transformers', 'numpy'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code, *words], check=True, timeout=120)
