"""Rows of all processes, with gradients kept: what makes a batch-wide loss the same on one process and on many.

Convention: each process returns the loss of its own rows, set against the rows of all. The mean of these values over
processes is the value of one process with the whole batch, and so is the gradient once it is *averaged* over
processes, as DistributedDataParallel and DeepSpeed do.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

from rmkit.core.checks import Seen, refuse


def gather_rows(rows: Tensor) -> tuple[Tensor, int]:
    """(the rows of all processes stacked by rank, the index at which this process' rows begin).

    Without a process group of several processes these are (`rows`, 0). Every process must call it, with as many rows
    as the others; where one raises for a NaN of its own, the others wait until the group's timeout. Backward sums the
    gradients that all processes hold for a row.
    """
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return rows, 0
    counts = torch.empty(dist.get_world_size(), dtype=torch.int64, device=rows.device)
    dist.all_gather(list(counts.split(1)), torch.tensor([len(rows)], device=rows.device))
    if not bool((counts == len(rows)).all()):
        seen = Seen(f"{counts.tolist()} by rank")
        refuse("batch", "as many rows on every process", seen, "Drop or fill up the last, shorter batch.")
    return _GatherRows.apply(rows), dist.get_rank() * len(rows)


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        parts = [torch.empty_like(rows, memory_format=torch.contiguous_format) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        summed = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(summed)
        return summed.chunk(dist.get_world_size())[dist.get_rank()]
