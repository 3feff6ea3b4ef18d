"""The stage `train` with its options: offload, bfloat16, LoRA and the rest; and its seed."""

import re
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from transformers import AutoModelForSequenceClassification

from rmkit.commands.train import TrainConfig, train
from rmkit.commands.vote import VoteConfig, vote
from rmkit.core.config import load_config
from rmkit.core.stage import read_record

pytestmark = pytest.mark.slow
DEEPSPEED = Path(__file__).parents[2] / "recipes/deepspeed"


def run(words, *more):
    return train(load_config(TrainConfig, None, [*words, *more]))


def losses(folder):
    return [entry["loss"] for entry in read_record(folder)["log_history"] if "loss" in entry]


@pytest.mark.parametrize("stage", [2, 3])
def test_optimizer_offload_changes_nothing(words, tmp_path, stage):
    offloaded = run(words, "--max_steps", "3", "--deepspeed", str(DEEPSPEED / f"zero{stage}_offload.json"))
    plain = run(words, "--max_steps", "3", "--output_dir", str(tmp_path / "plain"))
    np.testing.assert_allclose(losses(offloaded), losses(plain), rtol=1e-5)


@pytest.mark.parametrize("recipe", sorted(DEEPSPEED.glob("*.json")), ids=lambda path: path.stem)
def test_all_options_at_once(words, tmp_path, recipe):
    """On every DeepSpeed recipe; the head and the adapters are trained and saved, and nothing else."""
    options = {
        "bf16": True, "activation_checkpointing": True, "gradient_accumulation_steps": 2, "contrastive": "swav",
        "lora_rank": 4, "learning_rate": 1e-2, "max_steps": 3, "deepspeed": recipe,
    }
    folder = run(words, *(word for name, value in options.items() for word in (f"--{name}", str(value))))
    found = losses(folder)
    assert len(found) == 3 and found[-1] < found[0]
    adapter = safetensors.torch.load_file(folder / "adapter/adapter_model.safetensors")
    (head,) = [value for name, value in adapter.items() if "score" in name]
    weights = AutoModelForSequenceClassification.from_pretrained(folder).state_dict()
    assert torch.equal(weights["score.weight"], head.float())
    untrained = run(words, "--max_steps", "1", "--learning_rate", "0", "--output_dir", str(tmp_path / "untrained"))
    start = safetensors.torch.load_file(untrained / "model.safetensors")
    changed = {name for name, value in weights.items() if not torch.allclose(value, start[name], atol=1e-4)}
    assert {"score.weight", "model.layers.0.self_attn.q_proj.weight", "model.layers.1.mlp.up_proj.weight"} <= changed
    assert not any("norm" in name or "embed" in name for name in changed)


@pytest.mark.parametrize("more", [[], ["--contrastive", "swav", "--lora_rank", "4", "--lora_dropout", "0.1"]])
def test_two_runs_of_one_configuration_are_bitwise_equal(words, tmp_path, more):
    more = [*more, "--num_train_epochs", "2", "--output_dir"]
    runs = [run(words, *more, str(tmp_path / name)) for name in ("one", "two")]
    other = run(words, *more, str(tmp_path / "other"), "--seed", "1")
    files = [sorted(folder.glob("**/*.safetensors")) for folder in (*runs, other)]
    contents = [[file.read_bytes() for file in found] for found in files]
    assert contents[0] == contents[1] and len(contents[0]) >= 2
    assert not set(contents[0]) & set(contents[2])
    histories = [
        [{name: value for name, value in entry.items() if not re.search("runtime|per_second", name)} for entry in log]
        for log in (read_record(folder)["log_history"] for folder in runs)
    ]
    assert histories[0] == histories[1] and len(histories[0]) == 13


def test_members_of_a_vote_take_the_same_options(tiny_pairs, labelled_folder, tiny_base, tmp_path):
    options = {
        "deepspeed": str(DEEPSPEED / "zero3.json"), "bf16": True, "activation_checkpointing": True,
        "gradient_accumulation_steps": 2, "lora_rank": 4, "max_steps": 2, "disable_tqdm": True, "report_to": "none",
    }
    config = VoteConfig(
        data=str(labelled_folder), model_name_or_path=str(tiny_base), output_dir=str(tmp_path / "votes"), voters="full",
        members=2, folds=0, max_length=128, train=options,
    )
    vote(config)
    members = [read_record(path.parent) for path in tmp_path.glob("votes*/**/adapter")]
    assert len(members) == 2
    recorded = {name: value for name, value in options.items() if name != "disable_tqdm"}
    for record in members:
        assert {name: record["config"][name] for name in recorded} == recorded
        assert [entry["step"] for entry in record["log_history"]][-1] == 2
