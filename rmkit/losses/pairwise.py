"""Losses over pairs of rewards: Bradley-Terry, its bounded and its noise-corrected relatives, and centring.

All share one vocabulary. `gap = chosen_rewards - rejected_rewards`; `target` is the probability that `chosen` is
truly preferred (1 where not given), so that a flipped label is `1 - target`, a smoothed one `smooth_targets(target,
label_smoothing)` and a soft one any number between; `margin` is subtracted from the gap, in reward units, with the
gap's sign, so that flipping a pair negates its margin: loss(gap, target, margin) = loss(-gap, 1 - target, -margin).

Computed in float32 (float64 for float64 input) and returned in the dtype of the rewards, on their device. Half
precision thus rounds the value that is logged, never the gradient's way to the rewards, and in float16 a sum over pairs
or a squared reward may exceed its 65504: pass `rewards.float()` where that matters.
"""

import difflib
import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from rmkit.core.checks import raise_input_error
from rmkit.losses.validation import (
    Reduction,
    check_finite,
    check_number,
    check_shapes,
    check_unit_interval,
    prepare_inputs,
    reduce,
    to_float32,
)


def bradley_terry_loss(
    chosen_rewards: Tensor,
    rejected_rewards: Tensor,
    *,
    target: Tensor | float | None = None,
    margin: Tensor | float | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """Negative log-likelihood of the preferences under Bradley-Terry, in nats per pair.

    -[target * log sigmoid(z) + (1 - target) * log sigmoid(-z)] with z = chosen_rewards - rejected_rewards - margin.

    Args:
        chosen_rewards, rejected_rewards: [pair], reward units.
        target: [pair] or one number in [0, 1]; 1 where not given.
        margin: [pair] or one number, reward units, signed; 0 where not given.
        reduction: "mean" or "sum" over pairs, or "none" for [pair].

    Raises:
        InputError: on shapes other than [pair], an empty batch, a target outside [0, 1], a NaN or an infinity.

    Source: arXiv 2401.06080, Eqs. (2), (5) and (6). Differs from it: Eq. (6) prints the margin outside the sigmoid's
    logarithm, where it could not change any gradient; here it is inside. Eq. (5)'s alpha is a value of
    `target`.
    """
    return _reduce_pairs(logistic, chosen_rewards, rejected_rewards, target, margin, reduction)


def symmetric_loss(
    chosen_rewards: Tensor,
    rejected_rewards: Tensor,
    *,
    target: Tensor | float | None = None,
    margin: Tensor | float | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """Sigmoid loss of the preferences: one minus the probability given to the label, in [0, 1] per pair.

    target * sigmoid(-z) + (1 - target) * sigmoid(z) with z = chosen_rewards - rejected_rewards - margin.

    A pair and its flip cost 1 together whatever the model says, so that uniform label noise moves the expected loss
    by a constant and a factor and leaves its minimiser where it was. The price is a gradient that vanishes on pairs
    the model has badly wrong: it learns more slowly than Bradley-Terry.

    Args and errors: as in `bradley_terry_loss`.

    Source: Ghosh, Kumar and Sastry, "Robust loss functions under label noise for deep neural networks", AAAI 2017, for
    the condition of symmetry. Not in arXiv 2401.06080.
    """
    return _reduce_pairs(
        lambda logit: torch.sigmoid(-logit), chosen_rewards, rejected_rewards, target, margin, reduction
    )


def noise_corrected_loss(
    chosen_rewards: Tensor,
    rejected_rewards: Tensor,
    *,
    flip_rate: float,
    target: Tensor | float | None = None,
    margin: Tensor | float | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """Bradley-Terry loss corrected for a known flip rate: its expectation over the flips is the loss on clean labels.

    [(1 - flip_rate) * loss(target) - flip_rate * loss(1 - target)] / (1 - 2 * flip_rate), `loss` being
    `bradley_terry_loss`; that is, the same loss at the target that smoothing by `flip_rate` would turn into `target`.

    Per pair it is bradley_terry_loss - z * flip_rate / (1 - 2 * flip_rate) at target 1: convex, but not bounded below,
    so that it drives the gaps of separable data apart. Stop early or regularise.

    Args: as in `bradley_terry_loss`, and
        flip_rate: share of pairs whose label was flipped at random, in [0, 0.5).

    Raises:
        InputError: as in `bradley_terry_loss`, and on a flip rate outside [0, 0.5).

    Source: Natarajan et al., "Learning with noisy labels", NeurIPS 2013, Lemma 1 with both class rates equal.
    Not in arXiv 2401.06080.
    """
    check_number("flip_rate", flip_rate, low=0.0, below=0.5)
    return _reduce_pairs(logistic, chosen_rewards, rejected_rewards, target, margin, reduction, flip_rate)


PAIR_LOSSES: dict[str, Callable[..., Tensor]] = {
    "bradley_terry": bradley_terry_loss,
    "symmetric": symmetric_loss,
    "noise_corrected": noise_corrected_loss,
}


def get_pair_loss(name: str, loss_kwargs: Mapping[str, Any] | None = None) -> Callable[..., Tensor]:
    """The loss `name` of `PAIR_LOSSES` with its own arguments, such as {"flip_rate": 0.2}, set to `loss_kwargs`.

    Raises:
        InputError: for an unknown loss, an unknown or missing argument, and a value that the loss refuses.
    """
    kwargs = dict(loss_kwargs or {})
    if name not in PAIR_LOSSES:
        nearest, = difflib.get_close_matches(str(name), PAIR_LOSSES, n=1, cutoff=0.0)
        raise_input_error("loss", f"one of {', '.join(PAIR_LOSSES)}", name, f"Did you mean {nearest}?")
    loss = PAIR_LOSSES[name]
    shared = inspect.signature(bradley_terry_loss).parameters
    own = {key: value for key, value in inspect.signature(loss).parameters.items() if key not in shared}
    required = {key for key, value in own.items() if value.default is value.empty}
    if not required <= kwargs.keys() <= own.keys():
        expected = f"the arguments of loss {name}: {', '.join(own) or 'none'}"
        wrong = [*sorted(required - kwargs.keys()), *sorted(kwargs.keys() - own.keys())]
        raise_input_error("loss_kwargs", expected, kwargs, f"Add or remove {', '.join(wrong)}.")
    configured = partial(loss, **kwargs)
    configured(torch.zeros(1), torch.zeros(1))  # the loss checks the values
    return configured


def smooth_targets(target: Tensor, label_smoothing: float) -> Tensor:
    """target * (1 - label_smoothing) + (1 - target) * label_smoothing, elementwise: targets moved to their opposite.

    Args:
        target: any shape, probabilities in [0, 1].
        label_smoothing: probability that a label is wrong, in [0, 1]; 0.5 erases it, 1 flips it.

    Raises:
        InputError: on a target or an label_smoothing outside [0, 1].

    Source: arXiv 2401.06080, Eq. (5), whose alpha is not given; 0.2 fits its Figure 6.
    """
    check_unit_interval("target", target)
    if not 0 <= label_smoothing <= 1:
        raise_input_error("label_smoothing", "a probability in [0, 1]", label_smoothing, "Choose one inside.")
    return smooth(target if target.is_floating_point() else target.float(), label_smoothing)


def reward_center_penalty(rewards: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    """Squared sum of a pair's two rewards, which pulls rewards towards mean zero and leaves the gap free.

    (rewards[:, 0] + rewards[:, 1]) ** 2.

    Args:
        rewards: [pair, response] with two responses, reward units; `torch.stack([chosen, rejected], dim=1)`.
        reduction: "mean" or "sum" over pairs, or "none" for [pair].

    Raises:
        InputError: on other shapes, an empty batch, a NaN or an infinity.

    Source: Eisenstein et al., arXiv 2312.09244, Eq. (2); the same number as TRL's `center_rewards_coefficient` term.
    """
    check_shapes(("pair", "response"), rewards=rewards)
    if rewards.shape[1] != 2:
        raise_input_error(
            "rewards", "two responses per pair", rewards.shape[1], "Stack chosen and rejected along dim 1."
        )
    values = to_float32(rewards).sum(dim=1).square()
    if not torch.isfinite(values).all():
        check_finite(rewards=rewards)
    return reduce(values, reduction, rewards.dtype)


def logistic(logit: Tensor) -> Tensor:
    """-log sigmoid(logit), elementwise."""
    return -logsigmoid(logit)


def expected_loss(loss: Callable[[Tensor], Tensor], logit: Tensor, target: Tensor | None) -> Tensor:
    """target * loss(logit) + (1 - target) * loss(-logit), elementwise; a target of None is 1."""
    return loss(logit) if target is None else target * loss(logit) + (1 - target) * loss(-logit)


def smooth(target: Tensor, rate: float) -> Tensor:
    """The target after labels are flipped at `rate`."""
    return target * (1 - rate) + (1 - target) * rate


def unsmooth(target: Tensor, rate: float) -> Tensor:
    """The inverse of `smooth`: outside [0, 1] for a hard label, which is what makes a corrected loss unbiased."""
    return (target - rate) / (1 - 2 * rate)


def _reduce_pairs(
    loss: Callable[[Tensor], Tensor],
    chosen: Tensor,
    rejected: Tensor,
    target: Tensor | float | None,
    margin: Tensor | float | None,
    reduction: Reduction,
    flip_rate: float | None = None,
) -> Tensor:
    """`expected_loss` of checked pairs, reduced; a `flip_rate` is taken out of the targets by `unsmooth`."""
    sources = {"chosen_rewards": chosen, "rejected_rewards": rejected}
    check_shapes(("pair",), **sources)
    logit, target = prepare_inputs(to_float32(chosen) - to_float32(rejected), target, margin, **sources)
    if flip_rate is not None:
        target = unsmooth(torch.ones_like(logit) if target is None else target, flip_rate)
    return reduce(expected_loss(loss, logit, target), reduction, torch.promote_types(chosen.dtype, rejected.dtype))
