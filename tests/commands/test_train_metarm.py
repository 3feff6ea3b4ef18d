"""The stage `train` with a meta set: what its record says, every option at once, what is refused before it starts."""

import json

import numpy as np
import pytest
import safetensors.torch

from rmkit.commands.train import TrainConfig, train
from rmkit.core.checks import InputError
from rmkit.core.config import load_config
from rmkit.core.stage import read_record
from rmkit.training.zero import default_config


@pytest.fixture
def meta_words(words, tiny_samples, tmp_path):
    """The command line of a short training with a meta set, one row of which cannot be used."""
    file = tmp_path / "samples.jsonl"
    rows = [*tiny_samples, {"prompt": "Red?", "responses": ["Yes.", "Yes."]}]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [*words, "--max_steps", "3", "--meta_data", str(file), "--meta_learning_rate", "0.1"]


def run(words, **settings):
    more = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    return train(load_config(TrainConfig, None, [*words, *more]))


def test_the_record_says_what_became_of_the_meta_set(meta_words, tiny_samples, capsys):
    folder = run(meta_words)
    record = read_record(folder)
    assert record["meta_data"] == {
        "rows_in": 11, "rows_out": 10, "responses": sum(map(len, tiny_samples["responses"])),
        "left_out": {"equal to another": 1},
        "quarantined": {"fewer than two different responses": 1},
    }
    assert "rows in 11 = rows out 10 + quarantined 1" in capsys.readouterr().out
    assert (folder / "meta/quarantine.jsonl").is_file() and set(record["inputs"]) == {"data", "model", "meta_data"}
    differences = [entry["meta_difference"] for entry in record["log_history"] if "loss" in entry]
    assert len(differences) == 3 and all(0.25 <= value < 0.8 for value in differences)  # bounds of J, 2 to 5 responses
    assert "| meta_learning_rate | 0.1 |" in (folder / "README.md").read_text()


def test_every_option_at_once(meta_words, words, tmp_path):
    """LoRA, contrastive term, accumulation, checkpointing and clipping: at stage 3 what plain torch gives."""
    zero = tmp_path / "zero3.json"
    zero.write_text(json.dumps(default_config(3)))
    options = {
        "lora_rank": 4, "contrastive": "swav", "gradient_accumulation_steps": 2, "max_grad_norm": 0.5,
        "per_device_train_batch_size": 2, "activation_checkpointing": True, "center_rewards_coefficient": 0.1,
        "optim": "sgd", "learning_rate": 0.1,  # Adam would bring the rounding of the smallest gradients to full size
    }
    plain = run(meta_words, **options, deepspeed="null")
    cut = run(meta_words, **options, deepspeed=zero, output_dir=tmp_path / "cut")
    without = run([*words, "--max_steps", "3"], **options, deepspeed="null", output_dir=tmp_path / "without")
    weights = [safetensors.torch.load_file(folder / "adapter/adapter_model.safetensors")
               for folder in (plain, cut, without)]
    for name, value in weights[0].items():
        np.testing.assert_allclose(weights[1][name], value, rtol=0, atol=1e-5 * value.abs().max())
    assert max((weights[2][name] - value).abs().max() / value.abs().max() for name, value in weights[0].items()) > 1e-4


def test_refused_before_anything_is_started(words, tmp_path):
    for more, match in (
        (["--meta_data", "samples.jsonl"], "meta_learning_rate and meta_data: expected both or neither"),
        (["--meta_learning_rate", "5e-6"], "meta_learning_rate and meta_data: expected both or neither"),
        (["--meta_data", str(tmp_path / "none.jsonl"), "--meta_learning_rate", "5e-6"], "data .*none.jsonl: expected"),
    ):
        with pytest.raises(InputError, match=match):
            run([*words, *more])
    assert not (tmp_path / "model").exists()
