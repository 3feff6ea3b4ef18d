"""Packed and padded training: one trajectory, on every engine; and the reason for padding is logged."""

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from rmkit.data.collators import PairCollator, PairPacker
from rmkit.training.zero import default_config


@pytest.mark.parametrize("stage", [None, 0, 2, 3])
def test_packed_and_padded_are_one_trajectory(train_losses, stage):
    settings = {"num_train_epochs": 2, "center_rewards_coefficient": 0.1}
    padded = train_losses(packing=False, **settings)
    packed = train_losses(deepspeed=None if stage is None else default_config(stage), **settings)
    assert len(packed) == 12
    np.testing.assert_allclose(packed, padded, rtol=1e-5)


def test_gradients_of_a_batch(build_trainer):
    gradients = []
    for packing in (True, False):
        trainer = build_trainer(packing=packing)
        trainer.compute_loss(trainer.model.train(), next(iter(trainer.get_train_dataloader()))).backward()
        gradients.append({name: weight.grad for name, weight in trainer.model.named_parameters()})
    for name, gradient in gradients[1].items():
        assert 0 < (gradients[0][name] - gradient).norm() <= 1e-5 * gradient.norm(), name  # not 0: two paths


def test_evaluation_of_packed_and_padded(build_trainer, tiny_pairs):
    packed, padded = (
        build_trainer(evaluation=tiny_pairs, per_device_eval_batch_size=7, packing=packing).evaluate()
        for packing in (True, False)
    )
    names = [f"eval_{name}" for name in ("loss", "accuracy", "gap", "reward_min", "reward_max")]
    np.testing.assert_allclose([packed[name] for name in names], [padded[name] for name in names], rtol=1e-5)


def test_encoders_are_padded_and_the_reason_is_logged(build_trainer, caplog):
    torch.manual_seed(0)
    bert = BertForSequenceClassification(BertConfig(
        vocab_size=400, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4, num_labels=1
    ))
    trainer = build_trainer(model=bert, max_steps=1)
    assert isinstance(trainer.data_collator, PairCollator)
    assert "not known to be exact for BertForSequenceClassification" in caplog.text
    trainer.train()
    assert isinstance(build_trainer().data_collator, PairPacker)
