"""How much memory a training needs on each GPU: a formula, checked against DeepSpeed's own and against what is held.

    python -m benchmarks.systems.sizing                       # measure, compare, write benchmarks/results/sizing.json
    python -m benchmarks.systems.sizing --model_name_or_path MODEL     # print the table of a model of your own

Bytes are summed up in GiB (2**30). The measurement trains a tiny model on the CPU with one and with two processes.
"""

import argparse
import importlib
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import AutoConfig, LlamaConfig, PretrainedConfig

from benchmarks.shared.results import write_results
from benchmarks.systems.held_bytes import SEED, compare_activations, compare_states
from benchmarks.systems.memory_formula import LENGTH, PAIRS, SUB_GROUP, Training, estimate_memory, measure_size

GIB = 2**30
GPUS = (1, 8, 16, 32, 64)
CARDS = {"80 GB": 79, "141 GB": 140}  # GiB that an H100 and an H200 report
USABLE = 0.9  # of a card; the rest is for CUDA, NCCL and fragmentation
LORA = 16
# The configurations that the hub has under these names, as far as they decide the sizes.
MODELS = {
    "7B": ("meta-llama/Llama-2-7b-hf", LlamaConfig(
        vocab_size=32000, hidden_size=4096, intermediate_size=11008, num_hidden_layers=32, num_attention_heads=32,
        num_key_value_heads=32, num_labels=1)),
    "70B": ("meta-llama/Llama-3.1-70B", LlamaConfig(
        vocab_size=128256, hidden_size=8192, intermediate_size=28672, num_hidden_layers=80, num_attention_heads=64,
        num_key_value_heads=8, num_labels=1)),
}


TRAININGS = (
    *(Training(stage) for stage in (0, 1, 2, 3)), Training(2, offload=True), Training(3, offload=True),
    Training(2, lora_rank=LORA), Training(3, lora_rank=LORA),
)


def tabulate(config: PretrainedConfig) -> list[dict[str, Any]]:
    """One row per way of training: GiB on each GPU, by the number of GPUs, and in host memory over all machines."""
    rows = []
    for training in TRAININGS:
        size = measure_size(config, training.lora_rank)
        needs = {gpus: estimate_memory(size, training, gpus) for gpus in GPUS}
        rows.append({
            "training": str(training),
            "gib": {str(gpus): round(memory.peak / GIB, 1) for gpus, memory in needs.items()},
            "host_gib": round(needs[1].host / GIB),
        })
    return rows


def format_table(tables: Mapping[str, list[dict[str, Any]]]) -> str:
    """Markdown: bold where the smaller card suffices, struck out where the larger one does not."""
    lines = [f"| GiB on each of so many GPUs | {' | '.join(map(str, GPUS))} |",
             "|---" * (len(GPUS) + 1) + "|"]
    small, large = (USABLE * size for size in CARDS.values())
    for model, rows in tables.items():
        for row in rows:
            cells = [f"**{need:.0f}**" if need <= small else f"{need:.0f}" if need <= large else f"~~{need:.0f}~~"
                     for need in row["gib"].values()]
            lines.append(f"| {model}, {row['training']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def compare_estimator() -> list[dict[str, Any]]:
    """Our weights + optimizer + step on the GPU against DeepSpeed's estimate, for the models of the table.

    Stage 2: the same. Stage 2 with offload: the same. Stage 3: DeepSpeed counts 18 T / N for weights, gradients and
    optimizer, which leaves out the gradients in bf16 (2 T / N), takes the whole fp32 copy of the gradients for one
    held at once, where DeepSpeed makes it by sub-groups of 1e9, and adds 4 bytes for each parameter of the largest
    layer, where we have `buffers`. Stage 3 with offload: the same but for the largest layer.
    """
    second = importlib.import_module("deepspeed.runtime.zero.stage_1_and_2").estimate_zero2_model_states_mem_needs
    third = importlib.import_module("deepspeed.runtime.zero.stage3").estimate_zero3_model_states_mem_needs
    rows = []
    for name, (_, config) in MODELS.items():
        size = measure_size(config)
        largest = config.vocab_size * config.hidden_size
        for training in (training for training in TRAININGS if training.stage >= 2 and not training.lora_rank):
            for nodes in (1, 2, 8):
                settings = {"num_gpus_per_node": 8, "num_nodes": nodes, "cpu_offload": training.offload}
                if training.stage == 2:
                    theirs = second(size.parameters, **settings)[1]
                else:
                    theirs = third(size.parameters, largest, cpu_offload_params=False, **settings)[1]
                ours = estimate_memory(size, training, 8 * nodes)
                share = size.parameters / (8 * nodes)
                rows.append({
                    "model": name, "training": str(training), "gpus": 8 * nodes,
                    "ours": ours.weights + ours.optimizer + ours.step, "deepspeed": theirs,
                    "largest_layer": 4 * largest if training.stage == 3 else 0,
                    "gradients_left_out": 2 * share if training.stage == 3 and not training.offload else 0,
                    "gradients_by_sub_groups": 4 * max(0, share - SUB_GROUP) if training == Training(3) else 0,
                })
    return rows


def main() -> None:
    """Print one model's table, or measure, compare and write benchmarks/results/sizing.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model_name_or_path", help="a model's folder or hub name; nothing is measured or written")
    options = parser.parse_args()
    if options.model_name_or_path:
        config = AutoConfig.from_pretrained(options.model_name_or_path, num_labels=1)
        print(format_table({Path(options.model_name_or_path).name: tabulate(config)}))
        return
    with tempfile.TemporaryDirectory() as work:
        states = [row for processes in (1, 2) for row in compare_states(Path(work), processes)]
    print(write_results("sizing", {
        "pairs": PAIRS, "length": LENGTH, "cards_gib": CARDS, "usable": USABLE,
        "models": {name: {"configuration": hub, **measure_size(config)._asdict()}
                   for name, (hub, config) in MODELS.items()},
        "tables": {name: tabulate(config) for name, (_, config) in MODELS.items()},
        "estimator": compare_estimator(),
        "states": states,
        "activations": compare_activations(),
    }, seeds=[SEED]))


if __name__ == "__main__":
    main()
