"""Kill -9 at random moments: does every resumed run end with the weights of the one that was left alone?

    python -m benchmarks.systems.kills [--kills 20] [--of train train_2_processes run meta_reward] [--work runs/kills]

A job runs once undisturbed, on one CPU in fp32. In each trial it then runs anew and its whole process group is killed,
one to three times in a row, each time resumed by the same command, until the trial's last start is let alone; the
loop of `rmkit meta-reward`, recipes/meta_rewarding_synthetic.yaml as it stands, takes all its kills in one trial. Every
third kill waits for the first checkpoint that is being written after a random moment, and strikes within 0.01 s;
the others come at a random moment, early enough for all of them to strike. What the trial leaves must be, byte for
byte, what the first run left: the weights of `rmkit train`; of `rmkit run` those of its base model and of both reward
models, with the tables of votes and repaired pairs; of `rmkit meta-reward` those of each iteration's policy, with its
pairs, and what the last one says. That job has a results file of its own. A trial that is finished is kept; a
benchmark that was stopped goes on.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.shared.results import write_results
from rmkit.commands.read import ReadConfig, read
from rmkit.commands.synthetic import BASE_MODEL, SyntheticConfig, synthetic
from rmkit.core.processes import kill_child_on_parent_exit
from rmkit.core.seeds import derive_seed
from rmkit.core.stage import UNFINISHED_FILE, write_json
from rmkit.training.checkpoint import COMPLETE_FILE

WORLD = {"train": 160, "validation": 40, "test": 10, "demonstrations": 64, "hidden": 32, "layers": 2}
TRAINING = {
    "max_length": 256, "per_device_train_batch_size": 8, "learning_rate": 1e-3, "save_steps": 20, "logging_steps": 10,
    "num_train_epochs": 12, "contrastive": "simcse", "report_to": "none", "disable_tqdm": True, "use_cpu": True,
}
RUN = {
    "max_length": 256, **{f"synthetic.{key}": value for key, value in WORLD.items()},
    "read.label_noise": "{kind: uniform, rate: 0.3}", "vote.members": 3, "vote.folds": 2, "vote.heads.epochs": 2,
    "repair.recipes": "[flip, drop+margin, soft]", "evaluate.n_bootstrap": 50, "train.num_train_epochs": 4,
    **{f"train.{key}": TRAINING[key] for key in ("per_device_train_batch_size", "learning_rate", "save_steps",
                                                 "logging_steps", "report_to", "disable_tqdm", "use_cpu")},
}
WEIGHTS = "model.safetensors"
LEFT = {
    "train": [WEIGHTS],
    "train_2_processes": [WEIGHTS],
    "run": [f"synthetic/{BASE_MODEL}/{WEIGHTS}", f"plain/{WEIGHTS}", f"robust/{WEIGHTS}",
            *(f"votes/{split}.parquet" for split in ("train", "validation", "test")), "repaired/train.parquet"],
    "meta_reward": [f"synthetic/{BASE_MODEL}/{WEIGHTS}", "evaluation/policy-4/responses/samples.jsonl",
                    *(f"iteration-{number}/{name}" for number in (1, 2, 3, 4)
                      for name in ("pairs/train.parquet", f"model/{WEIGHTS}"))],
}
MOST_KILLS = 3  # of one trial
LONG = ("meta_reward",)  # jobs of which one trial takes all kills
POLL = 0.005  # seconds
PATIENCE = 3600  # seconds that a start may take
Command = Sequence[str]


def spell(settings: dict[str, Any]) -> list[str]:
    """Settings as command-line words."""
    return [str(word) for key, value in settings.items() for word in (f"--{key}", value)]


def make_command(job: str, world: Path) -> list[str]:
    """The command line of a job, but for its --output_dir."""
    rmkit = [sys.executable, "-m", "rmkit"]
    if job == "run":
        return [*rmkit, "run", *spell(RUN)]
    if job == "meta_reward":
        recipe = Path(__file__).resolve().parents[2] / "recipes" / "meta_rewarding_synthetic.yaml"
        return [*rmkit, "meta-reward", str(recipe)]
    source = {"data": world / "pairs", "model_name_or_path": world / "gold" / BASE_MODEL}
    processes = {"processes": 2, "per_device_train_batch_size": 4} if job == "train_2_processes" else {}
    return [*rmkit, "train", *spell({**source, **TRAINING, **processes})]


def start(command: Command, folder: Path) -> subprocess.Popen[bytes]:
    """The command at work on `folder`, in a process group of its own, what it says in a file beside the folder."""
    with folder.with_suffix(".log").open("ab") as log:
        return subprocess.Popen([*command, "--output_dir", str(folder)], stdout=log, stderr=log, start_new_session=True,
                                preexec_fn=kill_child_on_parent_exit)


def finish(command: Command, folder: Path) -> tuple[bool, float]:
    """Whether the command, left alone, ended well, and its seconds."""
    started = time.monotonic()
    process = start(command, folder)
    try:
        return process.wait(PATIENCE) == 0, time.monotonic() - started
    except subprocess.TimeoutExpired:
        kill(process)
        return False, time.monotonic() - started


def kill(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL for the whole process group; returns when all of it is gone."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    while any(is_alive_in(process.pid, entry) for entry in Path("/proc").glob("[0-9]*")):
        time.sleep(POLL)


def is_alive_in(group: int, entry: Path) -> bool:
    """Whether the process at /proc/N is one of the group and still runs."""
    try:
        state, _, of_group = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
    except OSError:
        return False
    return int(of_group) == group and state not in "ZX"


def is_saving(folder: Path, since: float) -> bool:
    """Whether a run that began at `since` is writing a checkpoint, or deleting an older one, or was when it ended."""
    with contextlib.suppress(FileNotFoundError):  # a folder that goes while it is looked at
        for checkpoint in folder.rglob("checkpoint-*"):
            if checkpoint.stat().st_mtime > since and not (checkpoint / COMPLETE_FILE).exists():
                return True
    return False


def strike(command: Command, folder: Path, *, after: float, at_save: bool, delay: float) -> str:
    """Start the command and kill it `after` seconds, or at the next save and `delay`; what it was doing then.

    "at start-up": nothing had been written since the start; "while saving": a checkpoint was not whole; else "in" the
    stage that was not finished. "finished" and "failed": it ended by itself, before its moment.
    """
    started, started_at = time.monotonic(), time.time()
    process = start(command, folder)
    while process.poll() is None:
        passed = time.monotonic() - started
        if passed > PATIENCE or passed > after and not at_save:
            break
        if passed > after and is_saving(folder, started_at):
            time.sleep(delay)
            break
        time.sleep(POLL)
    if process.poll() is not None:
        return "finished" if process.returncode == 0 else "failed"
    kill(process)
    written = [
        path for path in folder.rglob("*") if path.name != UNFINISHED_FILE and path.lstat().st_mtime > started_at
    ]
    if not written:
        return "at start-up"
    if is_saving(folder, started_at):
        return "while saving"
    unfinished = [path.parent for path in folder.rglob(UNFINISHED_FILE)]
    return f"in {unfinished[0].name if folder not in unfinished else 'training'}" if unfinished else "between stages"


def run_trial(command: Command, reference: Path, folder: Path, left: Sequence[str], **plan: Any) -> dict[str, Any]:
    """One run, killed up to `kills` times and resumed to its end: what each kill hit, and what differs at the end."""
    rng = random.Random(plan["seed"])
    shutil.rmtree(folder, ignore_errors=True)
    folder.with_suffix(".log").unlink(missing_ok=True)
    hits = []
    for number in range(plan["kills"]):
        at_save = (plan["first"] + number) % 3 == 2
        moment = rng.uniform(0, plan["seconds"] * min(1, 2 / plan["kills"]))
        hit = strike(command, folder, after=moment, at_save=at_save, delay=rng.uniform(0, 0.01))
        hits.append(hit)
        if hit in ("finished", "failed"):
            break
    well, _ = finish(command, folder)
    different = [name for name in left if not is_same(reference / name, folder / name)] if well else None
    return {"hits": hits, "end": "failed" if different is None else "unequal" if different else "equal",
            "different": different}


def is_same(first: Path, second: Path) -> bool:
    """Whether two files hold the same bytes."""
    return second.exists() and first.read_bytes() == second.read_bytes()


def measure(job: str, kills: int, world: Path, work: Path, seed: int) -> dict[str, Any]:
    """Trials of one job until `kills` kills have struck, added up."""
    command, reference, left = make_command(job, world), work / "undisturbed", LEFT[job]
    record = work / "undisturbed.json"
    if not record.exists():
        shutil.rmtree(reference, ignore_errors=True)
        well, seconds = finish(command, reference)
        if not well:
            raise SystemExit(f"{job}: the undisturbed run failed, see {reference.with_suffix('.log')}")
        write_json(record, {"seconds": seconds})
    seconds = json.loads(record.read_text())["seconds"]
    hits: Counter[str] = Counter()
    ends: Counter[str] = Counter()
    number = struck = 0
    while struck < kills:
        place = work / f"trial-{number}"
        file = place.with_suffix(".json")
        if not file.exists():
            trial_seed = derive_seed(seed, job, number)
            most = kills if job in LONG else random.Random(trial_seed).randint(1, MOST_KILLS)
            wanted = min(most, kills - struck)
            trial = run_trial(command, reference, place, left, kills=wanted, first=struck, seconds=seconds,
                              seed=trial_seed)
            write_json(file, trial)
            if trial["end"] == "equal":
                shutil.rmtree(place)  # others are kept to be looked at
        trial = json.loads(file.read_text())
        hits.update(trial["hits"])
        if trial["hits"][0] != "finished":  # or nothing was resumed
            ends[trial["end"]] += 1
        number, struck = number + 1, hits.total() - hits["finished"] - hits["failed"]
        print(f"{job}: {struck} kills, {show(hits)}; resumed runs: {show(ends)}", flush=True)
    return {
        "kills": struck,
        "hits": dict(sorted(hits.items())),
        "ends": {end: ends[end] for end in ("equal", "unequal", "failed")},
        "seconds": round(seconds, 1),
    }


def show(counts: Counter[str]) -> str:
    """Counts in a line."""
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))


def main() -> None:
    """Kill, resume, compare; print the tally and write it to benchmarks/results/kills.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="of each job")
    parser.add_argument("--of", nargs="+", choices=list(LEFT), default=list(LEFT))
    parser.add_argument("--work", type=Path, default=Path("runs/kills"))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    world = options.work.resolve() / "world"
    read(
        ReadConfig(
            data=str(synthetic(SyntheticConfig(output_dir=str(world / "gold"), **WORLD)) / "train.jsonl"),
            output_dir=str(world / "pairs"),
            validation=str(world / "gold" / "validation.jsonl"),
            test=str(world / "gold" / "test.jsonl"),
        )
    )
    figures = {}
    for job in options.of:
        work = options.work.resolve() / f"{job}-{options.seed}"
        work.mkdir(exist_ok=True)
        figures[job] = measure(job, options.kills, world, work, options.seed)
    for name, jobs in (("kills", set(LEFT) - {"meta_reward"}), ("kills_loop", {"meta_reward"})):
        own = {job: found for job, found in figures.items() if job in jobs}
        if own:
            print(write_results(name, own, seeds=[options.seed]))


if __name__ == "__main__":
    main()
