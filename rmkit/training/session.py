"""The opening that the policy's trainings share: ranks are started, the stage is entered, the training goes on."""

import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from datasets import Dataset
from transformers import Trainer

from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.core.legacy_config import as_dict
from rmkit.core.seeds import seed_everything
from rmkit.core.stage import Stage
from rmkit.data.parquet import read_column
from rmkit.training.checkpoint import find_last_complete, report_disk_errors
from rmkit.training.distributed import launch, open_stage_on_ranks, report_lost_ranks
from rmkit.training.zero import deepspeed_environment, default_config, destroy_engine, under_launcher

IMMATERIAL = ("ddp_timeout", "disable_tqdm", "processes", "launcher")  # to the policy, but for the number of ranks


@dataclass(kw_only=True)
class LaunchSettings:
    """`deepspeed`, `processes` and `launcher` are those of `rmkit train`; more or fewer ranks make another policy."""

    deepspeed: dict | str | None = "auto"
    processes: int = 1
    launcher: str | None = None
    use_cpu: bool = False
    trust_remote_code: bool = False

    def check_ranks(self) -> None:
        """Refuse what no process could be started with."""
        if self.processes < 1:
            raise_input_error("processes", "at least 1", self.processes, "One process trains too.")
        if isinstance(self.deepspeed, str) and self.deepspeed != "auto" and not Path(self.deepspeed).is_file():
            raise_input_error("deepspeed", '"auto", a JSON file or null', self.deepspeed, "recipes/deepspeed has some.")


class TrainingConfig(Protocol):
    """What the opening asks of a command's configuration, a dataclass."""

    output_dir: str
    deepspeed: dict | str | None
    processes: int
    launcher: str | None
    ddp_timeout: int
    seed: int


def run_training_session(
    command: str,
    config: TrainingConfig,
    inputs: Mapping[str, str | Path],
    make_arguments: Callable[[dict[str, Any] | str | None], Any],
    fill: Callable[[Stage, Any], None],
) -> Path:
    """Run `fill(stage, arguments)` on every rank of `command`, unless its stage is done; returns the stage's folder.

    `make_arguments` takes DeepSpeed's configuration. Where ranks have to be started, they are, and call this again.
    """
    if (config.processes > 1 or config.launcher) and not under_launcher():
        words = [word for name, value in as_dict(config).items() for word in (f"--{name}", json.dumps(value))]
        launch(["rmkit", command, *words], processes=config.processes, launcher=config.launcher)
        return Path(config.output_dir)
    settings = {name: value for name, value in as_dict(config).items() if name not in IMMATERIAL}
    with deepspeed_environment(), report_lost_ranks(config.ddp_timeout), report_disk_errors(config.output_dir):
        # Undone by `deepspeed_environment`; TRL asks by the old name.
        warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)
        arguments = make_arguments(default_config() if config.deepspeed == "auto" else config.deepspeed)
        if arguments.world_size > 1:  # or what one process made before this was asked would be made again
            settings["world_size"] = arguments.world_size
        with open_stage_on_ranks(config.output_dir, command, settings, inputs) as stage:
            if not stage.done:
                seed_everything(config.seed)
                fill(stage, arguments)
    return Path(config.output_dir)


def take_all_steps(command: str, trainer: Trainer, stage: Stage) -> None:
    """Train from the last complete checkpoint on, save the policy into the stage's folder, and let all engines go."""
    checkpoint = find_last_complete(stage.directory, trainer.args.world_size)
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        state = trainer.state
        if state.global_step < state.max_steps:
            raise_input_error(
                command,
                f"all of {state.max_steps} steps",
                Verbatim(f"a stop after {state.global_step}"),
                "The same command goes on from the last complete checkpoint.",
            )
        trainer.save_model(str(stage.directory))
    finally:
        for engine in (trainer.deepspeed, getattr(trainer, "ref_model", None), *getattr(trainer, "reward_funcs", ())):
            destroy_engine(engine if hasattr(engine, "destroy") else None)
    stage.record.update(world_size=trainer.args.world_size, log_history=state.log_history)


def record_dropped_rows(command: str, stage: Stage, rows: Dataset, encoded: Dataset) -> int:
    """Count in the record the rows that were too long; the longest of the others, in tokens."""
    stage.record.update(rows=len(encoded), over_long=len(rows) - len(encoded))
    if not len(encoded):
        raise_input_error(
            command, "a row that fits into max_length", Verbatim(f"{len(rows)} that are too long"), "Raise max_length."
        )
    return int(read_column(encoded, "length", "int32").max())
