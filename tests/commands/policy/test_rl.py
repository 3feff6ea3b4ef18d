"""The stage around TRL: a policy that is optimised, resumed bit for bit, and refused in one line."""

import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from rmkit.cli import main
from rmkit.commands.rl import RlConfig, rl
from rmkit.core.checks import InputError
from rmkit.core.stage import read_record
from rmkit.training import rl as trainer

pytestmark = pytest.mark.slow


@pytest.fixture
def make(tiny_base, tiny_reward_model, tmp_path):
    """make(**settings) -> a configuration on three prompts."""
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": f"What is {thing}?"}) + "\n" for thing in ("it", "red", "a lamp")))

    def configure(**settings):
        return RlConfig(**{
            "data": str(prompts), "model_name_or_path": str(tiny_base), "reward_model": str(tiny_reward_model),
            "output_dir": str(tmp_path / "out"), "use_cpu": True, "max_steps": 4, "per_device_train_batch_size": 4,
            "num_generations": 2, "max_completion_length": 5, "learning_rate": 1e-3, "save_steps": 1,
            "logging_steps": 1, "disable_tqdm": True, **settings,
        })

    return configure


def test_a_killed_run_goes_on_to_the_same_policy(make, monkeypatch, kill_in_step, tmp_path):
    whole = load_file(rl(make()) / "model.safetensors")
    killed = make(output_dir=str(tmp_path / "killed"))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(trainer, "make_rloo_trainer", kill_in_step(trainer.make_rloo_trainer, 3))
        rl(killed)
    assert read_record(killed.output_dir) is None
    resumed = rl(killed)
    found = load_file(resumed / "model.safetensors")
    assert set(found) == set(whole) and all(torch.equal(found[name], whole[name]) for name in whole)
    assert [entry["step"] for entry in read_record(resumed)["log_history"]][:4] == [1, 2, 3, 4]
    first = load_file(tmp_path / "killed/checkpoint-4/model.safetensors")
    assert all(torch.equal(first[name], whole[name]) for name in first)
    assert not (tmp_path / "killed/checkpoint-2").exists()  # save_total_limit
    seen = (resumed / "model.safetensors").stat().st_mtime_ns
    assert rl(killed) == resumed and (resumed / "model.safetensors").stat().st_mtime_ns == seen


def test_two_processes_at_stage_3(make, tiny_base):
    folder = rl(make(
        num_processes=2, max_steps=1, per_device_train_batch_size=2, max_completion_length=3,
        deepspeed="recipes/deepspeed/zero3.json",
    ))
    assert read_record(folder)["world_size"] == 2
    found = AutoModelForCausalLM.from_pretrained(folder).state_dict()
    before = AutoModelForCausalLM.from_pretrained(tiny_base).state_dict()
    assert all(found[name].shape == before[name].shape for name in before)
    assert 1e-4 < max(float((found[name] - before[name]).abs().max()) for name in before) < 1e-2


def test_refusals(make, capsys, tmp_path):
    for settings, match in (
        ({"reward_scale": 0.0}, "reward_scale: expected float > 0"),
        ({"num_generations": 1}, "num_generations: expected int >= 2"),
        ({"num_generations": 3}, "num_generations: expected a divisor of the 4 responses"),
        ({"deepspeed": "no.json"}, "deepspeed: expected"),
    ):
        with pytest.raises(InputError, match=match):
            make(**settings)
    config = make(reward_model=str(tmp_path))
    with pytest.raises(InputError, match="tokenizer"):
        rl(config)
    assert main(["rl", "--data", "no.jsonl", "--model_name_or_path", "m", "--reward_model", "r",
                 "--output_dir", str(tmp_path / "o")]) == 2
    assert "no.jsonl: expected" in capsys.readouterr().err
