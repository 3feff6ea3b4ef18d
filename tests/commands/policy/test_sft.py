"""`rmkit sft`: the loss of completions alone, whatever the batches; a killed run goes on to the same model."""

import json
import math

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from rmkit.cli import main
from rmkit.commands.sft import SftConfig, sft
from rmkit.core.checks import InputError
from rmkit.core.stage import read_record
from rmkit.models.log_probs import measure_log_probs
from rmkit.models.reward_model import load_tokenizer
from rmkit.training import sft as trainer

ROWS = [{"prompt": f"What colour is {thing}?", "completion": f"It is {colour}, thank you{' so much' * (number % 3)}."}
        for number, (thing, colour) in enumerate([("it", "red"), ("a tree", "green"), ("the grey cloud", "grey"),
                                                  ("that river over there", "blue"), ("the lamp", "white")])]


@pytest.fixture
def make(tiny_base, tmp_path):
    """make(rows, **settings) -> a configuration."""

    def configure(rows=ROWS, **settings):
        data = tmp_path / "rows.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return SftConfig(**{
            "data": str(data), "model_name_or_path": str(tiny_base), "output_dir": str(tmp_path / "out"),
            "use_cpu": True, "max_steps": 4, "per_device_train_batch_size": 2, "learning_rate": 1e-3, "save_steps": 1,
            "logging_steps": 1, "disable_tqdm": True, "max_length": 64, "max_grad_norm": 0.0, **settings,
        })

    return configure


def read_losses(folder):
    return [entry["loss"] for entry in read_record(folder)["log_history"] if "loss" in entry]


def test_the_loss_is_the_mean_over_all_tokens_of_completions(make, tiny_base, tmp_path):
    tokenizer = load_tokenizer(tiny_base)
    rows = [{"prompt": [{"role": "user", "content": row["prompt"]}],
             "responses": [[{"role": "assistant", "content": row["completion"]}]]} for row in ROWS]
    nats = measure_log_probs(AutoModelForCausalLM.from_pretrained(tiny_base), tokenizer, rows, max_length=64)
    tokens = [len(tokenizer(row["completion"])["input_ids"]) + 1 for row in ROWS]  # and the end token
    expected = -sum(float(own[0]) for own in nats) / sum(tokens)
    whole = sft(make(max_steps=1, per_device_train_batch_size=5))
    assert read_losses(whole) == [pytest.approx(expected, abs=1e-5)]
    assert read_record(whole)["rows"] == 5 and read_record(whole)["over_long"] == 0
    parts = sft(make(max_steps=1, per_device_train_batch_size=1, gradient_accumulation_steps=5,
                     output_dir=str(tmp_path / "parts")))
    one, other = (load_file(folder / "model.safetensors") for folder in (whole, parts))
    assert max(float((one[name] - other[name]).abs().max()) for name in one) < 2e-4  # Adam's first step is 1e-3
    assert max(float((one[name] - value).abs().max())
               for name, value in AutoModelForCausalLM.from_pretrained(tiny_base).state_dict().items()
               if name in one) > 5e-4


def test_prompts_have_no_part_in_the_loss():
    row = {"input_ids_completion": [5, 6, 7, 8], "start_completion": 2, "length": 4}
    assert trainer.label_completion(row) == {"input_ids": [5, 6, 7, 8], "labels": [-100, -100, 7, 8]}


def test_a_killed_run_goes_on_to_the_same_model(make, monkeypatch, kill_in_step, tmp_path):
    whole = load_file(sft(make(max_steps=5)) / "model.safetensors")
    killed = make(max_steps=5, output_dir=str(tmp_path / "killed"))  # in the second epoch
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(trainer, "make_sft_trainer", kill_in_step(trainer.make_sft_trainer, 5))
        sft(killed)
    assert read_record(killed.output_dir) is None
    found = load_file(sft(killed) / "model.safetensors")
    assert all(torch.equal(found[name], whole[name]) for name in whole)
    assert len(read_losses(killed.output_dir)) == 5
    assert not (tmp_path / "killed/checkpoint-4").exists()  # save_total_limit


def test_rows_are_read_cut_and_counted(make):
    rows = [*ROWS, {"prompt": "x"}, {"prompt": "What?", "completion": " "}, {"messages": [
        {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Is it red?"},
        {"role": "assistant", "content": "Yes."},
    ]}, {"prompt": "Say much.", "completion": "red " * 200}]
    folder = sft(make(rows, max_steps=1))
    record = read_record(folder)
    assert record["quarantined"] == {"missing completion": 1, "empty completion": 1}
    assert record["rows"] == 6 and record["over_long"] == 1


def test_refusals(make, tiny_base, capsys, tmp_path):
    for settings, match in (
        ({"num_processes": 0}, "num_processes: expected int >= 1"),
        ({"per_device_train_batch_size": 0}, "per_device_train_batch_size: expected"),
        ({"max_steps": -1, "num_train_epochs": 0}, "num_train_epochs: expected"),
        ({"max_length": 1}, "max_length: expected"),
        ({"deepspeed": "no.json"}, "deepspeed: expected"),
    ):
        with pytest.raises(InputError, match=match):
            make(**settings)
    with pytest.raises(InputError, match="a row that fits into max_length, got 5 that are too long"):
        sft(make(max_length=3))
    model = AutoModelForCausalLM.from_pretrained(tiny_base)
    model.get_input_embeddings().weight.data[:] = math.nan
    model.save_pretrained(tmp_path / "broken")
    load_tokenizer(tiny_base).save_pretrained(tmp_path / "broken")
    with pytest.raises(InputError, match="training stopped in step 1: loss: expected a finite number"):
        sft(make(model_name_or_path=str(tmp_path / "broken"), output_dir=str(tmp_path / "nan")))
    assert main(["sft", "--data", "no.jsonl", "--model_name_or_path", "m", "--output_dir", str(tmp_path / "o")]) == 2
    assert "no.jsonl: expected" in capsys.readouterr().err
