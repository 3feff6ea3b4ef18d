"""Pair losses: the paper's numbers, their negative twins, and the properties that make targets and margins one idea."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import logsigmoid

from rmkit.losses import (
    PAIR_LOSSES,
    bradley_terry_loss,
    noise_corrected_loss,
    reward_center_penalty,
    smooth_targets,
    symmetric_loss,
)

GAP = torch.tensor([2.0, 0.0, -1.0], dtype=torch.float64)
STRENGTH = torch.tensor([1.5, 0.1, -0.7], dtype=torch.float64)
ZERO = torch.zeros(3, dtype=torch.float64)
# flip_rate is what `noise_corrected` takes beyond the arguments all pair losses share.
SETTINGS = {"bradley_terry": {}, "symmetric": {}, "noise_corrected": {"flip_rate": 0.2}}

numbers = st.floats(-50, 50, allow_subnormal=False)
batches = st.lists(st.tuples(numbers, numbers, st.floats(0, 1), st.floats(-5, 5)), min_size=1, max_size=8)
relaxed = settings(deadline=None, max_examples=50)


def columns(batch):
    """(chosen, rejected, target, margin) as float64 tensors."""
    return torch.tensor(batch, dtype=torch.float64).unbind(dim=1)


def per_pair(**arguments):
    return bradley_terry_loss(GAP, ZERO, reduction="none", **arguments)


def assert_values(actual, expected, tolerance=1e-7):
    torch.testing.assert_close(actual, torch.tensor(expected, dtype=torch.float64), atol=tolerance, rtol=0)


# Values of arXiv 2401.06080, Eqs. (2), (5), (6)

@pytest.mark.parametrize(("arguments", "expected"), [
    ({}, [0.12692801, 0.69314718, 1.31326169]),
    ({"target": 0.9}, [0.32692801, 0.69314718, 1.21326169]),
    ({"target": 0.8}, [0.52692801, 0.69314718, 1.11326169]),
    ({"margin": STRENGTH}, [0.47407698, 0.74439666, 0.85435524]),
    ({"target": 0.8, "margin": STRENGTH}, [0.57407698, 0.72439666, 0.79435524]),
], ids=["plain", "smoothed 0.1", "smoothed 0.2", "margin", "smoothed 0.2 and margin"])
def test_values(arguments, expected):
    assert_values(per_pair(**arguments), expected, 5.1e-9)


def test_margin_gradient():
    gap = GAP.clone().requires_grad_()
    bradley_terry_loss(gap, ZERO, margin=STRENGTH, reduction="sum").backward()
    assert_values(gap.grad, [-0.37754067, -0.52497919, -0.57444252])


def test_margin_outside_the_sigmoid_is_another_loss_with_no_effect():
    """Eq. (6) as printed: other values, and the gradient of the loss without a margin."""
    gap = GAP.clone().requires_grad_()
    literal = -(logsigmoid(gap) - STRENGTH)
    assert_values(literal, [1.62692801, 0.79314718, 0.61326169])
    assert not torch.allclose(literal, per_pair(margin=STRENGTH), atol=1e-2)
    (literal_gradient,) = torch.autograd.grad(literal.sum(), gap)
    (plain_gradient,) = torch.autograd.grad(bradley_terry_loss(gap, ZERO, reduction="sum"), gap)
    (margin_gradient,) = torch.autograd.grad(bradley_terry_loss(gap, ZERO, margin=STRENGTH, reduction="sum"), gap)
    torch.testing.assert_close(literal_gradient, plain_gradient)
    assert not torch.allclose(margin_gradient, plain_gradient, atol=1e-2)


@pytest.mark.parametrize(("alpha", "entropy", "minimiser"), [
    (0.1, 0.32508297, 2.19722458), (0.2, 0.50040242, 1.38629436), (0.3, 0.61086430, 0.84729786)])
def test_smoothed_minimum(alpha, entropy, minimiser):
    """The loss at its minimiser is the entropy of alpha; a margin moves the minimiser by itself."""
    target = smooth_targets(torch.ones(2, dtype=torch.float64), alpha)
    margin = torch.tensor([0.0, 1.5], dtype=torch.float64)
    gap = (minimiser + margin).requires_grad_()
    loss = bradley_terry_loss(gap, torch.zeros_like(gap), target=target, margin=margin, reduction="none")
    assert_values(loss, [entropy, entropy])
    loss.sum().backward()
    assert gap.grad.abs().max() < 1e-8


def test_center_penalty():
    rewards = torch.tensor([[2.0, -1.0], [0.5, -0.5], [-3.0, -1.0]], dtype=torch.float64)
    assert_values(reward_center_penalty(rewards, reduction="none"), [1.0, 0.0, 16.0])
    assert_values(reward_center_penalty(rewards), torch.mean((rewards[:, 0] + rewards[:, 1]) ** 2).item())


# Properties

@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=6), numbers)
@relaxed
def test_centering_leaves_the_gap_free(batch, shift):
    rewards = torch.tensor(batch, dtype=torch.float64)
    penalty = reward_center_penalty(rewards, reduction="none")
    apart = torch.tensor([shift, -shift], dtype=torch.float64)
    torch.testing.assert_close(reward_center_penalty(rewards + apart, reduction="none"), penalty, rtol=1e-9, atol=1e-6)


@pytest.mark.parametrize("name", PAIR_LOSSES)
@given(batches)
@relaxed
def test_swap_symmetry(name, batch):
    chosen, rejected, target, margin = columns(batch)
    loss, extra = PAIR_LOSSES[name], SETTINGS[name]
    as_labelled = loss(chosen, rejected, target=target, margin=margin, reduction="none", **extra)
    swapped = loss(rejected, chosen, target=1 - target, margin=-margin, reduction="none", **extra)
    torch.testing.assert_close(as_labelled, swapped, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("name", PAIR_LOSSES)
@given(batches, numbers)
@relaxed
def test_shift_invariance(name, batch, shift):
    chosen, rejected, target, margin = columns(batch)
    arguments = {"target": target, "margin": margin, **SETTINGS[name]}
    here = PAIR_LOSSES[name](chosen, rejected, **arguments)
    torch.testing.assert_close(PAIR_LOSSES[name](chosen + shift, rejected + shift, **arguments), here)
    # A margin is such a shift of one side alone.
    arguments["margin"] = margin + shift
    torch.testing.assert_close(PAIR_LOSSES[name](chosen + shift, rejected, **arguments), here)


@given(batches, st.floats(0, 1))
@relaxed
def test_smoothing_mixes_a_loss_with_its_flip(batch, alpha):
    chosen, rejected, target, margin = columns(batch)

    def loss(target):
        return bradley_terry_loss(chosen, rejected, target=target, margin=margin, reduction="none")

    torch.testing.assert_close(
        loss(smooth_targets(target, alpha)), (1 - alpha) * loss(target) + alpha * loss(1 - target))


@given(batches, st.floats(0, 0.45))
@relaxed
def test_correction_is_unbiased(batch, rate):
    """Averaged over labels flipped at the rate, the corrected loss is the loss of the clean labels."""
    chosen, rejected, target, margin = columns(batch)

    def corrected(target, flip_rate=rate):
        return noise_corrected_loss(
            chosen, rejected, flip_rate=flip_rate, target=target, margin=margin, reduction="none")

    clean = bradley_terry_loss(chosen, rejected, target=target, margin=margin, reduction="none")
    torch.testing.assert_close((1 - rate) * corrected(target) + rate * corrected(1 - target), clean)
    if rate > 0.01:
        wrong_rate = (1 - rate) * corrected(target, rate / 2) + rate * corrected(1 - target, rate / 2)
        uncertain = (target - 0.5).abs() * (chosen - rejected - margin).abs() < 0.1
        assert (uncertain | ~torch.isclose(wrong_rate, clean, atol=1e-6, rtol=0)).all()


@given(batches)
@relaxed
def test_symmetric_loss_is_bounded_and_a_pair_costs_one_with_its_flip(batch):
    chosen, rejected, target, margin = columns(batch)
    loss = symmetric_loss(chosen, rejected, target=target, margin=margin, reduction="none")
    flipped = symmetric_loss(chosen, rejected, target=1 - target, margin=margin, reduction="none")
    assert ((loss >= 0) & (loss <= 1)).all()
    torch.testing.assert_close(loss + flipped, torch.ones_like(loss))


def test_limits():
    far = torch.tensor([1e4, -1e4], dtype=torch.float64)
    zero = torch.zeros_like(far)
    assert bradley_terry_loss(far, zero, reduction="none").tolist() == [0.0, 1e4]
    assert bradley_terry_loss(far, zero, target=0.5, reduction="none").tolist() == [5e3, 5e3]
    assert symmetric_loss(far, zero, reduction="none").tolist() == [0.0, 1.0]
    torch.testing.assert_close(
        noise_corrected_loss(far, zero, flip_rate=0.0), bradley_terry_loss(far, zero), atol=0, rtol=0)
    # log(1 + exp(-z)) and softplus' threshold of 20 lose this digit; logsigmoid keeps it.
    at_25 = bradley_terry_loss(torch.tensor([25.0], dtype=torch.float64), zero[:1])
    assert at_25.item() == pytest.approx(1.388794386e-11, rel=1e-8)


def test_a_number_serves_all_pairs():
    each = per_pair(target=torch.full((3,), 0.8, dtype=torch.float64), margin=torch.full((3,), 0.3))
    torch.testing.assert_close(per_pair(target=0.8, margin=0.3), each, atol=1e-7, rtol=0)
    hard = torch.tensor([True, False, True])
    torch.testing.assert_close(per_pair(target=hard), per_pair(target=hard.double()))
    torch.testing.assert_close(smooth_targets(hard, 0.2), torch.tensor([0.8, 0.2, 0.8]))


# Refusals

@pytest.mark.parametrize(("arguments", "message"), [
    ({"target": torch.tensor([0.5, 1.2, 0.0])}, r"target: expected probabilities in \[0, 1\].*1 of 3 .* 1\.2"),
    ({"target": -0.1}, "target: expected probabilities"),
    ({"target": float("nan")}, "target: expected probabilities"),
    ({"target": torch.tensor([1.0, 1.0])}, r"target: expected one number, or shape \[3\], got \[2\]"),
    ({"margin": torch.ones(3, 1)}, r"margin: expected one number, or shape \[3\], got \[3, 1\]"),
    ({"margin": torch.tensor([0.0, 0.0, float("nan")])}, r"margin: expected finite numbers.*first at index \[2\]"),
    ({"reduction": "avg"}, "reduction: expected 'mean', 'sum' or 'none', got 'avg'"),
])
@pytest.mark.parametrize("name", PAIR_LOSSES)
def test_refusals(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        PAIR_LOSSES[name](GAP, ZERO, **SETTINGS[name], **arguments)


@pytest.mark.parametrize("rate", [-0.1, 0.5, 1.0, float("nan")])
def test_flip_rate_out_of_range(rate):
    with pytest.raises(ValueError, match=r"flip_rate: expected a number in \[0.0, 0.5\)"):
        noise_corrected_loss(GAP, ZERO, flip_rate=rate)


def test_smoothing_out_of_range():
    with pytest.raises(ValueError, match="label_smoothing"):
        smooth_targets(torch.ones(2), 1.1)
    with pytest.raises(ValueError, match="target"):
        smooth_targets(torch.tensor([1.1]), 0.2)


def test_center_penalty_wants_two_responses():
    with pytest.raises(ValueError, match="two responses per pair, got 3"):
        reward_center_penalty(torch.ones(2, 3))
