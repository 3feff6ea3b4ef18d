"""`rmkit sft`: a language model fine-tuned on completions, on DeepSpeed."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import TrainingArguments

from rmkit.core.checks import raise_input_error
from rmkit.core.stage import Stage
from rmkit.data.completions import COMPLETION, encode_sides, read_completions
from rmkit.data.parquet import load_split, write_table
from rmkit.data.rejected_rows import RejectedRows
from rmkit.data.sources import find_files
from rmkit.models.reward_model import check_positions
from rmkit.training.config import make_arguments, select_settings
from rmkit.training.distributed import is_first_rank, wait_for_ranks
from rmkit.training.rl import load_policy, load_policy_tokenizer
from rmkit.training.session import LaunchSettings, record_dropped_rows, run_training_session, take_all_steps
from rmkit.training.sft import CompletionSettings, SupervisedTrainer


@dataclass(kw_only=True)
class SftConfig(LaunchSettings, CompletionSettings):
    """Fine-tune the language model `model_name_or_path` on the completions in `data`; the loss is theirs alone.

    `data`: rows of `prompt` and `completion` (texts or messages), or of `messages`, whose last turn is the completion;
    JSON lines, Parquet, a `datasets` folder, a hub name. Prompts are cut from the left to `max_length` tokens; rows
    whose completion alone exceeds it are left out, and counted. `deepspeed`, `processes` and `launcher` are those of
    `rmkit train`, all others Hugging Face's. An interrupted run goes on from its last complete checkpoint
    (`save_steps`).
    """

    data: str
    model_name_or_path: str
    output_dir: str = field()
    split: str = "train"
    learning_rate: float = 2e-5
    max_length: int = 1024

    def __post_init__(self) -> None:
        self.check()
        self.check_ranks()
        if self.max_length < 2:
            raise_input_error("max_length", "at least 2 tokens", self.max_length, "1024 is usual.")


def sft(config: SftConfig) -> Path:
    """Train, and write model and tokenizer into the stage's folder; the record has the curves, "log_history".

    Under a launcher, every rank calls this.
    """
    find_files(config.data)
    inputs = {"data": config.data, "model": config.model_name_or_path}

    def make(deepspeed: dict[str, Any] | str | None) -> Any:
        return make_arguments(
            TrainingArguments, select_settings(CompletionSettings, config), "sft", output_dir=config.output_dir,
            deepspeed=deepspeed, use_cpu=config.use_cpu, remove_unused_columns=False,
        )

    def fit(stage: Stage, arguments: Any) -> None:
        model = load_policy(config.model_name_or_path, config.trust_remote_code)
        tokenizer = load_policy_tokenizer(config.model_name_or_path, model, config.trust_remote_code)
        rows = share_rows(stage, config)
        encoded = encode_sides(rows, tokenizer, config.max_length, (COMPLETION,))
        check_positions(model, record_dropped_rows("sft", stage, rows, encoded))
        trainer = SupervisedTrainer(
            model, arguments, tokenizer=tokenizer, rows=encoded, checkpoints=config.save_total_limit
        )
        take_all_steps("sft", trainer, stage)

    return run_training_session("sft", config, inputs, make, fit)


def share_rows(stage: Stage, config: SftConfig) -> Dataset:
    """The rows, which the first process reads into the stage's folder and all load from there."""
    file = stage.directory / "rows.parquet"
    if is_first_rank():
        with RejectedRows(stage.directory / "quarantine.jsonl") as quarantine:
            write_table(Dataset.from_list(read_completions(config.data, config.split, quarantine)), file)
        stage.record["quarantined"] = quarantine.reasons
    wait_for_ranks()
    return load_split(file, "rows", ("prompt", "completion"))
