"""Faults of a training run, by the command itself: its message, the checkpoints it keeps, and its continuation.

No compiler and no MPI is in reach of any of these runs.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import safetensors.torch
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from rmkit.core.stage import read_record
from rmkit.models.reward_model import load_tokenizer
from rmkit.training.checkpoint import list_complete

pytestmark = pytest.mark.slow
RMKIT = [sys.executable, "-m", "rmkit"]
MODULE = ["--module", "rmkit"]
DEEPSPEED = [sys.executable, "-m", "deepspeed.launcher.runner", "--num_accelerators", "2", *MODULE]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", *MODULE]
ACCELERATE = [
    sys.executable, "-m", "accelerate.commands.launch", "--use_deepspeed", "--num_processes", "2", *MODULE
]
TIMEOUT = 10  # seconds; steps and checkpoints of this size take a tenth of one
LIMIT = 300  # seconds in which any of these runs must have ended, on a busy machine


@pytest.fixture
def environment(tmp_path):
    """Ours, with no program to be found, and an empty place where torch would put what it compiles."""
    kept = {name: value for name, value in os.environ.items() if name not in ("CC", "CXX", "RMKIT_LAUNCHED")}
    folders = {name: tmp_path / name for name in ("PATH", "TORCH_EXTENSIONS_DIR")}
    for folder in folders.values():
        folder.mkdir()
    yield {**kept, **{name: str(folder) for name, folder in folders.items()}, "OMP_NUM_THREADS": "1"}
    assert not any(list(folder.iterdir()) for folder in folders.values())


@pytest.fixture
def words(tiny_base, pairs_file, tmp_path):
    settings = {
        "data": pairs_file, "model_name_or_path": tiny_base, "output_dir": tmp_path / "model", "max_length": 128,
        "disable_tqdm": True, "report_to": "none", "per_device_train_batch_size": 2, "learning_rate": 1e-3,
    }
    return ["train", *(word for key, value in settings.items() for word in (f"--{key}", str(value)))]


@pytest.fixture
def start(environment, words, tmp_path):
    """start(program, *more) -> the command at work, its output in a file; none of its processes is left behind."""
    started = []

    def begin(program, *more):
        with (tmp_path / "errors").open("w") as errors:
            process = subprocess.Popen(
                [*program, *words, *more], env=environment, stdout=subprocess.DEVNULL, stderr=errors
            )
        started.append(process)
        return process

    yield begin
    for found in find_processes(tmp_path):
        os.kill(found, signal.SIGKILL)
    for process in started:
        process.wait()


def wait_until(condition, process):
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)


def find_processes(folder, marker=b""):
    """Those with `folder` in their command line and `marker` in their environment."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended, or is not ours to see
            if bytes(folder) in (place / "cmdline").read_bytes() and marker in (place / "environ").read_bytes():
                found.append(int(place.name))
    return found


def find_rank(folder, rank):
    """The process that is this rank of what writes into `folder`."""
    (found,) = find_processes(folder, f"\0RANK={rank}\0".encode())
    return found


def assert_same_weights(*folders):
    weights = [safetensors.torch.load_file(folder / "model.safetensors") for folder in folders]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_dead_rank_and_hung_rank(start, tmp_path):
    """One killed, then one stopped, under each launcher in turn; each time the others end, and the next one goes on."""
    model, errors = tmp_path / "model", tmp_path / "errors"
    more = ["--num_processes", "2", "--max_steps", "60", "--save_steps", "15", "--logging_steps", "1000"]
    assert start(ACCELERATE, *more, "--output_dir", str(tmp_path / "whole")).wait(LIMIT) == 0
    assert read_record(tmp_path / "whole")["world_size"] == 2

    killed = start(RMKIT, *more)
    wait_until(lambda: list_complete(model), killed)
    os.kill(find_rank(model, 1), signal.SIGKILL)
    assert killed.wait(LIMIT) == 2
    last = errors.read_text().splitlines()[-1]
    assert last.startswith("rmkit: error: 2 processes: expected all to end well, got one ended by SIGKILL.") or (
        "processes: expected all to answer" in last
    )
    assert "last complete checkpoint" in last
    kept = list_complete(model)
    assert kept and read_record(model) is None

    hung = start(TORCHRUN, *more, "--ddp_timeout", str(TIMEOUT))
    wait_until(lambda: list_complete(model) not in (kept, []), hung)
    rank = find_rank(model, 1)
    os.kill(rank, signal.SIGSTOP)
    stopped = time.monotonic()
    wait_until(lambda: "rmkit: error: num_processes: expected all to answer" in errors.read_text(), hung)
    assert TIMEOUT - 1 < time.monotonic() - stopped < TIMEOUT + 60
    os.kill(rank, signal.SIGCONT)  # or its launcher would wait 30 seconds before it ends it
    assert hung.wait(LIMIT) != 0
    assert f"within ddp_timeout ({TIMEOUT} s), got Timed out waiting" in errors.read_text()
    assert list_complete(model) and read_record(model) is None

    assert start(DEEPSPEED, *more).wait(LIMIT) == 0
    assert_same_weights(tmp_path / "whole", model)


def test_not_a_number_on_one_rank(start, tiny_base, tiny_pairs, tmp_path):
    """A word whose embedding overflows in a LayerNorm comes to rank 1 alone, in step 4."""
    tokenizer = load_tokenizer(tiny_base)
    tokenizer.add_tokens(["overflow"])
    network = GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), n_positions=256, n_embd=32, n_layer=1, n_head=2))
    network.transformer.wte.weight.data[-1] = 3e38
    network.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    rows = tiny_pairs.to_list()
    rows[14]["rejected"][0]["content"] = "overflow"
    tiny_pairs.from_list(rows).to_parquet(tmp_path / "pairs.parquet")
    process = start(
        RMKIT, "--num_processes", "2", "--train_sampling_strategy", "sequential", "--save_steps", "1",
        "--model_name_or_path", str(tmp_path / "base"), "--data", str(tmp_path / "pairs.parquet"),
    )
    assert process.wait(LIMIT) == 2
    lines = [line for line in (tmp_path / "errors").read_text().splitlines() if line.startswith("rmkit: error")]
    assert "training stopped in step 4: rejected_rewards: expected finite numbers" in lines[-1]
    assert [folder.name for folder in list_complete(tmp_path / "model")] == ["checkpoint-3"]


DISK = """
hidden=$PATH PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t tmpfs -o size=1200k none "$0" && PATH=$hidden "$@"
echo code $? $(ls -d "$0"/model/checkpoint-*/complete.json)
mount -o remount,size=20m "$0" && PATH=$hidden "$@" && cp "$0/model/model.safetensors" "$0.files"
"""


def test_full_disk(environment, words, tmp_path):
    """A disk of its own, with room for one checkpoint and half of the next; then with room for all."""
    disk, copy = tmp_path / "disk", tmp_path / "disk.files"
    for folder in (disk, copy):
        folder.mkdir()
    unshare = [shutil.which("unshare") or "unshare", "--map-root-user", "--mount", shutil.which("sh")]
    try:
        subprocess.run([*unshare, "-c", 'mount -t tmpfs none "$0"', str(disk)], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no disk can be mounted here")
    more = ["--max_steps", "6", "--save_steps", "2", "--output_dir"]
    result = subprocess.run(
        [*unshare, "-c", DISK, str(disk), *RMKIT, *words, *more, str(disk / "model")],
        env=environment, capture_output=True, text=True, timeout=2 * LIMIT,
    )
    assert result.returncode == 0
    errors = [line for line in result.stderr.splitlines() if line.startswith("rmkit: error")]
    assert len(errors) == 1 and f"output_dir {disk / 'model'}: expected a disk that can be written" in errors[0]
    assert "Traceback" not in result.stderr
    assert f"code 2 {disk}/model/checkpoint-2/complete.json" in result.stdout
    subprocess.run([*RMKIT, *words, *more, str(tmp_path / "whole")], env=environment, check=True, capture_output=True)
    assert_same_weights(tmp_path / "whole", copy)


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/nothing/model"])
def test_unwritable_output(words, tmp_path, capsys, place):
    from rmkit.cli import main

    (tmp_path / "file").touch()
    assert main([*words, "--output_dir", str(tmp_path / place)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len([line for line in lines if "expected a writable folder" in line]) == 1
    assert (tmp_path / "file").read_bytes() == b""
