"""DPO: the value, an independent reference, and its identity with the pair losses."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import logsigmoid

from rmkit.losses import bradley_terry_loss, dpo_loss, noise_corrected_loss

EXAMPLE = [torch.tensor([value], dtype=torch.float64) for value in (-10.0, -12.0, -11.0, -11.5)]

logps = st.floats(-200, 0, allow_subnormal=False)
batches = st.lists(st.tuples(logps, logps, logps, logps, st.floats(0, 1), st.floats(-3, 3)), min_size=1, max_size=6)
rates = st.floats(0, 0.45)
relaxed = settings(deadline=None, max_examples=50)


def columns(batch):
    """(the four log-probabilities, target, margin)."""
    *four, target, margin = torch.tensor(batch, dtype=torch.float64).unbind(dim=1)
    return four, target, margin


def preference_loss(policy_chosen, policy_rejected, reference_chosen, reference_rejected, beta, label_smoothing):
    """After `preference_loss` in eric-mitchell/direct-preference-optimization (policy and reference ratios)."""
    logits = (policy_chosen - policy_rejected) - (reference_chosen - reference_rejected)
    return -logsigmoid(beta * logits) * (1 - label_smoothing) - logsigmoid(-beta * logits) * label_smoothing


def test_value():
    assert dpo_loss(*EXAMPLE).item() == pytest.approx(0.62095705, abs=1e-7)
    swapped_reference = [*EXAMPLE[:2], EXAMPLE[3], EXAMPLE[2]]
    assert dpo_loss(*swapped_reference).item() != pytest.approx(0.62095705, abs=1e-3)


@given(batches, st.floats(0.01, 2), rates)
@relaxed
def test_conservative_form_equals_the_reference_code(batch, beta, rate):
    four, _, _ = columns(batch)
    actual = dpo_loss(*four, beta=beta, label_smoothing=rate, reduction="none")
    torch.testing.assert_close(actual, preference_loss(*four, beta, rate))


@given(batches, st.floats(0.01, 2), rates)
@relaxed
def test_robust_form_is_the_corrected_loss_on_implicit_rewards(batch, beta, rate):
    four, target, margin = columns(batch)
    rewards = beta * (four[0] - four[2]), beta * (four[1] - four[3])
    robust = dpo_loss(
        *four, beta=beta, label_smoothing=rate, smoothing="robust", target=target, margin=margin, reduction="none")
    expected = noise_corrected_loss(*rewards, flip_rate=rate, target=target, margin=margin, reduction="none")
    torch.testing.assert_close(robust, expected, atol=1e-9, rtol=1e-9)


@given(batches)
@relaxed
def test_targets_and_margins_are_those_of_the_pair_loss(batch):
    (policy_chosen, policy_rejected, *reference), target, margin = columns(batch)
    zero = torch.zeros_like(target)
    actual = dpo_loss(policy_chosen, policy_rejected, zero, zero, beta=1.0, target=target, margin=margin)
    torch.testing.assert_close(
        actual, bradley_terry_loss(policy_chosen, policy_rejected, target=target, margin=margin))
    swapped = dpo_loss(policy_rejected, policy_chosen, zero, zero, beta=1.0, target=1 - target, margin=-margin)
    torch.testing.assert_close(swapped, actual)


@given(batches, logps, logps)
@relaxed
def test_log_ratios_alone_matter(batch, first, second):
    """What a response gains under policy and reference alike, or both responses under either, changes nothing."""
    four, target, margin = columns(batch)
    here = dpo_loss(*four, target=target, margin=margin)
    for shifts in ((first, second, first, second), (first, first, second, second)):
        moved = [values + shift for values, shift in zip(four, shifts, strict=True)]
        torch.testing.assert_close(dpo_loss(*moved, target=target, margin=margin), here, rtol=1e-9, atol=1e-9)


def test_the_two_smoothings_differ():
    robust = dpo_loss(*EXAMPLE, label_smoothing=0.1, smoothing="robust")
    logit = torch.tensor(0.15, dtype=torch.float64)
    # Chowdhury et al., arXiv 2403.00409, in the form of TRL's `robust`.
    expected = (-logsigmoid(logit) * 0.9 + logsigmoid(-logit) * 0.1) / 0.8
    assert robust.item() == pytest.approx(expected.item(), abs=1e-12)
    assert dpo_loss(*EXAMPLE, label_smoothing=0.1) > dpo_loss(*EXAMPLE) > robust


@pytest.mark.parametrize(("arguments", "message"), [
    ({"beta": 0.0}, r"beta: expected a number in \(0.0, inf\), got 0.0"),
    ({"label_smoothing": 0.5}, r"label_smoothing: expected a number in \[0.0, 0.5\)"),
    ({"smoothing": "soft"}, "smoothing: expected 'conservative' or 'robust', got 'soft'"),
    ({"target": 1.5}, "target: expected probabilities"),
    ({"margin": torch.tensor([float("inf")])}, "margin: expected finite numbers"),
])
def test_refusals(arguments, message):
    with pytest.raises(ValueError, match=message):
        dpo_loss(*EXAMPLE, **arguments)
