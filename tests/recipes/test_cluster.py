"""The recipes for clusters, run with two nodes on this machine; Slurm, ssh and pdsh are stubs."""

import importlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from rmkit.core.stage import read_record
from rmkit.training.zero import default_config, free_port

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "recipes" / "cluster"
SCRIPTS = sorted([*CLUSTER.glob("*.sh"), *CLUSTER.glob("*.slurm")])
WEIGHTS = "model.safetensors"
TIMEOUT = 600  # seconds for a script
STUBS = {
    # Runs a step on all nodes at once, and writes their process ids for scontrol.
    "srun": """
        while [[ $1 == --* ]]; do shift; done
        for ((node = 0; node < SLURM_NNODES; node++)); do SLURM_NODEID=$node "$@" & done
        jobs -p > "$STATE/step"
        for process in $(jobs -p); do wait "$process" || exit; done
    """,
    "scontrol": """
        case "$1 $2" in
            "show hostnames") printf 'localhost\\nsecond-node\\n' ;;
            "requeue $SLURM_JOB_ID") touch "$STATE/requeued"; kill -TERM $(cat "$STATE/step") ;;
            *) exit 1 ;;
        esac
    """,
    # Runs a job, or all jobs of an array, and prints a job id; so a dependency is fulfilled at once.
    "sbatch": """
        unset SLURM_ARRAY_TASK_ID
        export SLURM_JOB_ID=7
        while [[ $1 == --* ]]; do
            case $1 in
                --parsable) shift ;;
                --array) array=$2; shift 2 ;;
                --dependency) [[ $2 == afterany:7 ]]; shift 2 ;;
                --gpus-per-node) shift 2 ;;
                *) exit 1 ;;
            esac
        done
        if [[ -z ${array:-} ]]; then exec bash "$@"; fi
        for task in $(seq ${array/-/ }); do SLURM_ARRAY_TASK_ID=$task bash "$@" > "$STATE/member-$task" 2>&1 & done
        wait
        echo 7
    """,
    "ssh": "exit 0",
    # As DeepSpeed calls it: pdsh -S -f FANOUT -w HOSTS COMMAND...; %n is a host's index.
    "pdsh": """
        IFS=, read -ra hosts <<< "$5"
        for index in "${!hosts[@]}"; do (IFS=' '; command="${*:6}"; bash -c "${command//%n/$index}") & done
        for process in $(jobs -p); do wait "$process" || exit; done
    """,
}


@pytest.fixture
def environment(tmp_path):
    """Environment variables on a cluster of two nodes with one process each."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, script in STUBS.items():
        (tools / name).write_text(f"#!/usr/bin/env bash\nset -euo pipefail\n{script}")
        (tools / name).chmod(0o755)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "MASTER_"))}
    return inherited | {
        "PATH": f"{tools}:{Path(sys.executable).parent}:{os.environ['PATH']}", "STATE": str(tmp_path),
        "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", "MASTER_PORT": str(20000 + int(free_port()) % 10000),
        "SLURM_JOB_ID": free_port(), "SLURM_NNODES": "2", "SLURM_GPUS_ON_NODE": "1",
        "SLURM_JOB_NODELIST": "node[1-2]",
    }


@pytest.fixture
def hostfile(tmp_path):
    path = tmp_path / "hostfile"
    path.write_text("# two names of this machine\nlocalhost slots=1\n127.0.0.1 slots=1\n")
    return path


@pytest.fixture
def settings(tiny_pairs, tiny_base, tmp_path):
    """The keys of a short training."""
    (tmp_path / "pairs").mkdir()
    tiny_pairs.to_parquet(tmp_path / "pairs/train.parquet")
    return {
        "data": str(tmp_path / "pairs"), "model_name_or_path": str(tiny_base), "max_length": 128,
        "per_device_train_batch_size": 4, "learning_rate": 1e-3, "max_steps": 30, "save_steps": 5, "disable_tqdm": True,
    }


def start(environment, folder, *words, **variables):
    return subprocess.Popen([*map(str, words)], env=environment | variables, cwd=folder, start_new_session=True,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(*processes):
    """The outputs of processes, which must all succeed."""
    try:
        outputs = [process.communicate(timeout=TIMEOUT)[0] for process in processes]
    finally:
        for process in processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    assert not any(process.returncode for process in processes), outputs
    return outputs


def cli_args(settings, **more):
    return [word for key, value in (settings | more).items() for word in (f"--{key}", str(value))]


def test_two_machines_train_and_a_preempted_slurm_job_ends_with_the_same_weights(
    environment, hostfile, settings, tmp_path
):
    words = cli_args(settings, output_dir=tmp_path / "two shells")
    finish(*(start(environment, tmp_path, CLUSTER / "hostfile.sh", hostfile, *words, NODE_RANK=str(rank))
             for rank in (0, 1)))
    assert read_record(tmp_path / "two shells")["world_size"] == 2

    folder = tmp_path / "by slurm"
    words = cli_args(settings, output_dir=folder)
    job = start(environment, tmp_path, "bash", CLUSTER / "train.slurm", *words)
    until = time.time() + TIMEOUT
    while not list(folder.glob("checkpoint-*/complete.json")) and job.poll() is None and time.time() < until:
        time.sleep(0.02)
    job.send_signal(signal.SIGUSR1)
    output = job.communicate(timeout=TIMEOUT)[0]
    assert job.returncode and (tmp_path / "requeued").exists() and read_record(folder) is None, output
    finish(start(environment, tmp_path, "bash", CLUSTER / "train.slurm", *words))
    assert read_record(folder)["world_size"] == 2
    assert (folder / WEIGHTS).read_bytes() == (tmp_path / "two shells" / WEIGHTS).read_bytes()


@pytest.fixture
def fake_rmkit(tmp_path):
    """A package rmkit in the working folder that prints how it was started; with --fail, its second rank fails."""
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR")
    (tmp_path / "rmkit").mkdir()
    (tmp_path / "rmkit/__init__.py").touch()  # without it the installed package would take precedence
    (tmp_path / "rmkit/__main__.py").write_text(
        "import os, sys\n"
        f"sys.stdout.write(' '.join(['started', *(os.environ[name] for name in {names}), *sys.argv[1:]]) + '\\n')\n"
        "sys.exit(2 * ('--fail' in sys.argv and os.environ['RANK'] == '1'))\n")


def test_hostfile_over_ssh_starts_every_process_of_every_machine(environment, hostfile, fake_rmkit, tmp_path):
    hostfile.write_text(hostfile.read_text().replace("slots=1", "slots=2"))
    [output] = finish(start(environment, tmp_path, CLUSTER / "hostfile.sh", hostfile, "--data", "PAIRS"))
    assert sorted(line for line in output.splitlines() if line.startswith("started")) == [
        f"started {rank} {rank % 2} 4 localhost train --data PAIRS" for rank in range(4)
    ]


@pytest.mark.parametrize("words", [["--data", "PAIRS"], ["--fail"]])
def test_slurm_job_ends_as_its_processes_do(environment, fake_rmkit, tmp_path, words):
    job = start(environment, tmp_path, "bash", CLUSTER / "train.slurm", *words, SLURM_GPUS_ON_NODE="2")
    output = job.communicate(timeout=TIMEOUT)[0]
    assert sorted(line for line in output.splitlines() if line.startswith("started")) == [
        f"started {rank} {rank % 2} 4 localhost train {' '.join(words)}" for rank in range(4)
    ]
    assert bool(job.returncode) == ("--fail" in words) and not (tmp_path / "requeued").exists()


def test_ensemble_of_jobs_is_voted_on_by_the_commands_in_the_header(environment, settings, tmp_path):
    data, base = settings.pop("data"), settings.pop("model_name_or_path")
    settings.pop("max_length")
    vote = {
        "data": data, "model_name_or_path": base, "output_dir": str(tmp_path / "votes"), "voters": "full", "members": 2,
        "folds": 0, "max_length": 128, "train": settings | {"max_steps": 1},
    }
    (tmp_path / "vote.yaml").write_text(yaml.safe_dump(vote))
    commands = re.findall("^#   (.*)$", (CLUSTER / "vote.slurm").read_text(), re.MULTILINE)
    script = "\n".join(commands).replace("0-9", "0-1").replace("recipes/cluster", str(CLUSTER))
    [output] = finish(start(environment, tmp_path, "bash", "-euc", script))
    record = read_record(tmp_path / "votes")
    assert record["members"] == 2 and "vote of 2" in output
    for member in (0, 1):
        assert f"member {member}" in (tmp_path / f"member-{member}").read_text()


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_script_syntax(path):
    subprocess.run(["bash", "-n", path], check=True)
    lines = path.read_text().splitlines()
    assert os.access(path, os.X_OK) and max(map(len, lines)) <= 120
    first = next(number for number, line in enumerate(lines) if not line.startswith("#"))
    assert not any(line.startswith("#SBATCH") for line in lines[first:])  # which Slurm would not read


def test_hostfile_is_read_by_deepspeed():
    runner = importlib.import_module("deepspeed.launcher.runner")
    assert runner.fetch_hostfile(CLUSTER / "hostfile") == {"node-1": 8, "node-2": 8}


@pytest.mark.parametrize("stage", [2, 3])
def test_offload_recipes_are_the_defaults_with_the_optimizer_in_host_memory(stage):
    recipe = json.loads((ROOT / f"recipes/deepspeed/zero{stage}_offload.json").read_text(encoding="utf-8"))
    assert recipe["zero_optimization"].pop("offload_optimizer") == {"device": "cpu", "pin_memory": True}
    assert recipe == default_config(stage)
