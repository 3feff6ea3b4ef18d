"""Losses for preferences, as pure functions on torch alone.

Each gives one number per pair, vector or prompt with `reduction="none"`, and their mean or sum otherwise. Losses in
`PAIR_LOSSES` share the arguments (chosen_rewards, rejected_rewards, *, target, margin, reduction); those of
`CONTRASTIVE_LOSSES` share (view_a, view_b, *, temperature, reduction). Further arguments of a loss are its own.
`LOSSES` holds all.
"""

import difflib
import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from rmkit.core.checks import raise_input_error
from rmkit.losses.contrastive import preference_embeddings, simcse_loss, sinkhorn, swav_loss
from rmkit.losses.dpo import dpo_loss
from rmkit.losses.metarm import difference_loss
from rmkit.losses.pairwise import (
    bradley_terry_loss,
    noise_corrected_loss,
    reward_center_penalty,
    smooth_targets,
    symmetric_loss,
)

PAIR_LOSSES: dict[str, Callable[..., Tensor]] = {
    "bradley_terry": bradley_terry_loss,
    "symmetric": symmetric_loss,
    "noise_corrected": noise_corrected_loss,
}

CONTRASTIVE_LOSSES: dict[str, Callable[..., Tensor]] = {
    "simcse": simcse_loss,
    "swav": swav_loss,
}

LOSSES: dict[str, Callable[..., Tensor]] = {
    **PAIR_LOSSES,
    **CONTRASTIVE_LOSSES,
    "reward_center": reward_center_penalty,
    "difference": difference_loss,
    "dpo": dpo_loss,
}

__all__ = [
    "CONTRASTIVE_LOSSES",
    "LOSSES",
    "PAIR_LOSSES",
    "bradley_terry_loss",
    "difference_loss",
    "dpo_loss",
    "get_pair_loss",
    "noise_corrected_loss",
    "preference_embeddings",
    "reward_center_penalty",
    "simcse_loss",
    "sinkhorn",
    "smooth_targets",
    "swav_loss",
    "symmetric_loss",
]


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
