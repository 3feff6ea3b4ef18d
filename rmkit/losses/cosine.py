"""Cosines of all rows with all rows, at little more than the price of their matrix product."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from rmkit.losses.inputs import refuse_non_finite, widen


def measure_lengths(**vectors: Tensor) -> list[Tensor]:
    """The Euclidean lengths [row, 1] of each argument's rows, in the dtype of `widen`; no gradient.

    A zero row gets the length infinity, so that dividing by it gives zeros and passes no gradient.

    Raises:
        InputError: on a NaN, an infinity, or rows so long that a product of two would overflow.
    """
    with torch.no_grad():
        lengths = [torch.linalg.vector_norm(widen(rows), dim=1, keepdim=True) for rows in vectors.values()]
        # One check for all: a NaN or an infinity anywhere in a row is one in its length.
        if not bool(torch.isfinite(torch.cat(lengths).square()).all()):
            refuse_non_finite(**vectors)
        return [length.masked_fill(length == 0, float("inf")) for length in lengths]


class Cosines(torch.autograd.Function):
    """a[n, hidden], b[m, hidden] and their lengths -> cosines[n, m], differentiable once, in full precision always.

    The lengths divide the small matrix of products instead of the rows, and their share of the gradient is taken from
    the cosines: d cos / d a = b / (|a| |b|) - cos * a / |a|**2. Normalising the rows first says the same with several
    more passes over [n, hidden], which takes longer than the product itself.
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, length_a: Tensor, length_b: Tensor) -> Tensor:
        with torch.autocast(a.device.type, enabled=False):
            cosines = (a @ b.T).div_(length_a).div_(length_b.T)
        ctx.save_for_backward(a, b, length_a, length_b, cosines)
        return cosines

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        a, b, length_a, length_b, cosines = ctx.saved_tensors
        along = gradient * cosines
        scaled = (gradient / length_a).div_(length_b.T)
        with torch.autocast(a.device.type, enabled=False):
            gradient_a = (a * (-along.sum(dim=1, keepdim=True) / length_a.square())).addmm_(scaled, b)
            gradient_b = (b * (-along.sum(dim=0).unsqueeze(1) / length_b.square())).addmm_(scaled.T, a)
        return gradient_a, gradient_b, None, None
