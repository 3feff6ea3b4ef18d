"""A training command's session, shared by train, sft, dpo and rl: start processes, open the stage, resume, save."""

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import Trainer

from rmkit.core.checks import InputError, Verbatim, raise_input_error
from rmkit.core.config import output_settings, to_cli_args
from rmkit.core.seeds import seed_everything
from rmkit.core.stage import Stage
from rmkit.data.parquet import load_split, read_column, write_table
from rmkit.data.rejected_rows import RejectedRows
from rmkit.training.checkpoint import find_last_complete, report_disk_errors
from rmkit.training.distributed import is_first_rank, launch, open_stage_on_ranks, report_lost_ranks, wait_for_ranks
from rmkit.training.settings import TrainingSettings
from rmkit.training.zero import deepspeed_environment, destroy_engine, under_launcher


def run_training_session(
    command: str,
    settings: TrainingSettings,
    inputs: Mapping[str, str | Path],
    make_arguments: Callable[[], Any],
    fit: Callable[[Stage, Any], None],
) -> Path:
    """Run `fit(stage, arguments)` on every rank unless the stage is complete; returns the stage's folder.

    Where processes have to be started, each runs `rmkit command` with the same settings.
    """
    if (settings.num_processes > 1 or settings.launcher) and not under_launcher():
        words = ["rmkit", command, *to_cli_args(settings)]
        launch(words, num_processes=settings.num_processes, launcher=settings.launcher)
        return Path(settings.output_dir)
    if settings.resume_from_checkpoint:
        inputs = {**inputs, "resume_from_checkpoint": settings.resume_from_checkpoint}
    stage_settings = output_settings(settings)
    with deepspeed_environment(), report_lost_ranks(settings.ddp_timeout), report_disk_errors(settings.output_dir):
        # Restored by `deepspeed_environment`; TRL and PEFT use the old name.
        warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)
        arguments = make_arguments()  # joins the process group
        if arguments.world_size > 1:  # another number of processes is another result
            stage_settings["world_size"] = arguments.world_size
        with open_stage_on_ranks(settings.output_dir, command, stage_settings, inputs) as stage:
            if not stage.done:
                seed_everything(settings.seed)
                fit(stage, arguments)
    return Path(settings.output_dir)


def train_and_save(
    command: str, trainer: Trainer, stage: Stage, finish: Callable[[], None] | None = None
) -> None:
    """Train from the last complete checkpoint to the last step, run `finish`, and destroy the engines.

    `finish` saves the model; by default into the stage's folder. The record gets `world_size` and `log_history`.
    """
    args, state = trainer.args, trainer.state
    checkpoint = args.resume_from_checkpoint or find_last_complete(stage.directory, args.world_size)
    try:
        try:
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        except InputError as error:
            raise InputError(f"training stopped in step {trainer.state.global_step + 1}: {error}") from None
        state = trainer.state
        if state.global_step < state.max_steps:  # such as by SIGTERM with enable_jit_checkpoint
            raise_input_error(
                command,
                f"all of {state.max_steps} steps",
                Verbatim(f"a stop after {state.global_step}"),
                "The same command goes on from the last complete checkpoint.",
            )
        if finish is None:
            trainer.save_model(str(stage.directory))
        else:
            finish()
    finally:
        for engine in (trainer.deepspeed, getattr(trainer, "ref_model", None), *getattr(trainer, "reward_funcs", ())):
            destroy_engine(engine)
    stage.record.update(world_size=args.world_size, log_history=state.log_history)


def share_rows(stage: Stage, read: Callable[[RejectedRows], list[dict[str, Any]]]) -> Dataset:
    """The rows of `read`, which the first process writes into the stage's folder and all load from there."""
    file = stage.directory / "rows.parquet"
    if is_first_rank():
        with RejectedRows(stage.directory / "quarantine.jsonl") as rejected:
            write_table(Dataset.from_list(read(rejected)), file)
        stage.record["quarantined"] = rejected.reasons
    wait_for_ranks()
    return load_split(file, "rows", columns=("prompt",))


def record_dropped_rows(command: str, stage: Stage, rows: Dataset, encoded: Dataset) -> int:
    """Count in the record the rows that were too long; returns the length of the longest other one, in tokens."""
    stage.record.update(rows=len(encoded), over_long=len(rows) - len(encoded))
    if not len(encoded):
        raise_input_error(
            command, "a row that fits into max_length", Verbatim(f"{len(rows)} that are too long"), "Raise max_length."
        )
    return int(read_column(encoded, "length", "int32").max())
