"""MetaRM for heads: the preference gradient is taken after an ascent on how far each member separates new responses."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from benchmarks.shared.statistics import summarise_nested
from rmkit.core.seeds import derive_seed
from rmkit.ensembles.head_data import FeatureArray, iterate_batches, mean_and_std, validate_pair_features
from rmkit.ensembles.heads import Heads
from rmkit.losses import PAIR_LOSSES, difference_loss

STEP_SIZES = (0.003, 0.01, 0.03, 0.1)  # of the ascent; under larger ones accuracy falls towards chance
META_BATCH = 64  # prompts in an ascent, as many as there are pairs in a step


def difference(heads: Heads, responses: FeatureArray) -> Tensor:
    """MetaRM's J [member], the mean over prompts; features [member, prompt, response, feature]."""
    members, prompts, count, width = responses.shape
    rewards = heads.forward(responses.reshape(members, -1, width).copy())
    return difference_loss(rewards.view(-1, count), reduction="none").view(members, prompts).mean(dim=1)


def ascend(heads: Heads, responses: FeatureArray, rate: float) -> Heads:
    """Heads at theta' = theta + rate * gradient of J; a gradient at theta' reaches theta unchanged.

    The ascent itself is a constant (arXiv 2405.00438, Eq. 12 and 13). Members do not affect each other.
    """
    gradients = torch.autograd.grad(difference(heads, responses).sum(), heads.parameters)
    moved = (part + rate * gradient for part, gradient in zip(heads.parameters, gradients, strict=True))
    return replace(heads, **dict(zip(("weight", "bias", "output"), moved, strict=True)))


def train_meta(
    chosen: FeatureArray,
    rejected: FeatureArray,
    *,
    responses: FeatureArray,
    rate: float,
    seed: int,
    members: int = 10,
    loss: str = "symmetric",
    hidden: int = 64,
    epochs: int = 5,
    batch_size: int = 64,
    learning_rate: float = 1e-3,
    weight_decay: float = 0.01,
) -> Heads:
    """`train_heads` with MetaRM's step: same initial weights and order; with a `rate` of 0 the same heads.

    `responses` [prompt, response, feature] are unlabelled; each member draws `META_BATCH` of the prompts for each step.
    Source: MetaRM, arXiv 2405.00438, Algorithm 1, with AdamW in place of plain gradient descent.
    """
    pairs = validate_pair_features(chosen, rejected, None, None)
    heads = Heads.init(
        *mean_and_std(pairs), hidden, [derive_seed(seed, "start", 0, member) for member in range(members)]
    )
    optimizer = torch.optim.AdamW(heads.parameters, lr=learning_rate, weight_decay=weight_decay, fused=True)
    per_epoch = math.ceil(len(chosen) / batch_size)
    steps = per_epoch * epochs
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 1.0 / steps, total_iters=max(1, steps - 1))
    orders = [np.random.default_rng(derive_seed(seed, "order", 0, member)) for member in range(members)]
    rows_by_member = [np.arange(len(chosen), dtype=np.int32) for _ in range(members)]
    draws = [np.random.default_rng(derive_seed(seed, "meta", member)) for member in range(members)]
    for rows, weights in tqdm(
        iterate_batches(rows_by_member, orders, per_epoch, epochs), total=steps, desc="Training by MetaRM", unit="step"
    ):
        prompts = np.stack([draw.permutation(len(responses))[:META_BATCH] for draw in draws])  # [member, prompt]
        moved = ascend(heads, responses[prompts], rate)
        rewards = moved.forward(pairs.gather(rows))
        sides = rewards[:, :rows.shape[1]].flatten(), rewards[:, rows.shape[1]:].flatten()
        losses = PAIR_LOSSES[loss](*sides, reduction="none")
        optimizer.zero_grad()
        (losses * weights.flatten()).sum().backward()
        optimizer.step()
        schedule.step()
    return heads.subset(slice(None))


def train_metas(
    chosen: FeatureArray, rejected: FeatureArray, *, responses: FeatureArray, seed: int, **settings: Any
) -> dict[str, Heads]:
    """Heads of `train_meta` for each of `STEP_SIZES`."""
    return {
        f"{size:g}": train_meta(chosen, rejected, responses=responses, rate=size, seed=seed, **settings)
        for size in STEP_SIZES
    }


def find_best(tried: Mapping[str, float]) -> str:
    """The step size of the highest accuracy; the smallest of equals."""
    return max(tried, key=lambda size: tried[size])


def gather_steps(cells: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Accuracy on the noisy validation pairs without an ascent and with each step size, and which were chosen."""
    return {
        **summarise_nested(cells),
        "chosen": {split: [find_best(cell["tried"][split]) for cell in cells] for split in cells[0]["tried"]},
    }
