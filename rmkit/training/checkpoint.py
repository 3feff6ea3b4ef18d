"""Checkpoints: a file written last marks a complete one, so that a partial one is never resumed from."""

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
# Messages of torch and of libraries in Rust (safetensors, tokenizers) about files that cannot be written.
WRITE_ERRORS = r"PytorchStreamWriter|inline_container|iostream error|os error \d"


class CompleteCheckpointCallback(TrainerCallback):
    """Marks each checkpoint complete when every process has written its part, and only then deletes older ones.

    `limit`: how many to keep, the best one (of `load_best_model_at_end`) not counted; None keeps all.
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
        write_json(folder / COMPLETE_FILE, {"key": folder.name, "num_processes": args.world_size})
        if self.limit is not None and self.limit > 0:
            best = state.best_model_checkpoint
            for old in list_complete(folder.parent)[:-self.limit]:
                if best is None or Path(best).resolve() != old.resolve():
                    delete_checkpoint(old)


def take_over_checkpoints(args: TrainingArguments) -> CompleteCheckpointCallback:
    """The callback that keeps `args.save_total_limit` complete checkpoints; the Trainer itself deletes none."""
    callback = CompleteCheckpointCallback(args.save_total_limit)
    args.save_total_limit = None  # or the last complete checkpoint would be deleted before the next is complete
    return callback


@contextlib.contextmanager
def report_disk_errors(directory: str | Path) -> Iterator[None]:
    """Raise `InputError` when a write into `directory` fails, such as on a full disk; not every error is an OSError."""
    try:
        yield
    except Exception as error:
        if isinstance(error, InputError) or not (isinstance(error, OSError) or re.search(WRITE_ERRORS, str(error))):
            raise
        raise_input_error(
            f"output_dir {directory}",
            "a disk that can be written",
            Verbatim(error),
            "Free it; the same command goes on from the last complete checkpoint.",
        )


def list_complete(directory: str | Path) -> list[Path]:
    """The complete checkpoints in `directory`, by step."""
    folders = [marker.parent for marker in Path(directory).glob(f"checkpoint-*/{COMPLETE_FILE}")]
    return sorted(folders, key=lambda folder: int(folder.name.rpartition("-")[2]))


def find_last_complete(directory: str | Path, num_processes: int) -> Path | None:
    """The last complete checkpoint in `directory`, or None.

    Raises `InputError` when other than `num_processes` processes wrote it: DeepSpeed saves one part of the optimizer
    state per process.
    """
    complete = list_complete(directory)
    if not complete:
        return None
    last = complete[-1]
    writers = (read_json(last / COMPLETE_FILE) or {}).get("num_processes")
    if writers != num_processes:
        raise_input_error(
            "num_processes",
            f"{writers}, as many as wrote {last}",
            num_processes,
            "Start as many to go on from it, or name another output_dir to begin anew.",
        )
    return last


def delete_checkpoint(checkpoint: Path) -> None:
    """Delete a checkpoint, its marker first, so that what an interruption leaves is not taken for a complete one."""
    (checkpoint / COMPLETE_FILE).unlink(missing_ok=True)
    shutil.rmtree(checkpoint)
