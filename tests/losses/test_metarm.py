"""MetaRM's difference loss, and the MetaRM step it exists for."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rmkit.losses import bradley_terry_loss, difference_loss

THETA = torch.tensor([0.5, -0.2], dtype=torch.float64)
RESPONSES = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
PAIR = torch.tensor([1.0, -1.0], dtype=torch.float64)
RATE = 0.1

sets = st.lists(st.lists(st.floats(-30, 30, allow_subnormal=False), min_size=4, max_size=4), min_size=1, max_size=5)
relaxed = settings(deadline=None, max_examples=50)


def score(theta):
    return (RESPONSES @ theta).unsqueeze(0)


def preference_loss(theta):
    return bradley_terry_loss((PAIR @ theta).unsqueeze(0), torch.zeros(1, dtype=torch.float64))


def differentiate(function, theta, **options):
    theta = theta if theta.requires_grad else theta.clone().requires_grad_()
    return torch.autograd.grad(function(theta), theta, **options)[0]


def take_step(eta, second_order=False):
    """One MetaRM step (arXiv 2401.06080, Eqs. (12)-(14)) from THETA."""
    theta = THETA.clone().requires_grad_()
    ascended = theta + eta * differentiate(lambda t: difference_loss(score(t)), theta, create_graph=second_order)
    if second_order:
        return (theta - RATE * torch.autograd.grad(preference_loss(ascended), theta)[0]).detach()
    return THETA - RATE * differentiate(preference_loss, ascended.detach())


def slow(rewards, mask):
    """Eq. (11) word for word, prompt by prompt."""
    values = []
    for row, present in zip(rewards.tolist(), mask.tolist(), strict=True):
        kept = [reward for reward, here in zip(row, present, strict=True) if here]
        total = sum(torch.sigmoid(torch.tensor(abs(kept[i] - kept[j]), dtype=torch.float64)).item()
                    for i in range(len(kept)) for j in range(i + 1, len(kept)))
        values.append(2 / len(kept) ** 2 * total)
    return torch.tensor(values, dtype=torch.float64)


def test_value_and_gradient():
    assert difference_loss(score(THETA)).item() == pytest.approx(0.40899580, abs=1e-7)
    gradient = differentiate(lambda theta: difference_loss(score(theta)), THETA)
    assert gradient.tolist() == pytest.approx([0.10149257, -0.10427321], abs=1e-7)


def test_metarm_step():
    ascended = THETA + RATE * differentiate(lambda theta: difference_loss(score(theta)), THETA)
    assert ascended.tolist() == pytest.approx([0.51014926, -0.21042732], abs=1e-7)
    assert preference_loss(THETA).item() == pytest.approx(0.40318605, abs=1e-7)
    assert preference_loss(ascended).item() == pytest.approx(0.39640532, abs=1e-7)
    assert differentiate(preference_loss, ascended).tolist() == pytest.approx([-0.32726603, 0.32726603], abs=1e-7)
    assert take_step(RATE).tolist() == pytest.approx([0.53272660, -0.23272660], abs=1e-7)


def test_metarm_step_is_neither_the_plain_nor_the_second_order_step():
    assert take_step(0.0).tolist() == pytest.approx([0.53318122, -0.23318122], abs=1e-7)
    assert take_step(RATE, second_order=True).tolist() == pytest.approx([0.53257627, -0.23260019], abs=1e-7)
    assert take_step(RATE).tolist() != pytest.approx(take_step(0.0).tolist(), abs=1e-5)
    assert take_step(RATE).tolist() != pytest.approx(take_step(RATE, second_order=True).tolist(), abs=1e-5)


@pytest.mark.parametrize(("count", "low", "high"), [(2, 0.25, 0.5), (3, 1 / 3, 2 / 3), (5, 0.4, 0.8)])
def test_bounds(count, low, high):
    equal = torch.zeros(1, count, dtype=torch.float64)
    far_apart = 1e4 * torch.arange(count, dtype=torch.float64).unsqueeze(0)
    assert difference_loss(equal).item() == pytest.approx(low, abs=1e-12)
    assert difference_loss(far_apart).item() == pytest.approx(high, abs=1e-12)


def test_equal_rewards_get_no_gradient():
    rewards = torch.ones(2, 4, dtype=torch.float64, requires_grad=True)
    difference_loss(rewards).backward()
    assert rewards.grad.tolist() == torch.zeros(2, 4).tolist()


@given(sets, st.data())
@relaxed
def test_ragged_sets_equal_the_slow_reference(rows, data):
    rewards = torch.tensor(rows, dtype=torch.float64)
    counts = data.draw(st.lists(st.integers(2, 4), min_size=len(rows), max_size=len(rows)))
    mask = torch.arange(4) < torch.tensor(counts).unsqueeze(1)
    torch.testing.assert_close(difference_loss(rewards, mask=mask, reduction="none"), slow(rewards, mask))


@given(sets, st.floats(-20, 20))
@relaxed
def test_invariances(rows, shift):
    """Shifts, signs and the order of responses do not matter."""
    rewards = torch.tensor(rows, dtype=torch.float64)
    value = difference_loss(rewards, reduction="none")
    for same in (rewards + shift, -rewards, rewards.flip(1)):
        torch.testing.assert_close(difference_loss(same, reduction="none"), value)


def test_masked_rewards_are_ignored_whatever_they_hold():
    mask = torch.tensor([[True, True, False], [True, True, True]])
    rewards = torch.tensor([[1.0, 2.0, float("nan")], [0.0, 1.0, 3.0]], requires_grad=True)
    loss = difference_loss(rewards, mask=mask, reduction="none")
    assert loss[0] == difference_loss(torch.tensor([[1.0, 2.0]]))
    loss.sum().backward()
    assert torch.isfinite(rewards.grad).all() and rewards.grad[0, 2] == 0
    with pytest.raises(ValueError, match=r"rewards: expected finite numbers.*first at index \[0, 2\]"):
        difference_loss(rewards)


def test_refusals():
    rewards = torch.ones(2, 3)
    with pytest.raises(ValueError, match="at least two responses for every prompt, got 1 in row 1"):
        difference_loss(rewards, mask=torch.tensor([[True, True, True], [False, True, False]]))
    with pytest.raises(ValueError, match="at least two responses"):
        difference_loss(rewards[:, :1])
    with pytest.raises(ValueError, match=r"mask: expected bool of shape \[2, 3\], got torch.float32"):
        difference_loss(rewards, mask=rewards)
    with pytest.raises(ValueError, match=r"mask: expected bool of shape \[2, 3\], got torch.bool of shape \[3\]"):
        difference_loss(rewards, mask=torch.tensor([True, True, True]))
