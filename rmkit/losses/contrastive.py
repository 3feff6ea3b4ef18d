"""Contrastive losses over two dropout views of embeddings: SimCSE and SwAV, on pairs or on their differences.

The vectors come from `preference_embeddings`. Computed in float32 (in float64 where one of the inputs is), outside
autocast, and returned in the dtype of the first view. A zero vector has no direction: its cosines are 0 and it gets no
gradient. Across processes, SimCSE's negatives and SwAV's assignments span the rows of all (`gather_rows`).
"""

import math
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import cross_entropy, log_softmax

from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.losses.cosine import Cosines, vector_lengths
from rmkit.losses.validation import (
    Reduction,
    check_count,
    check_divisor,
    check_finite,
    check_shapes,
    reduce,
    to_common_dtype,
    to_float32,
)

EXPONENT = 60.0  # exp(-60) is far from float32's smallest number, also after sums and reciprocals
DRIFT = 20.0  # what scales may grow or shrink by beside it, in the exponent


def preference_embeddings(chosen: Tensor, rejected: Tensor, kind: Literal["pair", "difference"]) -> Tensor:
    """The set H that the contrastive losses compare: [2 * pair, hidden], in the dtype given.

    "pair": chosen, then rejected; "difference": chosen - rejected, then rejected - chosen.

    `chosen` and `rejected` are [pair, hidden]. Raises `InputError` on shapes that differ and an empty batch.

    Source: arXiv 2401.06080, section 3.1.
    """
    check_shapes(("pair", "hidden"), chosen=chosen, rejected=rejected)
    if kind == "pair":
        return torch.cat([chosen, rejected])
    if kind == "difference":
        difference = chosen - rejected
        return torch.cat([difference, -difference])
    raise_input_error("kind", "'pair' or 'difference'", kind, "Choose one of these.")


def simcse_loss(view_a: Tensor, view_b: Tensor, *, temperature: float = 0.05, reduction: Reduction = "mean") -> Tensor:
    """Cross-entropy of finding a vector's second view among all second views by cosine, in nats per vector.

    -log(exp(cos(a_i, b_i) / temperature) / sum over j of exp(cos(a_i, b_j) / temperature)), in this direction only.

    Args:
        view_a, view_b: [vector, hidden], two views of the same vectors.
        temperature: positive.
        reduction: "mean" or "sum" over vectors, or "none" for [vector].

    Raises:
        InputError: on shapes that differ, an empty batch, temperature <= 0, a NaN or an infinity.

    Source: arXiv 2401.06080, Eq. (9); temperature 0.05 from SimCSE's code (Gao et al., arXiv 2104.08821). Differs from
    that code across processes: there negatives of other processes carry no gradient, here they do.
    """
    check_divisor("temperature", temperature)
    check_shapes(("vector", "hidden"), view_a=view_a, view_b=view_b)
    wide_a, wide_b = to_common_dtype(view_a, view_b)
    candidates, begin = gather_rows(wide_b)
    length_a, length_b = vector_lengths(view_a=wide_a, view_b=candidates)
    scores = Cosines.apply(candidates, length_a, length_b, wide_a)[0] / temperature
    positives = torch.arange(begin, begin + len(view_a), device=view_a.device)
    return reduce(cross_entropy(scores, positives, reduction="none"), reduction, view_a.dtype)


def swav_loss(
    view_a: Tensor,
    view_b: Tensor,
    prototypes: Tensor,
    *,
    temperature: float = 0.1,
    epsilon: float = 0.05,
    iterations: int = 3,
    reduction: Reduction = "mean",
) -> Tensor:
    """Cross-entropy of predicting each view's balanced prototype assignment from the other view, in nats per vector.

    -sum over k of q_b[k] * log p_a[k] + q_a[k] * log p_b[k], with p = softmax(cos(view, prototypes) / temperature) and
    q = sinkhorn(cos(view, prototypes)), which carries no gradient.

    Args:
        view_a, view_b: [vector, hidden], two views of the same vectors.
        prototypes: [prototype, hidden]; their length does not matter, they are normalised here at every call.
        temperature: of the predictions, positive.
        epsilon, iterations: of `sinkhorn`.
        reduction: "mean" or "sum" over vectors, or "none" for [vector].

    Raises:
        InputError: on shapes that do not fit, an empty batch, settings out of range, a NaN or an infinity.

    Source: arXiv 2401.06080, Eqs. (7) and (8), whose sum of both directions is taken; SwAV's code (Caron et al., arXiv
    2006.09882) returns half of it. That code also rewrites the prototypes to unit length after each step; here the
    normalisation is inside the loss and is differentiated, so the stored prototypes may have any length.
    """
    check_divisor("temperature", temperature)
    check_divisor("epsilon", epsilon)
    check_count("iterations", iterations)
    check_shapes(("vector", "hidden"), view_a=view_a, view_b=view_b)
    check_shapes(("prototype", "hidden"), prototypes=prototypes)
    if prototypes.shape[1] != view_a.shape[1]:
        raise_input_error(
            "prototypes", f"hidden size {view_a.shape[1]}", prototypes.shape[1], "Match the embeddings' size."
        )
    wide_a, wide_b, wide_c = to_common_dtype(view_a, view_b, prototypes)
    length_a, length_b, length_c = vector_lengths(view_a=wide_a, view_b=wide_b, prototypes=wide_c)
    lengths = torch.stack([length_a, length_b])
    scores = Cosines.apply(wide_c, lengths, length_c, wide_a, wide_b)
    everyone, begin = gather_rows(scores.detach().transpose(0, 1))
    assigned = [_balance_cosines(view, epsilon, iterations)[begin:begin + len(view_a)] for view in everyone.unbind(1)]
    values = -(log_softmax(scores / temperature, dim=2) * torch.stack(assigned[::-1])).sum(dim=(0, 2))
    return reduce(values, reduction, view_a.dtype)


@torch.no_grad()
def sinkhorn(scores: Tensor, *, epsilon: float = 0.05, iterations: int = 3) -> Tensor:
    """Soft assignment of vectors to prototypes that uses the prototypes evenly: rows sum to 1; without gradient.

    exp(scores / epsilon), its columns and then its rows divided by their sums, `iterations` times. The column sums
    tend to vectors / prototypes; after 3 iterations they are near it, not at it. Logarithms are iterated, so that no
    score overflows or leaves a row without mass.

    Args:
        scores: [vector, prototype].
        epsilon: smoothness of the assignment, positive.
        iterations: at least 1.

    Raises:
        InputError: on other shapes, an empty batch, settings out of range, a NaN or an infinity.

    Source: Caron et al., arXiv 2006.09882, and `distributed_sinkhorn` in its code, whose defaults these are.
    """
    check_divisor("epsilon", epsilon)
    check_count("iterations", iterations)
    check_shapes(("vector", "prototype"), scores=scores)
    if not torch.isfinite(scores).all():
        check_finite(scores=scores)
    return _balance(to_float32(scores), epsilon, iterations).to(scores.dtype)


def _balance(scores: Tensor, epsilon: float, iterations: int) -> Tensor:
    """`sinkhorn` for scores known to be finite, and settings in range."""
    log_assignment = scores / epsilon
    for _ in range(iterations):
        log_assignment = log_softmax(log_softmax(log_assignment, dim=0), dim=1)
    return log_assignment.exp()


def _balance_cosines(cosines: Tensor, epsilon: float, iterations: int) -> Tensor:
    """`_balance` for scores in [-1, 1]: by matrix-vector products, unless an exponential or a scale could vanish.

    The vectors' scale grows by vectors / prototypes in every iteration, and the prototypes' shrinks by it.
    """
    if not 2 / EXPONENT < epsilon or iterations * abs(math.log(len(cosines) / cosines.shape[1])) > DRIFT:
        return _balance(cosines, epsilon, iterations)
    mass = (cosines - 1).div_(epsilon).exp_()
    vector_scale = mass.new_ones(len(mass))
    for _ in range(iterations):
        prototype_scale = torch.mv(mass.T, vector_scale).reciprocal_()
        vector_scale = torch.mv(mass, prototype_scale).reciprocal_()
    return mass.mul_(vector_scale[:, None]).mul_(prototype_scale)


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
        seen = Verbatim(f"{counts.tolist()} by rank")
        raise_input_error("batch", "as many rows on every process", seen, "Drop or fill up the last, shorter batch.")
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
