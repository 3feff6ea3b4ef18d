"""The stage `train`: pairs in, a reward model in the standard sequence-classification folder out."""

import dataclasses
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
import yaml
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainingArguments

from rmkit.core.checks import InputError, Verbatim, raise_input_error
from rmkit.core.legacy_config import as_dict
from rmkit.core.seeds import seed_everything
from rmkit.core.stage import Stage, read_record, versions
from rmkit.data.collators import encode_pairs
from rmkit.data.parquet import load_split, read_column, split_path, stream_blocks
from rmkit.data.sources import find_files
from rmkit.models.reward_model import check_positions, load_reward_model, load_tokenizer
from rmkit.training.checkpoint import find_last_complete, report_disk_errors
from rmkit.training.config import RewardConfig, check_reward_settings
from rmkit.training.distributed import is_first_rank, launch, open_stage_on_ranks, report_lost_ranks
from rmkit.training.lora import add_lora, merge_lora
from rmkit.training.metarm import check_meta, load_meta_set
from rmkit.training.model_card import write_card
from rmkit.training.reward_trainer import RewardTrainer
from rmkit.training.zero import (
    deepspeed_environment,
    default_config,
    destroy_engine,
    under_launcher,
    unset_deepspeed_config,
)

SECRETS = ("hub_token",)
IMMATERIAL = ("ddp_timeout",)  # to the model: a run goes on from its checkpoints when they change
ADAPTER = "adapter"
META = "meta"  # the meta set as it was used, and what was not
Arguments = TypeVar("Arguments", bound=TrainingArguments)


@dataclass(kw_only=True)
class TrainConfig(RewardConfig):
    """Train a reward model on the train pairs of `data` (a stage's folder or a Parquet file of pairs).

    Every other key is one of Hugging Face's TrainingArguments, with their names and meaning.

    `deepspeed`: "auto" for rmkit's ZeRO-2 configuration, a JSON file (recipes/deepspeed), or null for plain torch.
    `processes`: how many to start on this machine, by the deepspeed launcher; `launcher` is the beginning of another
    command to start them with, such as "torchrun --nproc_per_node 2". Started by a launcher already, neither
    matters. `meta_data` gives prompts with several responses each, without labels, for MetaRM's step: JSON lines,
    Parquet, a `datasets` folder or a hub name, rows of `prompt` and `responses`; `meta_learning_rate` comes with it.
    `evaluation_data` gives the pairs that `eval_strategy` and the end of training measure: the validation
    pairs of a stage's folder, or a file. `lora_rank` trains adapters, merged into the saved model. An interrupted
    run goes on from its last complete checkpoint (`save_steps`). Under ZeRO-3 each process loads and holds its part of
    the model; the first one alone has it whole, in the host's memory, while it saves it or merges adapters into it.
    `ddp_timeout`: seconds after which a process that waits for another ends the run, and no less than saving takes.
    """

    data: str
    model_name_or_path: str
    output_dir: str = field()
    evaluation_data: str | None = None
    meta_data: str | None = None
    processes: int = 1
    launcher: str | None = None
    deepspeed: dict | str | None = "auto"
    dtype: Literal["float32", "bfloat16"] = "float32"
    trust_remote_code: bool = False
    lora_rank: int | None = None
    lora_alpha: int = 32
    lora_dropout: float = 0.0

    def __post_init__(self) -> None:
        """Checks alone: Hugging Face's own would start devices and process groups while a file is being read."""
        check_reward_settings(self)
        check_meta(self, self.meta_data is not None)
        if self.processes < 1:
            raise_input_error("processes", "at least 1", self.processes, "One process trains too.")
        if self.eval_strategy != "no" and not self.evaluation_data:
            raise_input_error(
                "evaluation_data", "pairs for eval_strategy to measure", Verbatim("none"), "Name them, or set it to no."
            )
        if isinstance(self.deepspeed, str) and self.deepspeed != "auto" and not Path(self.deepspeed).is_file():
            raise_input_error("deepspeed", '"auto", a JSON file or null', self.deepspeed, "recipes/deepspeed has some.")
        build_arguments(self, ArgumentsCheck, deepspeed=None)


class ArgumentsCheck(TrainingArguments):
    """Hugging Face's arguments, for their checks alone: they find no device and start nothing."""

    device = torch.device("cpu")


def train(config: TrainConfig) -> Path:
    """Train, and write the model into the stage's folder itself, which every library then loads by its path.

    Beside the model: tokenizer, chat template, README.md (the model card), `checkpoint-N` folders, and stage.json
    with the learning curves under "log_history". Under a launcher, every rank calls this.
    """
    inputs: dict[str, str | Path] = {"data": config.data, "model": config.model_name_or_path}
    split_path(config.data, "train")  # refused before anything is started or emptied
    if config.evaluation_data:
        split_path(config.evaluation_data, "validation")
        inputs["evaluation_data"] = config.evaluation_data
    if config.meta_data:
        find_files(config.meta_data)
        inputs["meta_data"] = config.meta_data
    if config.resume_from_checkpoint:
        inputs["resume_from_checkpoint"] = config.resume_from_checkpoint
    if (config.processes > 1 or config.launcher) and not under_launcher():
        launch(["rmkit", "train", *to_cli_args(config)], processes=config.processes, launcher=config.launcher)
        return Path(config.output_dir)
    settings = {name: value for name, value in as_dict(config).items() if name not in (*SECRETS, *IMMATERIAL)}
    with deepspeed_environment(), report_lost_ranks(config.ddp_timeout):
        arguments = build_training_args(config)  # starts the process group, where there are several processes
        with report_disk_errors(config.output_dir):
            with open_stage_on_ranks(config.output_dir, "train", settings, inputs) as stage:
                if not stage.done:
                    fit(stage, config, arguments)
    return Path(config.output_dir)


def fit(stage: Stage, config: TrainConfig, arguments: RewardConfig) -> None:
    """Train on this rank; the first one writes the model, its card and the stage's record."""
    seed_everything(config.seed)
    tokenizer = load_tokenizer(config.model_name_or_path, trust_remote_code=config.trust_remote_code)
    pairs = load_split(config.data, "train")
    train_dataset = encode_pairs(pairs, tokenizer, config.max_length)
    eval_dataset = None
    if config.evaluation_data:
        eval_dataset = encode_pairs(load_split(config.evaluation_data, "validation"), tokenizer, config.max_length)
    meta_dataset = None
    if config.meta_data:
        place = stage.directory / META
        meta_dataset, stage.record["meta_data"] = load_meta_set(config.meta_data, place, tokenizer, config.max_length)
    model = load_model(config, tokenizer)
    for dataset in (train_dataset, meta_dataset):
        if dataset is not None:
            check_positions(model, int(read_column(dataset, "length", "int32").max()))
    if config.lora_rank:
        model = add_lora(model, rank=config.lora_rank, alpha=config.lora_alpha, dropout=config.lora_dropout)
    trainer = RewardTrainer(
        model, arguments, processing_class=tokenizer, train_dataset=train_dataset, eval_dataset=eval_dataset,
        meta_dataset=meta_dataset,
    )
    checkpoint = config.resume_from_checkpoint or find_last_complete(stage.directory, arguments.world_size)
    try:
        run_training(trainer, checkpoint)
        metrics = trainer.evaluate() if eval_dataset is not None else {}
        save(trainer, config, tokenizer, stage.directory)
    finally:
        destroy_engine(trainer.deepspeed)
    if is_first_rank():
        history = trainer.state.log_history
        stage.record.update(rows=len(pairs), world_size=arguments.world_size, metrics=metrics, log_history=history)
        write_card(
            stage.directory,
            base_model=config.model_name_or_path,
            data={"pairs": config.data, "rows": len(pairs), **describe_repair(config.data, pairs)},
            settings=non_default_settings(config),
            metrics=metrics,
            versions=versions(),
        )


def run_training(trainer: RewardTrainer, checkpoint: str | Path | None) -> None:
    """Train from `checkpoint` or from the start; refused when it ends before the last step, as a signal may have it."""
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except InputError as error:
        raise InputError(f"training stopped in step {trainer.state.global_step + 1}: {error}") from None
    state = trainer.state
    if state.global_step < state.max_steps:
        raise_input_error(
            "train",
            f"all of {state.max_steps} steps",
            Verbatim(f"a stop after {state.global_step}"),
            "The same command goes on from the last complete checkpoint.",
        )


def load_model(config: TrainConfig, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """The base model with a head initialised under the run's seed."""
    return load_reward_model(
        config.model_name_or_path,
        tokenizer,
        seed=config.seed,
        dtype=getattr(torch, config.dtype),
        trust_remote_code=config.trust_remote_code,
    )


def save(trainer: RewardTrainer, config: TrainConfig, tokenizer: PreTrainedTokenizerBase, directory: Path) -> None:
    """Save the standard folder; with LoRA, the adapter too, and the base model with the adapter merged into it."""
    if not config.lora_rank:
        trainer.save_model(str(directory))
        return
    trainer.save_model(str(directory / ADAPTER))
    unset_deepspeed_config()
    if is_first_rank():
        merge_lora(load_model(config, tokenizer), directory / ADAPTER).save_pretrained(directory)
        tokenizer.save_pretrained(directory)


def build_training_args(config: TrainConfig) -> RewardConfig:
    """The training arguments of this process."""
    return build_arguments(
        config, RewardConfig, deepspeed=default_config() if config.deepspeed == "auto" else config.deepspeed
    )


def build_arguments(config: TrainConfig, kind: type[Arguments], deepspeed: dict | str | None) -> Arguments:
    """Those of the settings that are fields of `kind`, as one of it."""
    values = {item.name: getattr(config, item.name) for item in dataclasses.fields(kind) if item.init}
    # Said aloud where there is no accelerator, or DeepSpeed's batch sizes are computed for one process.
    values |= {"deepspeed": deepspeed, "use_cpu": config.use_cpu or not torch.accelerator.is_available()}
    try:
        return kind(**values)
    except (ValueError, ImportError) as error:
        raise_input_error(
            "train", "training arguments that fit together and this machine", Verbatim(error), "Change these keys."
        )


def describe_repair(data: str, pairs: Dataset) -> dict[str, Any]:
    """What an earlier stage did to the labels: its name and how many pairs each action concerned."""
    record = read_record(data) or {}
    facts = {"stage": record["stage"], "key": record["key"]} if record else {}
    if "action" in pairs.column_names:
        actions = (action for block in stream_blocks(pairs, ["action"]) for action in block["action"].to_pylist())
        facts |= {f"action {action}": count for action, count in sorted(Counter(actions).items())}
    return facts


def non_default_settings(config: TrainConfig) -> dict[str, Any]:
    """The settings that are not the default, and the seed."""
    values = {"seed": config.seed, "learning_rate": config.learning_rate, "num_train_epochs": config.num_train_epochs}
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        if item.init and item.name not in SECRETS and value != item.default:
            if item.default_factory is dataclasses.MISSING or value != item.default_factory():
                values[item.name] = value
    return values


def to_cli_args(config: TrainConfig) -> list[str]:
    """`config` as command-line words, for the ranks: no file that they would all have to see."""
    words = []
    for name, value in non_default_settings(config).items():
        text = yaml.safe_dump(value, default_flow_style=True, width=float("inf")).removesuffix("...\n").strip()
        words += [f"--{name}", text]
    return words
