"""Several ranks: started, sharing one stage; if a rank dies or times out, the others exit with an error."""

import base64
import codecs
import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch.distributed as dist

from rmkit.core.checks import InputError, Verbatim, raise_input_error
from rmkit.core.processes import kill_child_on_parent_exit
from rmkit.core.stage import Stage, open_stage
from rmkit.training.zero import accelerator_environment, free_port

GLOO_NOISE = r"(?s)^\[\S+\] |\. .*"  # before and after the reason in gloo's messages


def is_first_rank() -> bool:
    """Whether this process is the only one, or rank 0, which writes files."""
    return not dist.is_initialized() or dist.get_rank() == 0


def wait_for_ranks() -> None:
    """Wait until all processes have reached this point."""
    if dist.is_initialized():
        dist.barrier()


@contextlib.contextmanager
def open_stage_on_ranks(
    directory: str | Path, name: str, config: Mapping[str, Any], inputs: Mapping[str, str | Path]
) -> Iterator[Stage]:
    """`rmkit.core.stage.open_stage` for every rank of a process group, or for a single process.

    All ranks see the same `done`; what others than the first put into `record` is lost. When the first rank refuses
    the folder, it raises; the others leave with exit code 2 and no message of their own.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        with open_stage(directory, name, config, inputs) as stage:
            yield stage
        return
    with contextlib.ExitStack() as stack:
        stage = Stage(Path(directory), "", False)
        refusal = None
        if is_first_rank():
            try:
                stage = stack.enter_context(open_stage(directory, name, config, inputs))
            except InputError as error:
                refusal = error
        message = [(stage.done, refusal is not None)]
        dist.broadcast_object_list(message)
        stage.done, refused = message[0]
        if refusal is not None:
            raise refusal
        if refused:
            raise SystemExit(2)
        yield stage
        dist.barrier()  # the record is written when all ranks are through


@contextlib.contextmanager
def report_lost_ranks(timeout: int) -> Iterator[None]:
    """Raise `InputError` when another rank died or did not answer within `timeout` seconds; gloo's error is vague."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and "gloo" not in str(error):
            raise
        raise_input_error(
            "num_processes",
            f"all to answer within ddp_timeout ({timeout} s)",
            Verbatim(re.sub(GLOO_NOISE, "", str(error))),
            "One died or hangs, see the output above; the same command goes on from the last complete checkpoint.",
        )


STDERR_TAIL = 64 * 1024  # characters of the processes' stderr that are searched for the reason of a failure
TERMINATE_TIMEOUT = 30  # seconds from SIGTERM to SIGKILL
LAUNCHED = "RMKIT_LAUNCHED"  # set in the processes that we start
KILLED = {256 - number: number.name for number in signal.Signals}  # exit codes of DeepSpeed's launcher


def launch(module_arguments: Sequence[str], *, num_processes: int, launcher: str | None = None) -> None:
    """Run `python -m MODULE ARGUMENTS...` as `num_processes` ranks, their output passed on; returns when all are done.

    `launcher` is the start of another command that takes `--module MODULE ARGUMENTS...`, such as
    "torchrun --nproc_per_node 2" or "deepspeed --hostfile hosts --no_local_rank". Raises `InputError` with the ranks'
    reason when one of them fails; the launcher then ends the others.
    """
    if LAUNCHED in os.environ:  # or each process would start the launcher again, without end
        raise_input_error(
            "launcher",
            "a command that starts ranks, with LOCAL_RANK and WORLD_SIZE set",
            Verbatim("neither is set"),
            "On a CPU, torchrun and deepspeed do so; accelerate launch does with --use_deepspeed.",
        )
    if launcher is None:
        world = base64.urlsafe_b64encode(json.dumps({"localhost": choose_devices(num_processes)}).encode()).decode()
        # Not by deepspeed.launcher.runner, which would die alone when this process does: the ranks would write on.
        command = [sys.executable, "-u", "-m", "deepspeed.launcher.launch", f"--world_info={world}",
                   "--master_port", free_port(), "--no_local_rank", "--log_level", "error"]
    else:
        command = shlex.split(launcher)
    command += ["--module", *module_arguments]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = {"OMP_NUM_THREADS": str(max(1, cores // num_processes))}
    environment = {**threads, **accelerator_environment(), **os.environ, LAUNCHED: "1"}
    try:
        process = subprocess.Popen(
            command, env=environment, stderr=subprocess.PIPE, preexec_fn=kill_child_on_parent_exit
        )
    except OSError as error:
        raise_input_error(
            f"launcher {command[0]}", "a command that can be run", Verbatim(error), "Install it or name another."
        )
    try:
        tail = stream_stderr(process)
        code = process.wait()
    finally:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.terminate()
            process.wait(TERMINATE_TIMEOUT)
        process.kill()
    if code:
        kept = "The output above says more. The last complete checkpoint is kept; the same command goes on from it."
        if code in KILLED:
            raise_input_error(
                f"{num_processes} processes", "all to end well", Verbatim(f"one ended by {KILLED[code]}"), kept
            )
        reason = re.findall(r"^rmkit: error: (.*)$", tail, re.MULTILINE)
        if reason:
            raise InputError(reason[0])
        errors = re.findall(r"^(?:\[rank\d+\]: )?([\w.]*(?:Error|Exception|Interrupt)\b.*)$", tail, re.MULTILINE)
        last = errors[-1].rstrip(".") if errors else "no reason given"
        raise_input_error(f"{num_processes} processes", "all to end well", Verbatim(f"exit code {code}: {last}"), kept)


def choose_devices(num_processes: int) -> list[str]:
    """A device for each process, of those in CUDA_VISIBLE_DEVICES, which DeepSpeed's launcher would overwrite."""
    visible = [device for device in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if device.strip()]
    devices = visible or [str(number) for number in range(num_processes)]
    if len(devices) < num_processes:
        raise_input_error(
            "num_processes",
            f"at most {len(devices)}, the devices in CUDA_VISIBLE_DEVICES",
            num_processes,
            "Start fewer, or allow more devices.",
        )
    return devices[:num_processes]


def stream_stderr(process: subprocess.Popen[bytes]) -> str:
    """Copy the process' stderr to ours as it comes, progress bars included; returns its end."""
    assert process.stderr is not None
    decode = codecs.getincrementaldecoder("utf-8")("replace").decode
    tail = ""
    with process.stderr as stream:
        while chunk := os.read(stream.fileno(), 4096):
            text = decode(chunk)
            sys.stderr.write(text)
            sys.stderr.flush()
            tail = (tail + text)[-STDERR_TAIL:]
    return tail
