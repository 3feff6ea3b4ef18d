"""`rmkit dpo`: the contract with TRL's trainer, option by option; a killed run goes on to the same policy."""

import numpy as np
import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from rmkit.cli import main
from rmkit.commands.dpo import DpoConfig, dpo
from rmkit.core.checks import InputError
from rmkit.core.stage import read_record
from rmkit.losses import dpo_loss
from rmkit.models.log_probs import measure_log_probs
from rmkit.models.reward_model import load_tokenizer
from rmkit.training import dpo as trainer

pytestmark = pytest.mark.slow
LENGTH = 128


@pytest.fixture
def make(tiny_base, tiny_pairs, tmp_path):
    """make(pairs, **settings) -> a configuration, by default on 6 pairs without target and margin."""
    plain = tiny_pairs.select(range(6)).remove_columns(["target", "margin"])

    def configure(pairs=plain, **settings):
        pairs.to_parquet(tmp_path / "pairs.parquet")
        return DpoConfig(**{
            "data": str(tmp_path / "pairs.parquet"), "model_name_or_path": str(tiny_base), "use_cpu": True,
            "output_dir": str(tmp_path / "out"), "max_steps": 1, "per_device_train_batch_size": 6, "save_steps": 1,
            "learning_rate": 1e-3, "logging_steps": 1, "disable_tqdm": True, "max_length": LENGTH,
            "max_grad_norm": 0.0, **settings,
        })

    return configure


def read_log(folder):
    return read_record(folder)["log_history"][0]


def measure(path, pairs, base):
    """Summed log-probabilities [side, pair] of a policy, by rmkit's own measure."""
    model = AutoModelForCausalLM.from_pretrained(path)
    rows = [{"prompt": row["prompt"], "responses": [row["chosen"], row["rejected"]]} for row in pairs]
    return torch.tensor(np.array(measure_log_probs(model, load_tokenizer(base), rows, max_length=LENGTH)).T)


def test_a_batch_has_rmkits_loss_under_the_reference_that_is_named(make, tiny_base, tiny_pairs, other_policy):
    pairs = tiny_pairs.select(range(6))
    ours, theirs = (measure(path, pairs, tiny_base) for path in (tiny_base, other_policy))
    assert float((ours - theirs).abs().max()) > 0.1
    labels = {name: torch.tensor(pairs[name]) for name in ("target", "margin")}
    settings = {"beta": 0.3, "label_smoothing": 0.1, "smoothing": "robust"}
    expected = dpo_loss(*ours, *theirs, **labels, **settings)
    log = read_log(dpo(make(pairs, reference=str(other_policy), **settings)))
    assert log["loss"] == pytest.approx(float(expected), abs=1e-4)
    assert log["logps/chosen"] == pytest.approx(float(ours[0].mean()), abs=1e-3)
    gap = (ours - theirs)[0] - (ours - theirs)[1]
    assert log["rewards/margins"] == pytest.approx(float(0.3 * gap.mean()), abs=1e-4)
    assert log["rewards/accuracies"] == pytest.approx(float((gap > 0).double().mean()))


@pytest.mark.parametrize("settings", [
    {"beta": 0.1}, {"beta": 0.3}, {"label_smoothing": 0.2}, {"label_smoothing": 0.2, "smoothing": "robust"},
])
def test_every_option_of_the_loss_counts(make, tiny_base, other_policy, tiny_pairs, settings):
    pairs = tiny_pairs.select(range(6)).remove_columns(["target", "margin"])
    ours, theirs = (measure(path, pairs, tiny_base) for path in (tiny_base, other_policy))
    found = read_log(dpo(make(reference=str(other_policy), **settings)))["loss"]
    assert found == pytest.approx(float(dpo_loss(*ours, *theirs, **settings)), abs=1e-4)
    if settings != {"beta": 0.1}:
        assert abs(found - float(dpo_loss(*ours, *theirs))) > 1e-3


def test_the_reference_is_the_policy_as_it_begins_and_stays_so(make, tiny_base, tiny_pairs):
    folder = dpo(make(max_steps=3, learning_rate=1e-2))
    history = [entry for entry in read_record(folder)["log_history"] if "loss" in entry]
    assert history[0]["loss"] == pytest.approx(np.log(2), abs=1e-5)
    assert history[0]["rewards/margins"] == pytest.approx(0.0, abs=1e-5) and history[-1]["rewards/margins"] > 0.05
    assert history[0]["rewards/accuracies"] == pytest.approx(0.5, abs=0.5)
    pairs = tiny_pairs.select(range(6))
    before, after = (measure(path, pairs, tiny_base) for path in (tiny_base, folder))
    assert float(((after - before)[0] - (after - before)[1]).min()) > 0  # it has learnt them


def test_batches_are_the_mean_of_their_pairs(make, tmp_path):
    one, other = (load_file(dpo(make(output_dir=str(tmp_path / name), **settings)) / "model.safetensors")
                  for name, settings in (("whole", {}), ("parts", {"per_device_train_batch_size": 2,
                                                                   "gradient_accumulation_steps": 3})))
    assert max(float((one[name] - other[name]).abs().max()) for name in one) < 2e-4  # Adam's first step is 1e-3


def test_a_killed_run_goes_on_to_the_same_policy(make, monkeypatch, kill_in_step, tmp_path):
    settings = {"max_steps": 5, "per_device_train_batch_size": 2}  # killed in the second epoch
    whole = load_file(dpo(make(**settings)) / "model.safetensors")
    killed = make(output_dir=str(tmp_path / "killed"), **settings)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(trainer, "make_dpo_trainer", kill_in_step(trainer.make_dpo_trainer, 5))
        dpo(killed)
    assert read_record(killed.output_dir) is None
    found = load_file(dpo(killed) / "model.safetensors")
    assert all(torch.equal(found[name], whole[name]) for name in whole)
    assert not (tmp_path / "killed/checkpoint-4").exists()  # save_total_limit


def test_two_processes_at_stage_3_take_the_same_steps(make, tiny_base, tmp_path):
    folder = dpo(make(num_processes=2, per_device_train_batch_size=3, max_steps=2, save_steps=5,
                      deepspeed="recipes/deepspeed/zero3.json", learning_rate=1e-2))
    assert read_record(folder)["world_size"] == 2
    alone = dpo(make(max_steps=2, save_steps=5, learning_rate=1e-2, output_dir=str(tmp_path / "alone")))
    logs = [[entry["loss"] for entry in read_record(own)["log_history"] if "loss" in entry] for own in (folder, alone)]
    assert logs[0] == pytest.approx(logs[1], abs=1e-4) and logs[0][0] - logs[0][1] > 1e-3
    found = AutoModelForCausalLM.from_pretrained(folder).state_dict()
    before = AutoModelForCausalLM.from_pretrained(tiny_base).state_dict()
    assert all(found[name].shape == before[name].shape for name in before)


def test_pairs_are_cut_on_the_left_and_dropped_whole(make, tiny_pairs):
    pairs = tiny_pairs.select(range(3)).remove_columns(["target", "margin"]).to_list()
    pairs[0]["prompt"][0]["content"] = "red " * 200
    pairs[1]["rejected"][0]["content"] = "red " * 200
    record = read_record(dpo(make(Dataset.from_list(pairs), max_length=64)))
    assert record["rows"] == 2 and record["over_long"] == 1


def test_refusals(make, capsys, tmp_path):
    for settings, match in (
        ({"beta": 0.0}, "beta: expected float > 0"),
        ({"smoothing": "bold"}, "smoothing: expected one of conservative, robust"),
        ({"label_smoothing": 0.5}, "label_smoothing: expected"),
        ({"gradient_accumulation_steps": 0}, "gradient_accumulation_steps: expected"),
    ):
        with pytest.raises(InputError, match=match):
            make(**settings)
    with pytest.raises(InputError, match="a row that fits into max_length"):
        dpo(make(max_length=3))
    assert main(["dpo", "--data", "no.parquet", "--model_name_or_path", "m", "--output_dir", str(tmp_path / "o")]) == 2
    assert "no.parquet: expected" in capsys.readouterr().err
