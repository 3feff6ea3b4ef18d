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
from rmkit.ensembles.head_data import Features, iterate_batches, mean_and_std, validate_pair_features
from rmkit.ensembles.heads import Heads, HeadsConfig
from rmkit.losses import PAIR_LOSSES, difference_loss

STEP_SIZES = (0.003, 0.01, 0.03, 0.1)  # of the ascent; under larger ones accuracy falls towards chance
META_BATCH = 64  # prompts in an ascent, as many as there are pairs in a step


def difference(heads: Heads, responses: Features) -> Tensor:
    """MetaRM's J of each member [member], the mean over prompts; features [member, prompt, response, feature]."""
    members, prompts, count, width = responses.shape
    rewards = heads.run(responses.reshape(members, -1, width).copy())
    return difference_loss(rewards.view(-1, count), reduction="none").view(members, prompts).mean(dim=1)


def ascend(heads: Heads, responses: Features, rate: float) -> Heads:
    """Heads at theta' = theta + rate * gradient of J, through which a gradient goes to theta as it is at theta'.

    The ascent itself counts as a constant (arXiv 2405.00438, Eq. 12 and 13). A sum over members: none moves another.
    """
    gradients = torch.autograd.grad(difference(heads, responses).sum(), heads.parameters)
    moved = (part + rate * gradient for part, gradient in zip(heads.parameters, gradients, strict=True))
    return replace(heads, **dict(zip(("weight", "bias", "output"), moved, strict=True)))


def train_meta(
    chosen: Features, rejected: Features, config: HeadsConfig, *, responses: Features, rate: float, seed: int
) -> Heads:
    """Heads of `train_heads`, from the same start and in the same order, but by MetaRM's step.

    `responses` [prompt, response, feature] are unlabelled; each member draws `META_BATCH` of the prompts for each step.
    With a `rate` of 0 they are the heads of `train_heads`. Source: MetaRM, arXiv 2405.00438, Algorithm 1; it descends
    by plain gradient descent, this by AdamW.
    """
    lessons = validate_pair_features(chosen, rejected, None, None)
    members = range(config.members)
    heads = Heads.start(
        *mean_and_std(lessons), config.hidden, [derive_seed(seed, "start", 0, member) for member in members]
    )
    optimizer = torch.optim.AdamW(
        heads.parameters, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
    )
    per_epoch = math.ceil(len(chosen) / config.batch_size)
    steps = per_epoch * config.epochs
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 1.0 / steps, total_iters=max(1, steps - 1))
    orders = [np.random.default_rng(derive_seed(seed, "order", 0, member)) for member in members]
    pairs = [np.arange(len(chosen), dtype=np.int32) for _ in members]
    draws = [np.random.default_rng(derive_seed(seed, "meta", member)) for member in members]
    for rows, weights in tqdm(
        iterate_batches(pairs, orders, per_epoch, config.epochs), total=steps, desc="Training by MetaRM", unit="step"
    ):
        moved = ascend(heads, responses[draw_prompts(draws, len(responses))], rate)
        rewards = moved.run(lessons.gather(rows))
        sides = rewards[:, :rows.shape[1]].flatten(), rewards[:, rows.shape[1]:].flatten()
        losses = PAIR_LOSSES[config.loss](*sides, reduction="none")
        optimizer.zero_grad()
        (losses * weights.flatten()).sum().backward()
        optimizer.step()
        schedule.step()
    return heads.detach()


def draw_prompts(draws: list[np.random.Generator], prompts: int) -> NDArray[np.int64]:
    """Each member's prompts of one ascent [member, place]."""
    return np.stack([draw.permutation(prompts)[:META_BATCH] for draw in draws])


def train_metas(
    chosen: Features, rejected: Features, config: HeadsConfig, *, responses: Features, seed: int
) -> dict[str, Heads]:
    """Heads of `train_meta` for each of `STEP_SIZES`."""
    return {
        f"{size:g}": train_meta(chosen, rejected, config, responses=responses, rate=size, seed=seed)
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
