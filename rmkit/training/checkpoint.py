"""Checkpoints: sealed by a marker that is written last, so that a half-written one is never taken for a whole one."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import safetensors
import torch.distributed as dist
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from rmkit.core.checks import Seen, refuse
from rmkit.core.stages import read_json, write_json

MARKER = "complete.json"


class CheckpointSealer(TrainerCallback):
    """Seals each checkpoint when every process has written its part, and only then deletes older ones.

    `limit`: how many to keep, the best one (as `load_best_model_at_end` sees it) not counted; None keeps all.
    """

    def __init__(self, limit: int | None) -> None:
        self.limit = limit

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Called on every process after the last file of a checkpoint was written."""
        if dist.is_initialized():
            dist.barrier()
        if not args.should_save:
            return
        folder = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
        write_json(folder / MARKER, {"key": folder.name, "processes": args.world_size})
        if self.limit is not None and self.limit > 0:
            best = state.best_model_checkpoint
            for old in list_complete(folder.parent)[:-self.limit]:
                if best is None or Path(best).resolve() != old.resolve():
                    remove(old)


@contextlib.contextmanager
def tell_disk_faults(directory: str | Path) -> Iterator[None]:
    """Refuse `directory` when what writes into it finds the disk full or closed; torch does not say so by OSError."""
    try:
        yield
    except (OSError, RuntimeError, safetensors.SafetensorError) as error:
        if isinstance(error, RuntimeError) and "PytorchStreamWriter" not in str(error):
            raise
        refuse(f"output_dir {directory}", "a disk that can be written", Seen(error),
               "Free it; the same command goes on from the last complete checkpoint.")


def list_complete(directory: str | Path) -> list[Path]:
    """The sealed checkpoints in `directory`, by step."""
    folders = [marker.parent for marker in Path(directory).glob(f"checkpoint-*/{MARKER}")]
    return sorted(folders, key=lambda folder: int(folder.name.rpartition("-")[2]))


def find_last_complete(directory: str | Path, processes: int) -> Path | None:
    """The last sealed checkpoint in `directory` that `processes` processes wrote, or None where there is none.

    DeepSpeed's optimizer state is cut into as many parts as there were processes, and does not load into others.
    """
    fitting = [
        folder
        for folder in list_complete(directory)
        if (read_json(folder / MARKER) or {}).get("processes") == processes
    ]
    return fitting[-1] if fitting else None


def remove(checkpoint: Path) -> None:
    """Delete a checkpoint, its seal first: killed half-way, what is left does not look whole."""
    (checkpoint / MARKER).unlink()
    shutil.rmtree(checkpoint)
