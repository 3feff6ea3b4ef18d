"""Cosines of all rows with all rows, at little more than the price of their matrix product."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from rmkit.losses.validation import check_finite, to_float32


def vector_lengths(**vectors: Tensor) -> list[Tensor]:
    """The Euclidean lengths [row, 1] of each argument's rows, in the dtype of `to_float32`; no gradient.

    A zero row gets the length infinity, so that dividing by it gives zeros and passes no gradient; so does one whose
    squared length has no full precision (in float32, a length below 1e-19).

    Raises:
        InputError: on a NaN, an infinity, or rows so long that a product of two would overflow.
    """
    with torch.no_grad():
        lengths = torch.cat(
            [torch.linalg.vector_norm(to_float32(rows), dim=1, keepdim=True) for rows in vectors.values()]
        )
        # One check for all: a NaN or an infinity anywhere in a row is one in its length, and in the greatest length.
        if not lengths.max().item() ** 2 < torch.finfo(lengths.dtype).max:
            check_finite(**vectors)
        short = lengths < torch.finfo(lengths.dtype).tiny ** 0.5
        return list(lengths.masked_fill_(short, float("inf")).split([len(rows) for rows in vectors.values()]))


class Cosines(torch.autograd.Function):
    """b[m, hidden], lengths of views and of b, views a[n, hidden]... -> cosines[view, n, m], in full precision always.

    Differentiable once. The lengths divide the small matrix of products instead of the rows, and their share of the
    gradient is taken from the cosines: d cos / d a = b / (|a| |b|) - cos * a / |a|**2. Normalising the rows first says
    the same with several more passes over [n, hidden], which takes longer than the product itself.
    """

    @staticmethod
    def forward(ctx: Any, b: Tensor, length_a: Tensor, length_b: Tensor, *views: Tensor) -> Tensor:
        cosines = b.new_empty(len(views), len(views[0]), len(b))
        with torch.autocast(b.device.type, enabled=False):
            for products, a in zip(cosines, views, strict=True):
                torch.mm(a, b.T, out=products)
        cosines.div_(length_a).div_(length_b.T)
        ctx.save_for_backward(b, length_a, length_b, cosines, *views)
        return cosines

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        b, length_a, length_b, cosines, *views = ctx.saved_tensors
        along = gradient * cosines
        scaled = (gradient / length_a).div_(length_b.T)
        back = along.sum(dim=2, keepdim=True).div_(length_a.square()).neg_()
        gradient_b = b * (-along.sum(dim=(0, 1)).unsqueeze(1) / length_b.square())
        with torch.autocast(b.device.type, enabled=False):
            for part, a in zip(scaled, views, strict=True):
                gradient_b.addmm_(part.T, a)
            gradients = [(a * own).addmm_(part, b) for a, own, part in zip(views, back, scaled, strict=True)]
        return gradient_b, None, None, *gradients
