"""MetaRM for heads: each member's preference gradient is taken where it tells fresh responses apart a little better."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from benchmarks.shared.results import summarise
from rmkit.core.seeds import derive_seed
from rmkit.ensembles.head_data import FeatureArray, iterate_batches, mean_and_std, validate_pair_features
from rmkit.ensembles.heads import Heads
from rmkit.losses import PAIR_LOSSES, difference_loss

STEP_SIZES = (0.003, 0.01, 0.03, 0.1)  # of the ascent; under larger ones accuracy falls towards chance
META_BATCH = 64  # prompts in an ascent, as many as there are pairs in a step


def difference(heads: Heads, responses: FeatureArray) -> Tensor:
    """MetaRM's J of each member [member], the mean over prompts; features [member, prompt, response, feature]."""
    members, prompts, count, width = responses.shape
    rewards = heads.forward(responses.reshape(members, -1, width).copy())
    return difference_loss(rewards.view(-1, count), reduction="none").view(members, prompts).mean(dim=1)


def ascend(heads: Heads, responses: FeatureArray, rate: float) -> Heads:
    """Heads at theta' = theta + rate * gradient of J, through which a gradient goes to theta as it is at theta'.

    The ascent itself counts as a constant (arXiv 2405.00438, Eq. 12 and 13). A sum over members: none moves another.
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
    """Heads of `train_heads`, from the same start and in the same order, but by MetaRM's step.

    `responses` [prompt, response, feature] are unlabelled; each member draws `META_BATCH` of the prompts for each step.
    With a `rate` of 0 they are the heads of `train_heads`. Source: MetaRM, arXiv 2405.00438, Algorithm 1; it descends
    by plain gradient descent, this by AdamW.
    """
    lessons = validate_pair_features(chosen, rejected, None, None)
    heads = Heads.init(
        *mean_and_std(lessons), hidden, [derive_seed(seed, "start", 0, member) for member in range(members)]
    )
    optimizer = torch.optim.AdamW(
        heads.parameters, lr=learning_rate, weight_decay=weight_decay, fused=True
    )
    per_epoch = math.ceil(len(chosen) / batch_size)
    steps = per_epoch * epochs
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 1.0 / steps, total_iters=max(1, steps - 1))
    orders = [np.random.default_rng(derive_seed(seed, "order", 0, member)) for member in range(members)]
    pairs = [np.arange(len(chosen), dtype=np.int32) for _ in range(members)]
    draws = [np.random.default_rng(derive_seed(seed, "meta", member)) for member in range(members)]
    for rows, weights in tqdm(
        iterate_batches(pairs, orders, per_epoch, epochs), total=steps, desc="Training by MetaRM", unit="step"
    ):
        moved = ascend(heads, responses[draw_prompts(draws, len(responses))], rate)
        rewards = moved.forward(lessons.gather(rows))
        sides = rewards[:, :rows.shape[1]].flatten(), rewards[:, rows.shape[1]:].flatten()
        losses = PAIR_LOSSES[loss](*sides, reduction="none")
        optimizer.zero_grad()
        (losses * weights.flatten()).sum().backward()
        optimizer.step()
        schedule.step()
    return heads.detach()


def draw_prompts(draws: list[np.random.Generator], prompts: int) -> NDArray[np.int64]:
    """Each member's prompts of one ascent [member, place]."""
    return np.stack([draw.permutation(prompts)[:META_BATCH] for draw in draws])


def train_metas(
    chosen: FeatureArray, rejected: FeatureArray, *, responses: FeatureArray, seed: int, **settings: Any
) -> dict[str, Heads]:
    """Heads of `train_meta` for each of `STEP_SIZES`."""
    return {
        f"{size:g}": train_meta(chosen, rejected, responses=responses, rate=size, seed=seed, **settings)
        for size in STEP_SIZES
    }


def find_best(tried: Mapping[str, float]) -> str:
    """The step size of the highest accuracy; of equals the smallest."""
    return max(tried, key=lambda size: tried[size])


def gather_steps(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Accuracy on the noisy validation pairs without an ascent and with each step size, and which were chosen."""
    return {
        "plain": summarise([each["plain"] for each in found]),
        "tried": {
            split: {size: summarise([each["tried"][split][size] for each in found]) for size in sizes}
            for split, sizes in found[0]["tried"].items()
        },
        "chosen": {split: [find_best(each["tried"][split]) for each in found] for split in found[0]["tried"]},
    }
