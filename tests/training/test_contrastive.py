"""The contrastive loss: its views and value, training on every engine, and saving."""

import numpy as np
import pytest
import safetensors.torch
import torch
from transformers import AutoModelForSequenceClassification

from rmkit.losses import bradley_terry_loss, simcse_loss, swav_loss
from rmkit.models.reward_model import load_reward_model, load_tokenizer
from rmkit.training.contrastive import VARIANTS, ContrastiveObjective
from rmkit.training.reward_trainer import PROTOTYPES
from rmkit.training.zero import default_config


@pytest.mark.parametrize("packing", [True, False])
@pytest.mark.parametrize("name", VARIANTS)
def test_value_of_a_batch(build_trainer, name, packing):
    """Against the two views' hidden states, as an observer of the head sees them, and the losses themselves."""
    trainer = build_trainer(contrastive=name, packing=packing)
    model = trainer.model.train()
    batch = next(iter(trainer.get_train_dataloader()))
    seen = {}
    model.score.register_forward_hook(lambda module, inputs, output: seen.update(states=inputs[0], rewards=output))
    loss = trainer.compute_loss(model, batch).item()

    if not packing:
        last = batch["attention_mask"].sum(dim=1).repeat(2) - 1
        seen = {name: values[torch.arange(16), last] for name, values in seen.items()}
    views = seen["states"].chunk(2)
    rewards = [values[:, 0] for values in seen["rewards"].chunk(2)]
    assert not torch.allclose(views[0], views[1], rtol=1e-2)  # dropout is at work
    labels = {key: batch[key] for key in ("target", "margin")}
    preference = sum(bradley_terry_loss(*view.chunk(2), **labels) for view in rewards) / 2
    if name.endswith("difference"):
        halves = [view.chunk(2) for view in views]
        views = [torch.cat([chosen - rejected, rejected - chosen]) for chosen, rejected in halves]
    if name.startswith("simcse"):
        term, beta = simcse_loss(*views, temperature=0.05), 1.0
    else:
        term = swav_loss(*views, model.prototypes.weight, temperature=0.1)
        beta = {"swav": 0.1, "swav_difference": 0.5}[name]
    assert loss == pytest.approx((preference + beta * term).item(), rel=1e-5)
    assert abs(beta * term.item()) > 1e-3


@pytest.mark.parametrize("packing", [True, False])
def test_embeddings_and_pooled_states_are_both_dropped_at_the_papers_rate(build_trainer, packing):
    trainer = build_trainer(contrastive="simcse", packing=packing, per_device_train_batch_size=24)
    model = trainer.model.train()
    before, after = {}, {}
    embeddings = model.get_input_embeddings()
    for seen, first in ((before, True), (after, False)):
        embeddings.register_forward_hook(lambda *given, seen=seen: seen.update(embeddings=given[2]), prepend=first)
        model.score.register_forward_pre_hook(lambda *given, seen=seen: seen.update(pooled=given[1][0]), prepend=first)
    trainer.compute_loss(model, next(iter(trainer.get_train_dataloader())))
    assert set(after) == {"embeddings", "pooled"}
    for name, values in after.items():
        kept = values != 0
        torch.testing.assert_close(values[kept], before[name][kept] / 0.95)
        assert float((~kept[before[name] != 0]).double().mean()) == pytest.approx(0.05, abs=0.02), name


@pytest.mark.parametrize("name", VARIANTS)
def test_deepspeed_accumulation_and_checkpointing(train_losses, name):
    settings = {"contrastive": name, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}
    reference = train_losses(**settings)
    losses = train_losses(deepspeed=default_config(2), activation_checkpointing=True, **settings)
    np.testing.assert_allclose(losses, reference, rtol=1e-5)


def test_prototypes_are_trained_and_saved_beside_a_standard_checkpoint(build_trainer, tmp_path):
    trainer = build_trainer(contrastive="swav", prototypes=7, deepspeed=default_config(2))
    before = trainer.model.prototypes.weight.detach().clone()
    trainer.train()
    trainer.save_model()
    saved = safetensors.torch.load_file(tmp_path / PROTOTYPES)
    assert list(saved) == ["prototypes.weight"] and saved["prototypes.weight"].shape == (7, 32)
    assert not torch.allclose(saved["prototypes.weight"], before)
    _, report = AutoModelForSequenceClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]


def test_no_dropout_outside_training(tiny_base):
    tokenizer = load_tokenizer(tiny_base)
    model = load_reward_model(tiny_base, tokenizer, seed=0).eval()
    tokens = {"input_ids": torch.arange(5, 15).view(2, 5), "attention_mask": torch.ones(2, 5, dtype=torch.long)}
    with torch.no_grad():
        plain = model(**tokens).logits
        term = ContrastiveObjective(model, VARIANTS["simcse"], rate=0.5, seed=0)
        assert torch.equal(model(**tokens).logits, plain) and term.states is None
        assert not torch.allclose(model.train()(**tokens).logits, plain)
