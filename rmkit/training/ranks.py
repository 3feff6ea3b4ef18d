"""Several ranks and one stage folder: the first rank keeps its record, the others are told what it found."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch.distributed as dist

from rmkit.core.checks import InputError
from rmkit.core.stages import Stage, open_stage


def is_first_rank() -> bool:
    """Whether this process is the one that writes: the only one, or rank 0."""
    return not dist.is_initialized() or dist.get_rank() == 0


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
