"""Matrix products of a model: how many floating-point operations they are, and how fast the machine does them alone."""

import time
from collections import Counter

import torch
from torch import nn

REPEATS = 3
PASSES = 3  # a forward pass and its two products backward, for the inputs and for the weights

Shapes = Counter[tuple[int, int]]


def count_shapes(model: nn.Module) -> Shapes:
    """How many linear layers of each shape (in, out) see every token; the head, which sees the last alone, is none."""
    return Counter((module.in_features, module.out_features) for module in model.modules()
                   if isinstance(module, nn.Linear) and module.out_features > 1)


def count_operations(shapes: Shapes) -> int:
    """Floating-point operations per token of one forward pass, 2 for each weight.

    Attention's own products (`count_attention`), the embedding (a look-up), norms and activations are left out.
    """
    return sum(2 * width * outputs * count for (width, outputs), count in shapes.items())


def count_attention(hidden: int, layers: int, seen: float) -> float:
    """Operations of one forward pass in attention itself, queries by keys and weights by values.

    `seen` counts the (query, key) pairs within the causal mask; a kernel that does not skip the rest does up to twice
    as many.
    """
    return 4 * hidden * layers * seen


def measure_peak(shapes: Shapes, tokens: int, dtype: torch.dtype, backward: bool = True) -> float:
    """Floating-point operations per second of processor time, of these products alone for a row of `tokens` tokens.

    The best of some repeats of each product; over shapes, all operations by all seconds.
    """
    operations = seconds = 0.0
    for (width, outputs), count in shapes.items():
        states, weight = torch.randn(tokens, width, dtype=dtype), torch.randn(outputs, width, dtype=dtype)
        upstream = torch.randn(tokens, outputs, dtype=dtype)
        products = [(states, weight.T), (upstream, weight), (upstream.T, states)][:PASSES if backward else 1]
        for product in products:
            seconds += count * min(time_product(*product) for _ in range(REPEATS))
            operations += count * 2 * tokens * width * outputs
    return operations / seconds


def time_product(left: torch.Tensor, right: torch.Tensor) -> float:
    """Processor seconds of one product."""
    start = time.process_time()
    torch.mm(left, right)
    return time.process_time() - start
