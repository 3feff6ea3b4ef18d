"""Direct preference optimisation: the Bradley-Terry loss on a policy's implicit rewards."""

from typing import Literal

import torch
from torch import Tensor

from rmkit.core.checks import raise_input_error
from rmkit.losses.pairwise import expected_loss, logistic, smooth, unsmooth
from rmkit.losses.validation import Reduction, check_number, check_shapes, prepare_inputs, reduce, to_float32


def dpo_loss(
    policy_chosen_logps: Tensor,
    policy_rejected_logps: Tensor,
    reference_chosen_logps: Tensor,
    reference_rejected_logps: Tensor,
    *,
    beta: float = 0.1,
    label_smoothing: float = 0.0,
    smoothing: Literal["conservative", "robust"] = "conservative",
    target: Tensor | float | None = None,
    margin: Tensor | float | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """Negative log-likelihood of the preferences under a policy's implicit rewards, in nats per pair.

    bradley_terry_loss(chosen, rejected, target, margin) with the implicit rewards
    beta * (policy_logps - reference_logps). Label smoothing at rate e changes the target t:
    conservative to t * (1 - e) + (1 - t) * e, robust to (t - e) / (1 - 2e), the inverse.

    Args:
        policy_chosen_logps, policy_rejected_logps, reference_chosen_logps, reference_rejected_logps: [pair],
            log-probability of a response *summed* over its tokens, in nats.
        beta: reward units per nat, positive.
        label_smoothing: share of labels taken to be flipped, in [0, 0.5).
        smoothing: "conservative" smooths the label; "robust" undoes the flips in expectation.
        target: [pair] or one number in [0, 1]; 1 where not given.
        margin: [pair] or one number, in units of the implicit reward (beta included), signed; 0 where not given.
        reduction: "mean" or "sum" over pairs, or "none" for [pair].

    Raises:
        InputError: as `bradley_terry_loss`, and on settings outside their range.

    Source: Rafailov et al., arXiv 2305.18290, Eq. (7); conservative: Mitchell, "A note on DPO with noisy preferences"
    (2023); robust: Chowdhury et al., arXiv 2403.00409. Targets and margins are added here as in
    `bradley_terry_loss`.
    """
    check_number("beta", beta, low=0.0, open_low=True)
    check_number("label_smoothing", label_smoothing, low=0.0, below=0.5)
    if smoothing not in ("conservative", "robust"):
        raise_input_error("smoothing", "'conservative' or 'robust'", smoothing, "Choose one of these.")
    sources = {
        "policy_chosen_logps": policy_chosen_logps,
        "policy_rejected_logps": policy_rejected_logps,
        "reference_chosen_logps": reference_chosen_logps,
        "reference_rejected_logps": reference_rejected_logps,
    }
    check_shapes(("pair",), **sources)
    policy_chosen, policy_rejected, reference_chosen, reference_rejected = map(to_float32, sources.values())
    gap = beta * (policy_chosen - reference_chosen) - beta * (policy_rejected - reference_rejected)
    logit, target = prepare_inputs(gap, 1.0 if target is None else target, margin, **sources)
    assert target is not None
    target = (smooth if smoothing == "conservative" else unsmooth)(target, label_smoothing)
    dtype = torch.promote_types(policy_chosen_logps.dtype, policy_rejected_logps.dtype)
    return reduce(expected_loss(logistic, logit, target), reduction, dtype)
