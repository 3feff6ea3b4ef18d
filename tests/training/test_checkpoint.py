"""Checkpoints: which are complete, which are kept, and that a resumed run equals the uninterrupted one."""

import shutil

import pytest
import safetensors.torch
import torch
from transformers import TrainerCallback

from rmkit.core.checks import InputError
from rmkit.training.checkpoint import COMPLETE_FILE, find_last_complete, list_complete, report_disk_errors
from rmkit.training.zero import default_config

pytestmark = pytest.mark.slow


class Interruption(Exception):
    """Stands for whatever ends a process."""


class InterruptAt(TrainerCallback):
    """Ends training after a step, or while a checkpoint is being written: its files are there, its marker is not."""

    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **others):
        if state.global_step == self.step:
            raise Interruption


@pytest.mark.parametrize("settings", [
    {},
    {"deepspeed": default_config(2)},
    {"deepspeed": default_config(2), "contrastive": "swav", "gradient_accumulation_steps": 2},
    {"contrastive": "swav"},
    {"max_tokens_per_batch": 200, "gradient_accumulation_steps": 2},
])
def test_resumed_run_is_the_uninterrupted_one_bitwise(build_trainer, tmp_path, settings):
    settings = {"num_train_epochs": 3, "per_device_train_batch_size": 2, "save_strategy": "steps", "save_steps": 4,
                "lr_scheduler_type": "cosine", **settings}
    whole = build_trainer(output_dir=str(tmp_path / "whole"), **settings)
    whole.train()
    steps = whole.state.global_step

    broken = build_trainer(output_dir=str(tmp_path / "broken"), **settings)
    broken.add_callback(InterruptAt(steps // 2 + 1))
    with pytest.raises(Interruption):
        broken.train()
    last = find_last_complete(tmp_path / "broken", 1)
    assert last is not None and 0 < int(last.name.split("-")[1]) < steps
    half = tmp_path / "broken" / f"checkpoint-{steps - 1}"
    shutil.copytree(last, half)
    (half / COMPLETE_FILE).unlink()  # a later one, written half
    assert find_last_complete(tmp_path / "broken", 1) == last

    resumed = build_trainer(output_dir=str(tmp_path / "broken"), **settings)
    resumed.train(resume_from_checkpoint=str(last))
    weights = [safetensors.torch.load_file(tmp_path / name / f"checkpoint-{steps}/model.safetensors")
               for name in ("whole", "broken")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    losses = [[entry["loss"] for entry in trainer.state.log_history if "loss" in entry] for trainer in (whole, resumed)]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("limit, kept", [(1, [12]), (2, [8, 12]), (None, [4, 8, 12])])
def test_older_checkpoints_go_once_the_next_is_whole(build_trainer, tmp_path, limit, kept):
    trainer = build_trainer(num_train_epochs=2, save_strategy="steps", save_steps=4, save_total_limit=limit)
    trainer.train()
    assert [folder.name for folder in list_complete(tmp_path)] == [f"checkpoint-{step}" for step in kept]
    assert len(list(tmp_path.glob("checkpoint-*"))) == len(kept)


def test_the_best_checkpoint_is_kept(build_trainer, tiny_pairs, tmp_path):
    trainer = build_trainer(
        evaluation=tiny_pairs, num_train_epochs=2, learning_rate=10.0, max_steps=6, save_strategy="steps",
        save_steps=2, eval_strategy="steps", eval_steps=2, load_best_model_at_end=False, metric_for_best_model="loss",
        save_total_limit=1,
    )
    trainer.train()
    best = f"checkpoint-{trainer.state.best_global_step}"
    assert best in [folder.name for folder in list_complete(tmp_path)]


def test_only_checkpoints_of_as_many_processes(build_trainer, tmp_path):
    trainer = build_trainer(max_steps=2, save_strategy="steps", save_steps=2)
    trainer.train()
    assert find_last_complete(tmp_path, 1) == tmp_path / "checkpoint-2"
    with pytest.raises(InputError, match="num_processes: expected 1, as many as wrote .*checkpoint-2, got 2"):
        find_last_complete(tmp_path, 2)
    assert find_last_complete(tmp_path / "nowhere", 2) is None


@pytest.mark.parametrize("error, kind", [
    (OSError(28, "No space left on device"), InputError),
    (RuntimeError("[enforce fail] PytorchStreamWriter failed writing file"), InputError),
    (RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 6336 vs 6230"), InputError),
    (RuntimeError("basic_ios::clear: iostream error"), InputError),
    (safetensors.SafetensorError("I/O error: No space left on device (os error 28)"), InputError),
    (Exception("No space left on device (os error 28)"), InputError),  # from tokenizers
    (RuntimeError("something else"), RuntimeError),
])
def test_full_disk_is_reported(error, kind):
    with pytest.raises(kind) as caught, report_disk_errors("out"):
        raise error
    assert caught.type is kind
