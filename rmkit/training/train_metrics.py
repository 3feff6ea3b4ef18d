"""Metrics of pairs that a trainer logs, over all processes."""

from collections.abc import Callable

import torch
from torch import Tensor


class PairMetrics:
    """Running sums over pairs since the last `pop`.

    `accuracy`: share of pairs with a positive gap, a tie counting half; `margin_accuracy`: the same of gap - margin
    (what arXiv 2401.06080 plots as training accuracy); `gap`, `reward_mean`, `reward_min`, `reward_max`.
    """

    def __init__(self) -> None:
        self.totals: Tensor | None = None

    def update(self, chosen: Tensor, rejected: Tensor, margin: Tensor | None) -> None:
        """Add pairs; `chosen`, `rejected` and `margin` are [pair]. Nothing waits for the device."""
        gap = (chosen - rejected).double()
        gap_beyond_margin = gap if margin is None else gap - margin
        rewards = torch.stack([chosen, rejected]).double()
        sums = [correct(gap).sum(), correct(gap_beyond_margin).sum(), gap.sum(), rewards.mean(dim=0).sum()]
        row = torch.stack([gap.new_tensor(len(gap)), *sums, -rewards.min(), rewards.max()]).detach()
        if self.totals is not None:
            row = torch.cat([self.totals[:5] + row[:5], torch.maximum(self.totals[5:], row[5:])])
        self.totals = row

    def pop(self, gather: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """The metrics over all processes since the last call; `gather` stacks [1, n] rows over processes."""
        if self.totals is None:
            return {}
        totals = gather(self.totals[None])
        self.totals = None
        pairs, correct_pairs, correct_margins, gap, reward = totals[:, :5].sum(dim=0).tolist()
        lowest, highest = totals[:, 5:].amax(dim=0).tolist()
        return {
            "accuracy": correct_pairs / pairs,
            "margin_accuracy": correct_margins / pairs,
            "gap": gap / pairs,
            "reward_mean": reward / pairs,
            "reward_min": -lowest,
            "reward_max": highest,
        }


def correct(gap: Tensor) -> Tensor:
    """1 where the gap is positive, 0.5 where it is zero, 0 where it is negative."""
    return (gap.sign() + 1) / 2
