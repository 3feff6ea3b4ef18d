"""Checkpoints: sealed by a marker that is written last, so that a half-written one is never taken for a whole one."""

import contextlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch.distributed as dist
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from rmkit.core.checks import InputError, Verbatim, raise_input_error
from rmkit.core.stage import read_json, write_json

COMPLETE_FILE = "complete.json"
# What torch and the libraries in Rust (safetensors, tokenizers) say when a file cannot be written.
WRITERS = r"PytorchStreamWriter|inline_container|iostream error|os error \d"


class CompleteCheckpointCallback(TrainerCallback):
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
        write_json(folder / COMPLETE_FILE, {"key": folder.name, "processes": args.world_size})
        if self.limit is not None and self.limit > 0:
            best = state.best_model_checkpoint
            for old in list_complete(folder.parent)[:-self.limit]:
                if best is None or Path(best).resolve() != old.resolve():
                    delete_checkpoint(old)


@contextlib.contextmanager
def report_disk_errors(directory: str | Path) -> Iterator[None]:
    """Refuse `directory` when what writes into it finds the disk full or closed; not every library raises OSError."""
    try:
        yield
    except Exception as error:
        if isinstance(error, InputError) or not (isinstance(error, OSError) or re.search(WRITERS, str(error))):
            raise
        raise_input_error(
            f"output_dir {directory}",
            "a disk that can be written",
            Verbatim(error),
            "Free it; the same command goes on from the last complete checkpoint.",
        )


def list_complete(directory: str | Path) -> list[Path]:
    """The sealed checkpoints in `directory`, by step."""
    folders = [marker.parent for marker in Path(directory).glob(f"checkpoint-*/{COMPLETE_FILE}")]
    return sorted(folders, key=lambda folder: int(folder.name.rpartition("-")[2]))


def find_last_complete(directory: str | Path, processes: int) -> Path | None:
    """The last sealed checkpoint in `directory`, or None where there is none.

    Raises `InputError` when other than `processes` processes wrote it: DeepSpeed's optimizer state is cut into as many
    parts as there were processes, and does not load into others.
    """
    complete = list_complete(directory)
    if not complete:
        return None
    last = complete[-1]
    writers = (read_json(last / COMPLETE_FILE) or {}).get("processes")
    if writers != processes:
        raise_input_error(
            "processes",
            f"{writers}, as many as wrote {last}",
            processes,
            "Start as many to go on from it, or name another output_dir to begin anew.",
        )
    return last


def delete_checkpoint(checkpoint: Path) -> None:
    """Delete a checkpoint, its seal first: killed half-way, what is left does not look whole."""
    (checkpoint / COMPLETE_FILE).unlink()
    shutil.rmtree(checkpoint)
