"""Peak anonymous memory of training and voting by number of rows. The aim: less than 10 % growth.

    python -m benchmarks.systems.memory [--rows 10000 100000 1000000] [--of train heads] [--work runs/memory]

Each measurement is a process of its own, sampled 10 times a second. Anonymous memory (RssAnon) is what the process
allocated; resident memory also contains pages of mapped files, which the kernel can drop. `train` takes 20 steps;
`heads` votes by 10 heads in 5 folds, trained for one epoch. Both read, tokenise and write all rows, which are drawn
from the synthetic data set. Finished measurements are kept in --work.
"""

import argparse
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks.shared.results import keep, write_results
from rmkit.commands.synthetic import BASE_MODEL, SyntheticConfig, synthetic
from rmkit.data.reading import PairWriter
from rmkit.data.synthetic import draw_pairs

WORLD = {"train": 1, "validation": 1, "test": 1, "demonstrations": 200, "hidden": 32, "layers": 1}
OTHER_ROWS = 500  # of the validation and the test split
TRAIN = {"max_steps": 20, "per_device_train_batch_size": 16, "learning_rate": 1e-3, "save_steps": 10,
         "report_to": "none", "disable_tqdm": True, "use_cpu": True}
HEADS = {"voters": "heads", "members": 10, "folds": 5, "heads.epochs": 1, "heads.batch_size": 256, "heads.hidden": 16}
COMMANDS: dict[str, tuple[str, dict[str, Any]]] = {"train": ("train", TRAIN), "heads": ("vote", HEADS)}
INTERVAL = 0.1  # seconds between two samples
MIB = 2**20


def write_pairs(folder: Path, rows: int, seed: int) -> None:
    """Write `rows` training pairs and the other splits as `rmkit read` does."""
    if (folder / "train.parquet").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    for name, split, count in (("validation", "validation", OTHER_ROWS), ("test", "in_distribution", OTHER_ROWS),
                               ("train", "train", rows)):
        columns = ("id", "prompt", "chosen", "rejected", "source", "gold_gap")
        with PairWriter(folder / f"{name}.parquet", columns) as writer:
            for row in draw_pairs(split, count, seed=seed):
                messages = {side: [{"role": role, "content": row[side]}] for side, role in (
                    ("prompt", "user"), ("chosen", "assistant"), ("rejected", "assistant"))}
                writer.write({**row, **messages})


def run_and_sample(command: list[str], environment: dict[str, str], log: Path) -> dict[str, float]:
    """Run a command; its peak memory in MiB and its seconds."""
    started = time.monotonic()
    anonymous = resident = 0
    with log.open("wb") as file:
        process = psutil.Popen(command, env=environment, stdout=file, stderr=file)
        while process.poll() is None:
            memory = process.memory_info()
            anonymous, resident = max(anonymous, memory.rss - memory.shared), max(resident, memory.rss)
            time.sleep(INTERVAL)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: exit code {process.returncode}, see {log}")
    return {"anonymous": round(anonymous / MIB, 1), "resident": round(resident / MIB, 1),
            "seconds": round(time.monotonic() - started, 1)}


def measure(job: str, rows: int, work: Path, seed: int) -> dict[str, float]:
    """Run one job on so many rows."""
    pairs, output, cache = work / f"pairs-{rows}-{seed}", work / "out", work / "cache"
    write_pairs(pairs, rows, seed)
    command, settings = COMMANDS[job]
    settings = {"data": pairs, "model_name_or_path": work / "gold" / BASE_MODEL, "output_dir": output, "seed": seed,
                "max_length": 128, **settings}
    arguments = [str(word) for key, value in settings.items() for word in (f"--{key}", value)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_DATASETS_CACHE": str(cache)}
    shutil.rmtree(output, ignore_errors=True)
    peak = run_and_sample([sys.executable, "-m", "rmkit", command, *arguments], environment, work / f"{job}-{rows}.log")
    for folder in (output, cache):
        shutil.rmtree(folder, ignore_errors=True)
    return peak


def main() -> None:
    """Measure what is missing and write benchmarks/results/memory.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--of", nargs="+", choices=list(COMMANDS), default=list(COMMANDS))
    parser.add_argument("--work", type=Path, default=Path("runs/memory"))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    work = options.work.resolve()
    synthetic(SyntheticConfig(output_dir=str(work / "gold"), **WORLD, seed=options.seed))
    figures: dict[str, Any] = {}
    for job in options.of:
        peaks = {}
        for rows in sorted(options.rows):
            peaks[str(rows)] = keep(work / f"{job}-{rows}-{options.seed}.json",
                                    lambda job=job, rows=rows: measure(job, rows, work, options.seed))
            print(f"{job}, {rows:,} rows: {peaks[str(rows)]}", flush=True)
        anonymous = [peak["anonymous"] for peak in peaks.values()]
        figures[job] = {**peaks, "growth": anonymous[-1] / anonymous[0] - 1}
        print(f"{job}: anonymous memory grows by {100 * figures[job]['growth']:.1f} %", flush=True)
    print(write_results("memory", figures, seeds=[options.seed]))


if __name__ == "__main__":
    main()
