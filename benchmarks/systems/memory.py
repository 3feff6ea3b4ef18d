"""Peak memory of training and voting against the number of rows: gold world, tiny model, a bounded number of steps.

    python -m benchmarks.systems.memory [--rows 10000 100000 1000000] [--of train heads full] [--work runs/memory] [--seed 0]

Every cell is a process of its own, looked at 10 times a second: "resident" is the kernel's own high-water mark (VmHWM),
in which the touched pages of mapped files count; "anonymous" is the largest RssAnon seen, without them. `train` takes
20 steps; `heads` votes by 10 heads in 5 folds, trained for one epoch in batches of 256; `full` votes by 2 models that
are fine-tuned for 20 steps each. All rows are tokenised, all are scored, and all are written. Rows come from the gold
world's own generator. A cell that is finished is kept.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.shared.results import write_results
from rmkit.commands.synthetic import BASE_MODEL, SyntheticConfig, synthetic
from rmkit.core.stage import UNFINISHED_FILE, read_json, write_json
from rmkit.data.reading import PairWriter
from rmkit.data.synthetic import draw_pairs

WORLD = {"train": 1, "validation": 1, "test": 1, "demonstrations": 200, "hidden": 32, "layers": 1}
OTHERS = {"validation": 500, "in_distribution": 500}  # split of the gold world -> pairs, whatever the rows to train on
TRAINING = {"max_steps": 20, "per_device_train_batch_size": 16, "learning_rate": "1e-3", "save_steps": 10,
            "report_to": "none", "disable_tqdm": True, "use_cpu": True}
LENGTH = {"max_length": 128}
HEADS = {"voters": "heads", "members": 10, "folds": 5, "heads.epochs": 1, "heads.batch_size": 256, "heads.hidden": 16}
FULL = {"voters": "full", "members": 2, "folds": 0, **{f"train.{key}": value for key, value in TRAINING.items()}}
COMMANDS: dict[str, list[Any]] = {
    "train": ["train", TRAINING],
    "heads": ["vote", HEADS],
    "full": ["vote", FULL],
}
INTERVAL = 0.1  # seconds between two looks
MIB = 1024  # KiB


def write_pairs(folder: Path, rows: int, seed: int) -> None:
    """`rows` pairs to train on, with the other splits, as `rmkit read` writes them."""
    if (folder / "train.parquet").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    for split, count in {**OTHERS, "train": rows}.items():
        path = folder / f"{'test' if split == 'in_distribution' else split}.parquet"
        with PairWriter(path, ("id", "prompt", "chosen", "rejected", "source", "gold_gap")) as writer:
            for row in draw_pairs(split, count, seed=seed):
                sides = {side: [{"role": role, "content": row[side]}] for side, role in (
                    ("prompt", "user"), ("chosen", "assistant"), ("rejected", "assistant"))}
                writer.write({**row, **sides})


def watch(command: list[str], environment: dict[str, str], log: Path) -> dict[str, float]:
    """Run a command; its peak memory in MiB and its seconds."""
    started = time.monotonic()
    peak = {"VmHWM": 0, "RssAnon": 0, "RssFile": 0}
    with log.open("wb") as file:
        process = subprocess.Popen(command, env=environment, stdout=file, stderr=file)
        while process.poll() is None:
            status = Path(f"/proc/{process.pid}/status").read_text()
            for line in status.splitlines():
                name, _, value = line.partition(":")
                if name in peak:
                    peak[name] = max(peak[name], int(value.split()[0]))
            time.sleep(INTERVAL)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: exit code {process.returncode}, see {log}")
    return {"resident": peak["VmHWM"] / MIB, "anonymous": peak["RssAnon"] / MIB, "mapped": peak["RssFile"] / MIB,
            "seconds": time.monotonic() - started}


def measure(job: str, rows: int, work: Path, seed: int) -> dict[str, float]:
    """One cell."""
    file = work / f"{job}-{rows}-{seed}.json"
    if not file.exists():
        pairs = work / f"pairs-{rows}-{seed}"
        write_pairs(pairs, rows, seed)
        name, settings = COMMANDS[job]
        folder, cache = work / "out", work / "cache"
        source = {"data": pairs, "model_name_or_path": work / "gold" / BASE_MODEL, "output_dir": folder, "seed": seed}
        words = [str(word) for key, value in {**source, **LENGTH, **settings}.items() for word in (f"--{key}", value)]
        for place in (folder, cache):
            shutil.rmtree(place, ignore_errors=True)
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_DATASETS_CACHE": str(cache)}
        cell = watch([sys.executable, "-m", "rmkit", name, *words], environment, file.with_suffix(".log"))
        assert read_json(folder / UNFINISHED_FILE) is None
        for place in (folder, cache):
            shutil.rmtree(place)
        write_json(file, {"key": file.stem, **cell})
    content = read_json(file) or {}
    cell = {name: round(content[name], 1) for name in ("resident", "anonymous", "mapped", "seconds")}
    print(f"{job}, {rows:,} rows: {cell}", flush=True)
    return cell


def main() -> None:
    """Measure every cell and write the table to benchmarks/results/memory.json."""
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
        figures[job] = {str(rows): measure(job, rows, work, options.seed) for rows in sorted(options.rows)}
        least, most = (figures[job][str(pick(options.rows))]["resident"] for pick in (min, max))
        figures[job]["growth"] = most / least - 1
    print(write_results("memory", figures, seeds=[options.seed]))


if __name__ == "__main__":
    main()
