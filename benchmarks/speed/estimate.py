"""What a pair costs a model of 7B or 70B on many GPUs, by count: on paper, since no GPU was at hand.

    python -m benchmarks.speed.estimate      # from the tokens of benchmarks/results/throughput.json
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, PretrainedConfig

from benchmarks.report.throughput import format_estimate
from benchmarks.speed.products import count_attention, count_operations, count_shapes
from benchmarks.systems.sizing import MODELS

PEAK = 989e12  # an H100 SXM's bf16 operations per second, dense, as its data sheet says
UTILISATION = (0.3, 0.5)  # of the peak, over a whole training step; reports of large runs lie there
PASSES = 4  # forward, two products backward, and the forward again under activation checkpointing
GPUS = (8, 64, 512)
PAIRS = 160_000  # one epoch of HH-RLHF's training half
WASTE = ("padded, random", "padded, grouped", "packed")


def count_pair(per_token: float, config: PretrainedConfig, tokens: float, seen: float) -> float:
    """Floating-point operations of training on one pair: passes * (per_token tokens + 4 hidden layers seen).

    per_token: 2 for each weight of a linear layer but the head; tokens: that the model reads per pair, padding
    included; seen: the (query, key) pairs within the causal mask. Optimizer, norms and the embedding are left out.
    """
    return PASSES * (per_token * tokens + count_attention(config.hidden_size, config.num_hidden_layers, seen))


def estimate(epochs: Mapping[str, Mapping[str, Mapping[str, float]]]) -> list[dict[str, Any]]:
    """One row per model, data and way of batching: operations per pair, pairs per second and GPU, hours by GPUs.

    `epochs`: data -> way -> `tokens` and `seen` per pair. Assumed: every GPU is busy with its own pairs at a
    utilisation within the range, the same for all ways; the network costs nothing beyond that, so that rates add up
    over GPUs (data parallel, under ZeRO where sizing.py says that it fits); tokens are those of the benchmark's own
    small tokenizer (8,192 entries), of which a large one makes about a quarter fewer, alike for all ways.
    """
    rows = []
    for model, (_, config) in MODELS.items():
        with torch.device("meta"):
            per_token = count_operations(count_shapes(AutoModelForSequenceClassification.from_config(config)))
        for data, ways in epochs.items():
            for way in WASTE:
                operations = count_pair(per_token, config, **ways[way])
                rates = [share * PEAK / operations for share in UTILISATION]
                rows.append({
                    "model": model, "data": data, "way": way, "operations": operations,
                    "pairs_per_second_and_gpu": rates,
                    "hours": {str(gpus): [PAIRS / rate / gpus / 3600 for rate in rates[::-1]] for gpus in GPUS},
                })
    return rows


def collect_epochs(contests: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The tokens of each data set's epoch, from the training contests."""
    return {contest["data"]: contest["epoch"] for contest in contests}


if __name__ == "__main__":
    results = json.loads((Path(__file__).parents[1] / "results" / "throughput.json").read_text(encoding="utf-8"))
    print(format_estimate(estimate(collect_epochs(results["figures"]["training"]))))
