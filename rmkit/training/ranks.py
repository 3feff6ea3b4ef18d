"""Several ranks: the first one keeps the stage's record, and a rank that dies or hangs stops the others with a word."""

import contextlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch.distributed as dist

from rmkit.core.checks import InputError, Seen, refuse
from rmkit.core.stages import Stage, open_stage

PADDING = r"(?s)^\[\S+\] |\. .*"  # what gloo says before and after the reason


def is_first_rank() -> bool:
    """Whether this process is the one that writes: the only one, or rank 0."""
    return not dist.is_initialized() or dist.get_rank() == 0


def wait_for_ranks() -> None:
    """Go on when all processes have come so far."""
    if dist.is_initialized():
        dist.barrier()


@contextlib.contextmanager
def open_stage_on_ranks(
    directory: str | Path, name: str, config: Mapping[str, Any], inputs: Mapping[str, str | Path]
) -> Iterator[Stage]:
    """`rmkit.core.stages.open_stage` for every rank of a process group, or for a single process.

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
def tell_lost_ranks(timeout: int) -> Iterator[None]:
    """Refuse to go on when another rank is gone, or has not answered within `timeout` seconds: gloo says so vaguely."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and "gloo" not in str(error):
            raise
        refuse("processes", f"all to answer within ddp_timeout ({timeout} s)", Seen(re.sub(PADDING, "", str(error))),
               "One died or hangs, see above; the same command goes on from the last complete checkpoint.")
