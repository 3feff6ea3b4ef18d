"""Kill -9 at random moments: does every resumed run end with the weights of an undisturbed run?

    python -m benchmarks.systems.kills [--kills 20] [--of train run meta_reward] [--work runs/kills]

Each job first runs undisturbed, on one CPU in fp32. In a trial it runs again, its process group is killed one to three
times (`meta_reward`: all kills in one trial), and the same command resumes it each time and finally completes it. Every
third kill waits for the first checkpoint that is being written after a random moment and follows within 0.01 s. The
others come at a random moment in the undisturbed run's time, or in the first part of it if there are several. The files
of OUTPUTS must be equal byte for byte. Finished trials are kept in --work. `meta_reward` runs
recipes/meta_rewarding_synthetic.yaml and has a results file of its own.
"""

import argparse
import contextlib
import filecmp
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from benchmarks.shared.pairs import read_synthetic
from benchmarks.shared.results import keep, write_results
from rmkit.commands.synthetic import BASE_MODEL, SyntheticConfig, synthetic
from rmkit.core.processes import kill_child_on_parent_exit
from rmkit.core.seeds import derive_seed
from rmkit.core.stage import UNFINISHED_FILE
from rmkit.training.checkpoint import COMPLETE_FILE

WORLD = {"train": 160, "validation": 40, "test": 10, "demonstrations": 64, "hidden": 32, "layers": 2}
TRAINING = {"per_device_train_batch_size": 8, "learning_rate": 1e-3, "save_steps": 20, "logging_steps": 10,
            "report_to": "none", "disable_tqdm": True, "use_cpu": True}
RUN = {
    "max_length": 256, **{f"synthetic.{key}": value for key, value in WORLD.items()},
    "read.label_noise": "{kind: uniform, rate: 0.3}", "vote.members": 3, "vote.folds": 2, "vote.heads.epochs": 2,
    "repair.recipes": "[flip, drop+margin, soft]", "evaluate.n_bootstrap": 50, "train.num_train_epochs": 4,
    **{f"train.{key}": value for key, value in TRAINING.items()},
}
RECIPE = Path(__file__).parents[2] / "recipes" / "meta_rewarding_synthetic.yaml"
WEIGHTS = "model.safetensors"
OUTPUTS = {  # of each job, the files that are compared
    "train": [WEIGHTS],
    "run": [f"synthetic/{BASE_MODEL}/{WEIGHTS}", f"plain/{WEIGHTS}", f"robust/{WEIGHTS}",
            *(f"votes/{split}.parquet" for split in ("train", "validation", "test")), "repaired/train.parquet"],
    "meta_reward": [f"synthetic/{BASE_MODEL}/{WEIGHTS}", "evaluation/policy-4/responses/samples.jsonl",
                    *(f"iteration-{number}/{name}" for number in (1, 2, 3, 4)
                      for name in ("pairs/train.parquet", f"model/{WEIGHTS}"))],
}
KILLS_PER_TRIAL = 3  # at most
POLL = 0.005  # seconds
SEED = 0
Command = Sequence[str]


def make_command(job: str, world: Path) -> list[str]:
    """The command line of a job without --output_dir."""
    if job == "meta_reward":
        return [sys.executable, "-m", "rmkit", "meta-reward", str(RECIPE)]
    settings: dict[str, Any] = RUN
    if job == "train":
        settings = {"data": world / "pairs", "model_name_or_path": world / "gold" / BASE_MODEL, "max_length": 256,
                    "num_train_epochs": 12, "contrastive": "simcse", **TRAINING}
    arguments = [str(word) for key, value in settings.items() for word in (f"--{key}", value)]
    return [sys.executable, "-m", "rmkit", job, *arguments]


def start(command: Command, folder: Path) -> psutil.Popen:
    """Start the command in a process group of its own; its output goes to a log beside `folder`."""
    with folder.with_suffix(".log").open("ab") as log:
        return psutil.Popen([*command, "--output_dir", str(folder)], stdout=log, stderr=log, start_new_session=True,
                            preexec_fn=kill_child_on_parent_exit)


def kill(process: psutil.Popen) -> None:
    """Kill the whole process group, and wait until all of it is gone."""
    others = process.children(recursive=True)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for other in others:
        with contextlib.suppress(psutil.NoSuchProcess):
            while other.status() != psutil.STATUS_ZOMBIE:
                time.sleep(POLL)


def is_saving(folder: Path, since: float) -> bool:
    """Whether a checkpoint that was touched after `since` is incomplete: it is being written or deleted."""
    with contextlib.suppress(FileNotFoundError):  # a folder that is deleted meanwhile
        return any(checkpoint.stat().st_mtime > since and not (checkpoint / COMPLETE_FILE).exists()
                   for checkpoint in folder.rglob("checkpoint-*"))
    return False


def start_and_kill(command: Command, folder: Path, *, after: float, at_save: bool, delay: float) -> str:
    """Start the command and kill it after so many seconds, or `delay` after the beginning of the next save.

    Returns what was killed: "at start-up", before anything was written; "while saving", with an incomplete checkpoint;
    otherwise "elsewhere". "finished" or "failed": the command ended before it was killed.
    """
    started, started_at = time.monotonic(), time.time()
    process = start(command, folder)

    def is_due() -> bool:
        return time.monotonic() - started > after and (not at_save or is_saving(folder, started_at))

    while process.poll() is None and not is_due():
        time.sleep(POLL)
    if at_save:
        time.sleep(delay)
    if process.poll() is not None:
        return "finished" if process.returncode == 0 else "failed"
    kill(process)
    if is_saving(folder, started_at):
        return "while saving"
    written = any(path.name != UNFINISHED_FILE and path.lstat().st_mtime > started_at for path in folder.rglob("*"))
    return "elsewhere" if written else "at start-up"


def run_trial(
    command: Command, reference: Path, folder: Path, outputs: Sequence[str],
    *, kills: int, first: int, seconds: float, seed: int,
) -> dict[str, Any]:
    """Kill a run up to `kills` times and complete it: what each kill hit, and which outputs differ.

    first: kills of earlier trials; seconds: time of the undisturbed run.
    """
    rng = random.Random(seed)
    shutil.rmtree(folder, ignore_errors=True)
    folder.with_suffix(".log").unlink(missing_ok=True)
    hits = []
    for number in range(kills):
        moment = rng.uniform(0, seconds * min(1, 2 / kills))
        hits.append(start_and_kill(command, folder, after=moment, at_save=(first + number) % 3 == 2,
                                   delay=rng.uniform(0, 0.01)))
        if hits[-1] in ("finished", "failed"):
            break
    if start(command, folder).wait() != 0:
        return {"hits": hits, "end": "failed", "different": None}
    _, different, missing = filecmp.cmpfiles(reference, folder, outputs, shallow=False)
    end = "unequal" if different + missing else "equal"
    if end == "equal":
        shutil.rmtree(folder)  # the others are kept for inspection
    return {"hits": hits, "end": end, "different": different + missing}


def measure(job: str, kills: int, world: Path, work: Path) -> dict[str, Any]:
    """Run trials of one job until there were `kills` kills, and count hits and ends."""
    work.mkdir(exist_ok=True)
    command, reference = make_command(job, world), work / "undisturbed"

    def run_undisturbed() -> float:
        shutil.rmtree(reference, ignore_errors=True)
        started = time.monotonic()
        if start(command, reference).wait() != 0:
            raise SystemExit(f"{job}: the undisturbed run failed, see {reference.with_suffix('.log')}")
        return time.monotonic() - started

    seconds = keep(work / "undisturbed.json", run_undisturbed)
    hits: Counter[str] = Counter()
    ends: Counter[str] = Counter()
    number = done = 0
    while done < kills:
        seed = derive_seed(SEED, job, number)
        most = kills if job == "meta_reward" else random.Random(seed).randint(1, KILLS_PER_TRIAL)
        folder = work / f"trial-{number}"
        trial = keep(folder.with_suffix(".json"), partial(
            run_trial, command, reference, folder, OUTPUTS[job],
            kills=min(most, kills - done), first=done, seconds=seconds, seed=seed))
        hits.update(trial["hits"])
        if trial["hits"][0] != "finished":  # otherwise nothing was resumed
            ends[trial["end"]] += 1
        number, done = number + 1, hits.total() - hits["finished"] - hits["failed"]
        print(f"{job}: {done} kills, {dict(hits)}; resumed runs: {dict(ends)}", flush=True)
    return {"kills": done, "hits": dict(sorted(hits.items())),
            "ends": {end: ends[end] for end in ("equal", "unequal", "failed")}}


def main() -> None:
    """Run the trials that are missing and write benchmarks/results/kills.json and kills_loop.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="of each job")
    parser.add_argument("--of", nargs="+", choices=list(OUTPUTS), default=list(OUTPUTS))
    parser.add_argument("--work", type=Path, default=Path("runs/kills"))
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    work = options.work.resolve()
    world = work / "world"
    synthetic(SyntheticConfig(output_dir=str(world / "gold"), **WORLD))
    read_synthetic(world / "gold", world / "pairs")
    figures = {job: measure(job, options.kills, world, work / job) for job in options.of}
    loop = {job: figures.pop(job) for job in ("meta_reward",) if job in figures}
    for name, selected in (("kills", figures), ("kills_loop", loop)):
        if selected:
            print(write_results(name, selected, seeds=[SEED]))


if __name__ == "__main__":
    main()
