"""DeepSpeed: its default configuration and environment, without a compiler and without MPI."""

import contextlib
import functools
import importlib
import itertools
import os
import socket
import warnings
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from rmkit.core.checks import Verbatim, raise_input_error

Stage = Literal[0, 1, 2, 3]


def default_config(stage: Stage = 2) -> dict[str, Any]:
    """DeepSpeed's configuration for one ZeRO stage; "auto" values are filled from the training arguments.

    Clipping is among them, since DeepSpeed's own default became 1.0 in June 2026. Any torch optimizer is allowed,
    so that DeepSpeed's compiled ones (and a compiler) are not needed.
    """
    zero: dict[str, Any] = {"stage": stage}
    if stage >= 1:
        zero |= {"contiguous_gradients": True, "reduce_bucket_size": "auto"}
    if stage == 3:
        zero |= {
            "stage3_prefetch_bucket_size": "auto",
            "stage3_param_persistence_threshold": "auto",
            "stage3_gather_16bit_weights_on_model_save": True,
        }
    return {
        "train_batch_size": "auto",
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
        "gradient_clipping": "auto",
        "bf16": {"enabled": "auto"},
        "fp16": {"enabled": "auto"},
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "zero_optimization": zero,
    }


def under_launcher() -> bool:
    """Whether a launcher (deepspeed, accelerate, torchrun, a Slurm script) started this process as one of its ranks."""
    return "LOCAL_RANK" in os.environ and "WORLD_SIZE" in os.environ


def check_single_process(command: str, sections: str) -> None:
    """Raise `InputError` under a launcher; a command of several steps starts the processes of each step itself."""
    if under_launcher():
        raise_input_error(
            command, "one process", Verbatim("a launcher's rank"), f"Set num_processes in {sections} instead."
        )


@contextlib.contextmanager
def deepspeed_environment() -> Iterator[None]:
    """For the block, the environment that DeepSpeed requires; the old one is restored afterwards.

    Without a launcher, the variables that one would set for one process, or DeepSpeed looks for MPI. On a CPU, no
    shared-memory kernels, which it would compile when several processes start.
    """
    before = dict(os.environ)
    alone = not under_launcher() and not dist.is_initialized()
    os.environ |= accelerator_environment()
    if alone:
        os.environ |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    # Imported by name and now: `deepspeed.comm.torch` as an attribute is torch itself, and it reads these variables.
    importlib.import_module("deepspeed.comm.torch").build_shm_op = lambda: None  # type: ignore[attr-defined]
    try:
        with warnings.catch_warnings():  # DeepSpeed calls what torch deprecates, at every step
            warnings.filterwarnings("ignore", r".*torch\.distributed\.", FutureWarning)
            yield
    finally:
        unset_hf_deepspeed_config()
        if alone:
            destroy_process_group()
        os.environ.clear()
        os.environ.update(before)


def init_process_group(timeout: timedelta, backend: str | None) -> None:
    """Join the process group before transformers does, which on a CPU ignores `timeout` and is too late for ZeRO-3.

    `timeout` bounds every wait for another process. `backend`: None for the accelerator's own.
    """
    comm: Any = importlib.import_module("deepspeed.comm.comm")
    comm.init_distributed(backend, verbose=False, timeout=timeout)
    # DeepSpeed works in a new group, which it makes without the timeout.
    comm.cdb.new_group = functools.partial(dist.new_group, timeout=timeout)


def destroy_engine(engine: Any) -> None:
    """Destroy an engine, whose hooks would keep model and optimizer in memory; ignore what is not an engine.

    At stage 3 DeepSpeed's caches still do.
    """
    if hasattr(engine, "destroy"):
        engine.destroy()


def is_sharded(model: nn.Module) -> bool:
    """Whether ZeRO-3 has partitioned the model's parameters."""
    return any(hasattr(parameter, "ds_id") for parameter in model.parameters())


class ShardedParameters:
    """This process' shards of the trainable parameters under ZeRO-3: a `rmkit.training.perturbation.ParameterView`.

    As in DeepSpeed's own step, all parameters are released, the shards are written, and the small parameters that it
    keeps whole on every process are gathered again; without the last, these would silently not change. In float32 the
    optimizer steps on the same shards, so they must be restored before it does.
    """

    def __init__(self, engine: Any) -> None:
        self.engine = engine
        self.optimizer = engine.optimizer
        if engine.zero_hpz_partition_size() > 1 or self.optimizer.params_in_nvme_and_cpu:
            raise_input_error(
                "deepspeed",
                "ZeRO-3 with its shards in memory, and no second copy of them, for MetaRM",
                Verbatim("zero_hpz_partition_size or offload_param to nvme"),
                "Leave these out.",
            )
        self.gradients = self.optimizer.grad_partitions_flat_buffer  # of all shards, also for the next step
        self.gradients.zero_()  # those of the last step would remain for parameters without a gradient now

    def forward(self, **tokens: Any) -> Any:
        """The outputs, through the engine, which gathers the parameters."""
        return self.engine(**tokens)

    def accumulate_gradient(self, value: Tensor) -> None:
        """Add to the shards' gradients, without an accumulation boundary, at which the optimizer would use them."""
        self.engine.set_gradient_accumulation_boundary(False)
        self.engine.backward(value, scale_wrt_gas=False)

    def values_and_gradients(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Each shard with its gradient, in float32; afterwards all gradients are zero."""
        self.release()
        start = 0
        for parameter in itertools.chain.from_iterable(self.optimizer.fp16_groups):
            shard = parameter.ds_tensor
            gradient = self.gradients[start:start + shard.numel()].to(shard.device, torch.float32)
            start += shard.numel()
            yield shard.data, gradient
        self.gradients.zero_()
        self.optimizer.zero_grad()

    def update_model(self) -> None:
        """Gather the parameters that are kept whole."""
        persistent = self.optimizer.persistent_parameters
        if persistent:
            persistent[0].all_gather(persistent)

    def release(self) -> None:
        """Release all gathered parameters."""
        self.optimizer.parameter_offload.partition_all_parameters()


def destroy_process_group() -> None:
    """Destroy the process group, DeepSpeed's with its global state, or torch's alone."""
    comm: Any = importlib.import_module("deepspeed.comm.comm")
    if comm.cdb is not None:
        comm.destroy_process_group()
        comm.cdb = None
    elif dist.is_initialized():
        dist.destroy_process_group()


def accelerator_environment() -> dict[str, str]:
    """The variable that makes DeepSpeed use the CPU, where there is no accelerator; without it, DeepSpeed warns."""
    return {} if torch.accelerator.is_available() else {"DS_ACCELERATOR": "cpu"}


def free_port() -> str:
    """A free port of this machine."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return str(listener.getsockname()[1])
