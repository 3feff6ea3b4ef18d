"""The base model of the synthetic data: a training that was killed continues to the same weights."""

import pytest
import safetensors.torch
import torch

from rmkit.data.synthetic import draw_demonstrations
from rmkit.models.tiny import build_language_model, build_tokenizer
from rmkit.training import language_model
from rmkit.training.language_model import train_language_model
from tests.training.test_checkpoint import InterruptAt, Interruption

ROWS = list(draw_demonstrations(40, seed=0))


def learn(folder):
    tokenizer = build_tokenizer(f"{row['prompt']} {row['response']}" for row in ROWS)
    model = build_language_model(tokenizer, hidden=32, layers=1, seed=0)
    train_language_model(model, tokenizer, ROWS, folder, seed=0)
    return safetensors.torch.load_file(folder / "model.safetensors")


def test_a_killed_training_goes_on_to_the_same_weights(tmp_path, monkeypatch):
    whole = learn(tmp_path / "whole")
    monkeypatch.setattr(language_model, "SAVE_STEPS", 2)
    trainer = language_model.Trainer
    monkeypatch.setattr(language_model, "Trainer", lambda *args, callbacks, **more: trainer(
        *args, callbacks=[*callbacks, InterruptAt(3)], **more))
    with pytest.raises(Interruption):
        learn(tmp_path / "killed")
    assert (tmp_path / "killed" / "checkpoint-2" / "complete.json").exists()
    (tmp_path / "killed" / "checkpoint-4").mkdir()  # half-written
    started = []
    train = trainer.train

    def go_on(self, resume_from_checkpoint):
        started.append(resume_from_checkpoint)
        return train(self, resume_from_checkpoint=resume_from_checkpoint)

    monkeypatch.setattr(language_model, "Trainer", trainer)
    monkeypatch.setattr(trainer, "train", go_on)
    resumed = learn(tmp_path / "killed")
    assert started == [str(tmp_path / "killed" / "checkpoint-2")]
    assert all(torch.equal(value, whole[name]) for name, value in resumed.items())
    assert not list((tmp_path / "killed").glob("checkpoint-*"))
