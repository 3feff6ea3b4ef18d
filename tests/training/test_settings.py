"""`RewardConfig` refuses settings that are out of range, do not fit together or are not used."""

import pytest

from rmkit.core.checks import InputError
from rmkit.training.config import RewardConfig


@pytest.mark.parametrize("settings, match", [
    ({"loss": "hinge"}, "loss: expected one of"),
    ({"loss": "noise_corrected"}, "flip_rate"),
    ({"loss_kwargs": {"flip_rate": 0.2}}, "loss_kwargs: expected the arguments of loss bradley_terry: none"),
    ({"contrastive": "simclr"}, "contrastive: expected one of none, simcse"),
    ({"contrastive": "simcse", "prototypes": 7}, "prototypes: expected none without SwAV"),
    ({"contrastive": "swav", "prototypes": 1}, "prototypes: expected int >= 2"),
    ({"contrastive": "simcse", "dropout": 0.0}, "dropout: expected"),
    ({"contrastive": "simcse", "dropout": 1.0}, "dropout: expected"),
    ({"contrastive": "simcse", "contrastive_temperature": 0.0}, "contrastive_temperature: expected"),
    ({"contrastive": "swav", "contrastive_temperature": float("inf")}, "contrastive_temperature: expected"),
    ({"contrastive": "simcse", "contrastive_beta": -0.1}, "contrastive_beta: expected"),
    ({"contrastive": "simcse", "contrastive_beta": float("nan")}, "contrastive_beta: expected"),
    ({"contrastive_beta": 0.5}, "contrastive: expected one of simcse"),
    ({"contrastive_temperature": 0.1}, "contrastive: expected one of simcse"),
    ({"prototypes": 50}, "contrastive: expected one of simcse"),
    ({"dropout": 0.1}, "contrastive: expected one of simcse"),
    ({"max_tokens_per_batch": 0}, "max_tokens_per_batch: expected int >= 1"),
    ({"max_tokens_per_batch": 9, "train_sampling_strategy": "random"}, "train_sampling_strategy: expected group_by"),
    ({"max_tokens_per_batch": 9, "dataloader_drop_last": True}, "dataloader_drop_last"),
    ({"max_tokens_per_batch": 9, "meta_learning_rate": 0.1}, "meta_batch_size: expected a number of prompts"),
    ({"meta_steps": 2}, "meta_learning_rate: expected MetaRM's step size"),
    ({"meta_batch_size": 8}, "meta_learning_rate: expected MetaRM's step size"),
    ({"meta_learning_rate": -1e-6}, "meta_learning_rate: expected float >= 0"),
    ({"meta_learning_rate": 5e-6, "meta_batch_size": 0}, "meta_batch_size: expected int >= 1"),
    ({"meta_learning_rate": 5e-6, "fp16": True}, "fp16: expected float32 or bf16"),
])
def test_refused_settings(tmp_path, settings, match):
    with pytest.raises(InputError, match=match):
        RewardConfig(output_dir=str(tmp_path), use_cpu=True, **settings)


def test_refuses_one_process_on_several_devices(tmp_path, monkeypatch):
    """The copies that nn.DataParallel makes of a model would all write into one objective."""
    monkeypatch.setattr(RewardConfig, "n_gpu", 2)
    RewardConfig(output_dir=str(tmp_path), use_cpu=True)
    with pytest.raises(InputError, match="one process per device.*num_processes: 2"):
        RewardConfig(output_dir=str(tmp_path), use_cpu=True, contrastive="swav")
