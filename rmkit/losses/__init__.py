"""Losses for preferences, as pure functions on torch alone.

Each gives one number per pair, vector or prompt with `reduction="none"`, and their mean or sum otherwise. Losses in
`PAIR_LOSSES` share the arguments (chosen_rewards, rejected_rewards, *, target, margin, reduction); those of
`CONTRASTIVE_LOSSES` share (view_a, view_b, *, temperature, reduction). Further arguments of a loss are its own.
`LOSSES` holds all.
"""

from collections.abc import Callable

from torch import Tensor

from rmkit.losses.contrastive import preference_embeddings, simcse_loss, sinkhorn, swav_loss
from rmkit.losses.dpo import dpo_loss
from rmkit.losses.metarm import difference_loss
from rmkit.losses.pairwise import (
    PAIR_LOSSES,
    bradley_terry_loss,
    get_pair_loss,
    noise_corrected_loss,
    reward_center_penalty,
    smooth_targets,
    symmetric_loss,
)

CONTRASTIVE_LOSSES: dict[str, Callable[..., Tensor]] = {"simcse": simcse_loss, "swav": swav_loss}

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
