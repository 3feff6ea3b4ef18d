"""`RewardTrainer`: its loss, its logged metrics, and weights that are not finite."""

import numpy as np
import pytest
import torch

from rmkit.core.checks import InputError
from rmkit.losses import bradley_terry_loss
from rmkit.models.scoring import score_pairs
from rmkit.training.train_metrics import PairMetrics


def score(trainer, pairs):
    sides = score_pairs(trainer.model, trainer.processing_class, pairs, max_length=128)
    return [torch.as_tensor(side) for side in sides]


def test_training_lowers_the_loss(train_losses, tiny_pairs):
    losses = train_losses(pairs=tiny_pairs.remove_columns(["target", "margin"]), num_train_epochs=5)
    assert np.mean(losses[-6:]) < 0.5 * np.mean(losses[:6])


@pytest.mark.parametrize("columns", [(), ("target",), ("margin",), ("target", "margin")])
def test_target_and_margin_reach_the_loss(build_trainer, tiny_pairs, columns):
    pairs = tiny_pairs.remove_columns([name for name in ("target", "margin") if name not in columns])
    trainer = build_trainer(pairs=pairs, per_device_train_batch_size=24, max_steps=1)
    labels = {name: torch.tensor(pairs[name][:], dtype=torch.float64) for name in columns}
    expected = bradley_terry_loss(*score(trainer, pairs), **labels).item()
    trainer.train()
    assert trainer.state.log_history[0]["loss"] == pytest.approx(expected, abs=1e-6)


def test_labels_change_the_first_loss(train_losses, tiny_pairs):
    """The expected values of the test above differ by more than its tolerance."""
    first = [
        train_losses(pairs=tiny_pairs.remove_columns(list(names)), per_device_train_batch_size=24, max_steps=1)[0]
        for names in ((), ("target",), ("margin",), ("target", "margin"))
    ]
    assert min(abs(a - b) for i, a in enumerate(first) for b in first[:i]) > 1e-5


def test_centring(train_losses, build_trainer, tiny_pairs):
    settings = {"per_device_train_batch_size": 24, "max_steps": 1}
    plain = train_losses(**settings)[0]
    trainer = build_trainer(center_rewards_coefficient=0.5, **settings)
    chosen, rejected = score(trainer, tiny_pairs)
    trainer.train()
    expected = plain + 0.5 * (chosen + rejected).square().mean().item()
    assert trainer.state.log_history[0]["loss"] == pytest.approx(expected, abs=1e-6)


def test_evaluation_counts_each_pair_once(build_trainer, tiny_pairs):
    trainer = build_trainer(evaluation=tiny_pairs, per_device_eval_batch_size=7)
    metrics = trainer.evaluate()
    chosen, rejected = score(trainer, tiny_pairs)
    labels = {name: torch.tensor(tiny_pairs[name][:], dtype=torch.float64) for name in ("target", "margin")}
    gap = chosen - rejected
    assert metrics["eval_loss"] == pytest.approx(bradley_terry_loss(chosen, rejected, **labels).item(), abs=1e-6)
    assert metrics["eval_accuracy"] == pytest.approx((gap > 0).double().mean().item())
    assert metrics["eval_margin_accuracy"] == pytest.approx((gap > labels["margin"]).double().mean().item())
    assert metrics["eval_gap"] == pytest.approx(gap.mean().item(), abs=1e-6)


def test_metrics_are_weighted_by_pairs():
    metrics = PairMetrics()
    zeros = torch.zeros(3)
    metrics.update(torch.tensor([1.0, 2.0, 3.0]), zeros, torch.full((3,), 1.5))
    metrics.update(torch.tensor([-4.0]), torch.zeros(1), None)
    metrics.update(torch.zeros(1), torch.zeros(1), None)  # a tie
    assert metrics.pop(lambda row: row) == {
        "accuracy": pytest.approx(3.5 / 5),
        "margin_accuracy": pytest.approx(2.5 / 5),
        "gap": pytest.approx(2 / 5),
        "reward_mean": pytest.approx(1 / 5),
        "reward_min": -4.0,
        "reward_max": 3.0,
    }
    assert metrics.pop(lambda row: row) == {}


def test_metrics_of_two_processes():
    metrics = PairMetrics()
    metrics.update(torch.ones(1), torch.zeros(1), None)
    other = torch.tensor([[3.0, 0.0, 0.0, -3.0, -3.0, 2.0, 0.5]], dtype=torch.float64)
    popped = metrics.pop(lambda row: torch.cat([row, other]))
    assert (popped["accuracy"], popped["reward_min"], popped["reward_max"]) == (0.25, -2.0, 1.0)


def test_not_a_number_is_neither_trained_on_nor_saved(build_trainer, tmp_path):
    trainer = build_trainer(max_steps=2)
    with torch.no_grad():
        trainer.model.score.weight[0, 0] = float("nan")
    with pytest.raises(InputError, match="chosen_rewards: expected finite numbers"):
        trainer.train()
    with pytest.raises(InputError, match="weights after step 0: expected finite numbers"):
        trainer.save_model()
    assert not list(tmp_path.rglob("*.safetensors"))
