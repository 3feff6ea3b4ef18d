"""Memory per GPU that training needs: tables of the formula, and its check against the bytes that are allocated.

    python -m benchmarks.systems.sizing                              # measure and write benchmarks/results/sizing.json
    python -m benchmarks.systems.sizing --model_name_or_path MODEL   # print the table of another model

The check trains a tiny model on the CPU with one and with two processes.
"""

import argparse
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import AutoConfig, PretrainedConfig

from benchmarks.shared.results import write_results
from benchmarks.systems.held_bytes import SEED, compare_activations, compare_states
from benchmarks.systems.memory_formula import MODELS, Training, estimate_memory, measure_size

GIB = 2**30
GPUS = (1, 8, 16, 32, 64)
CARDS = {"80 GB": 79, "141 GB": 140}  # GiB that an H100 and an H200 report
USABLE = 0.9  # share of a card; the rest is left to CUDA, NCCL and fragmentation
TRAININGS = (
    *(Training(stage) for stage in (0, 1, 2, 3)), Training(2, offload=True), Training(3, offload=True),
    Training(2, lora_rank=16), Training(3, lora_rank=16),
)


def tabulate(config: PretrainedConfig) -> list[dict[str, Any]]:
    """One row per training setting: GiB per GPU by number of GPUs, and GiB of host memory over all machines."""
    rows = []
    for training in TRAININGS:
        size = measure_size(config, training.lora_rank)
        memory = {gpus: estimate_memory(size, training, gpus) for gpus in GPUS}
        rows.append({
            "training": str(training),
            "gib": {str(gpus): round(needed.peak / GIB, 1) for gpus, needed in memory.items()},
            "host_gib": round(memory[1].host / GIB),
        })
    return rows


def format_table(tables: Mapping[str, list[dict[str, Any]]]) -> str:
    """A Markdown table: bold fits the smaller card, struck out fits neither."""
    lines = [f"| GiB on each of so many GPUs | {' | '.join(map(str, GPUS))} |",
             "|---" * (len(GPUS) + 1) + "|"]
    small, large = (USABLE * size for size in CARDS.values())
    for model, rows in tables.items():
        for row in rows:
            cells = [f"**{need:.0f}**" if need <= small else f"{need:.0f}" if need <= large else f"~~{need:.0f}~~"
                     for need in row["gib"].values()]
            lines.append(f"| {model}, {row['training']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Print one model's table, or measure and write benchmarks/results/sizing.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model_name_or_path", help="folder or hub name of a model; nothing is measured or written")
    options = parser.parse_args()
    if options.model_name_or_path:
        config = AutoConfig.from_pretrained(options.model_name_or_path, num_labels=1)
        print(format_table({Path(options.model_name_or_path).name: tabulate(config)}))
        return
    with tempfile.TemporaryDirectory() as work:
        states = [row for processes in (1, 2) for row in compare_states(Path(work), processes)]
    tables = {name: tabulate(config) for name, config in MODELS.items()}
    figures = {"tables": tables, "states": states, "activations": compare_activations()}
    print(write_results("sizing", figures, seeds=[SEED]))


if __name__ == "__main__":
    main()
