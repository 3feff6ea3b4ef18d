"""Floating-point operations of a model: counted, measured as the machine's peak, and estimated for large models."""

import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForSequenceClassification

from benchmarks.systems.memory_formula import MODELS

REPEATS = 3
PASSES = 3  # one product forward, and two backward for the gradients of inputs and weights
PEAK = 989e12  # dense bf16 operations per second of an H100 SXM, from its data sheet
UTILISATION = (0.3, 0.5)  # share of the peak over a whole training step, as reported for large runs
PAIRS = 160_000  # one epoch of the training half of HH-RLHF
GPUS = (8, 64, 512)
BATCHINGS = ("padded, random", "padded, grouped", "packed")

Shapes = Counter[tuple[int, int]]


def count_shapes(model: nn.Module) -> Shapes:
    """The number of linear layers of each shape (in, out), without the scalar head, which sees the last token only."""
    return Counter((module.in_features, module.out_features) for module in model.modules()
                   if isinstance(module, nn.Linear) and module.out_features > 1)


def count_operations(shapes: Shapes) -> int:
    """Operations of these layers per token of a forward pass, 2 for each weight.

    Attention (see `count_attention`), the embedding, norms and activations are left out.
    """
    return sum(2 * width * outputs * count for (width, outputs), count in shapes.items())


def count_attention(hidden: int, layers: int, seen: float) -> float:
    """Operations of attention in a forward pass for `seen` (query, key) pairs within the causal mask.

    A kernel that does not skip the other pairs needs up to twice as many.
    """
    return 4 * hidden * layers * seen


def measure_peak(shapes: Shapes, tokens: int, dtype: torch.dtype, backward: bool = True) -> float:
    """Operations per second of processor time of these matrix products alone, for `tokens` tokens; best of REPEATS."""
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
    """Processor seconds of one matrix product."""
    start = time.process_time()
    torch.mm(left, right)
    return time.process_time() - start


def estimate(waste: Mapping[str, Mapping[str, Mapping[str, float]]]) -> list[dict[str, Any]]:
    """Training on paper, one row per model, data set and batching: operations, pairs per second and GPU, hours.

    waste: `measure_waste` by data set. With `tokens` and (query, key) pairs `seen` per pair, training on a pair takes

        4 (2 W tokens + 4 hidden layers seen)

    operations: W weights in linear layers, and 4 passes, forward, two products backward, and forward again under
    activation checkpointing. Assumed are a utilisation within UTILISATION for every batching, and data parallelism
    without further cost of the network. Tokens are those of the benchmark's tokenizer (8,192 entries); a large one
    needs about a quarter fewer.
    """
    rows = []
    for model, config in MODELS.items():
        with torch.device("meta"):
            per_token = count_operations(count_shapes(AutoModelForSequenceClassification.from_config(config)))
        for data, by_batching in waste.items():
            for batching in BATCHINGS:
                tokens, seen = by_batching[batching]["tokens"], by_batching[batching]["seen"]
                attention = count_attention(config.hidden_size, config.num_hidden_layers, seen)
                operations = (PASSES + 1) * (per_token * tokens + attention)
                rates = [share * PEAK / operations for share in UTILISATION]
                rows.append({
                    "model": model, "data": data, "way": batching, "operations": operations,
                    "pairs_per_second_and_gpu": rates,
                    "hours": {str(gpus): [PAIRS / rate / gpus / 3600 for rate in rates[::-1]] for gpus in GPUS},
                })
    return rows
