"""The settings of a training: Hugging Face's training arguments, and what a reward model has beyond them."""

import inspect
import math
from dataclasses import asdict, dataclass, fields
from datetime import timedelta
from typing import Any, Literal, TypeVar

import torch
from transformers import TrainingArguments

from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.losses import PAIR_LOSSES
from rmkit.training.contrastive import VARIANTS
from rmkit.training.zero import init_process_group


@dataclass
class RewardConfig(TrainingArguments):
    """Hugging Face's training arguments, with defaults for reward models, and what a reward model has beyond them.

    `contrastive_beta`, `contrastive_temperature` and `prototypes` default to the variant's own in the paper.
    """

    loss: str = "bradley_terry"
    flip_rate: float | None = None  # the share of wrong labels that loss "noise_corrected" must be told
    center_rewards_coefficient: float = 0.0
    max_length: int = 1024
    max_tokens_per_batch: int | None = None  # of a forward on each process, in place of per_device_train_batch_size
    packing: bool = True  # where the model can: no padding, and one copy of what chosen and rejected begin with
    contrastive: Literal["none", "simcse", "simcse_difference", "swav", "swav_difference"] = "none"
    contrastive_beta: float | None = None
    contrastive_temperature: float | None = None
    prototypes: int | None = None
    dropout: float = 0.05  # of the contrastive views
    meta_learning_rate: float | None = None  # of MetaRM's ascent; no default: a meta set comes with a choice of it
    meta_batch_size: int | None = None  # prompts of an ascent, on all processes; by default as many as a step has pairs
    meta_steps: int = 1  # steps from one ascent to the next; those between are plain
    learning_rate: float = 1e-5
    num_train_epochs: float = 1.0
    logging_steps: float = 10
    save_total_limit: int | None = 1
    train_sampling_strategy: str = "group_by_length"
    remove_unused_columns: bool = False
    dataloader_pin_memory: bool = False
    ddp_find_unused_parameters: bool | None = False  # without DeepSpeed; looking for them breaks SwAV's prototypes

    def __post_init__(self) -> None:
        check_reward_settings(self)
        if self.deepspeed:
            init_process_group(self.ddp_timeout_delta, "gloo" if self.use_cpu else None)
        super().__post_init__()
        if self.contrastive != "none" and self.n_gpu > 1:  # nn.DataParallel, whose copies would share the term's states
            raise_input_error(
                "contrastive",
                "one process per device",
                Verbatim(f"one for {self.n_gpu}"),
                f"Start one for each (processes: {self.n_gpu}, or torchrun), or show it one device.",
            )


def check_reward_settings(config: RewardConfig) -> None:
    """Refuse a loss or a contrastive setting that cannot be trained with."""
    if config.loss not in PAIR_LOSSES:
        raise_input_error("loss", f"one of {', '.join(PAIR_LOSSES)}", config.loss, "Choose one of these.")
    if (config.flip_rate is not None) != ("flip_rate" in inspect.signature(PAIR_LOSSES[config.loss]).parameters):
        raise_input_error(
            "flip_rate",
            "a rate with the loss that is corrected by it, and none with any other",
            Verbatim(f"{config.flip_rate} with loss {config.loss!r}"),
            "Set both, or neither.",
        )
    if config.max_tokens_per_batch is not None:
        check_token_budget(config)
    check_contrastive(config)
    if config.meta_learning_rate is None and (config.meta_batch_size is not None or config.meta_steps != 1):
        raise_input_error(
            "meta_learning_rate",
            "MetaRM's step size, beside its other settings",
            Verbatim("none"),
            "Set it, or leave meta_batch_size and meta_steps out.",
        )
    if config.meta_learning_rate is not None:
        if not 0 <= config.meta_learning_rate < math.inf:
            raise_input_error(
                "meta_learning_rate", "a finite number, 0 or more", config.meta_learning_rate, "The paper: 5e-6."
            )
        if min(config.meta_steps, 1 if config.meta_batch_size is None else config.meta_batch_size) < 1:
            seen = Verbatim(f"{config.meta_steps} and {config.meta_batch_size}")
            raise_input_error(
                "meta_steps and meta_batch_size",
                "at least 1",
                seen,
                "Leave them out for an ascent at every step on as many prompts as it has pairs.",
            )
        if config.fp16:
            raise_input_error("fp16", "float32 or bf16 with MetaRM's ascent", Verbatim("fp16"), "Set bf16 instead.")


def check_contrastive(config: RewardConfig) -> None:
    """Refuse a contrastive term that cannot be trained with, and settings of one that nothing would read."""
    kinds = ("none", *VARIANTS)
    if config.contrastive not in kinds:
        raise_input_error("contrastive", f"one of {', '.join(kinds)}", config.contrastive, "Choose one of these.")
    beta, temperature, prototypes = config.contrastive_beta, config.contrastive_temperature, config.prototypes
    if config.contrastive == "none":
        given = any(value is not None for value in (beta, temperature, prototypes))
        if given or config.dropout != RewardConfig.dropout:
            raise_input_error(
                "contrastive",
                f"one of {', '.join(VARIANTS)} beside settings of a contrastive term",
                "none",
                "Choose one, or leave contrastive_beta, contrastive_temperature, prototypes and dropout out.",
            )
        return
    if not 0 < config.dropout < 1:
        raise_input_error(
            "dropout",
            "a rate above 0 and below 1 (without dropout the two views are the same)",
            config.dropout,
            "The paper takes 0.05.",
        )
    if beta is not None and not 0 <= beta < math.inf:
        raise_input_error("contrastive_beta", "a finite number, 0 or more", beta, "Leave it out for the paper's.")
    if temperature is not None and not 0 < temperature < math.inf:
        raise_input_error(
            "contrastive_temperature", "a finite number above 0", temperature, "SimCSE's code has 0.05, SwAV's 0.1."
        )
    if prototypes is not None and not VARIANTS[config.contrastive].prototypes:
        raise_input_error(
            "prototypes", "none without SwAV", prototypes, "Leave it out, or choose swav or swav_difference."
        )
    if prototypes is not None and prototypes < 2:
        raise_input_error(
            "prototypes", "at least 2 (one alone would be everyone's)", prototypes, "The paper has 50 and 20."
        )


def check_token_budget(config: RewardConfig) -> None:
    """Refuse a token budget with settings that count pairs or order them by anything but their length."""
    assert config.max_tokens_per_batch is not None
    if config.max_tokens_per_batch < 1:
        raise_input_error(
            "max_tokens_per_batch", "at least 1", config.max_tokens_per_batch, "16384 suits a large accelerator."
        )
    if config.train_sampling_strategy != "group_by_length":
        raise_input_error(
            "train_sampling_strategy",
            "group_by_length with a max_tokens_per_batch",
            config.train_sampling_strategy,
            "Leave one of the two out.",
        )
    if config.dataloader_drop_last:
        raise_input_error(
            "dataloader_drop_last",
            "false with a max_tokens_per_batch, whose steps are all whole",
            True,
            "Leave it out.",
        )
    if config.meta_learning_rate is not None and config.meta_batch_size is None:
        raise_input_error(
            "meta_batch_size",
            "a number of prompts with a max_tokens_per_batch, whose steps differ in pairs",
            Verbatim("none"),
            "The paper's batches have as many prompts as pairs.",
        )


Settings = TypeVar("Settings")


@dataclass
class TrainingSettings:
    """Settings of Hugging Face's TrainingArguments, with their names and, where not said here, their meaning."""

    learning_rate: float = 1e-6
    max_steps: int = -1
    per_device_train_batch_size: int = 8
    gradient_accumulation_steps: int = 1
    lr_scheduler_type: str = "cosine"
    warmup_steps: float = 0
    max_grad_norm: float = 1.0
    bf16: bool = False
    activation_checkpointing: bool = False
    logging_steps: float = 10
    save_steps: float = 100
    save_total_limit: int | None = 1
    report_to: str = "none"
    disable_tqdm: bool | None = None
    ddp_timeout: int = 1800
    seed: int = 0

    def check(self) -> None:
        """Refuse what would be refused later, on every process."""
        for name in ("per_device_train_batch_size", "gradient_accumulation_steps"):
            if getattr(self, name) < 1:
                raise_input_error(name, "at least 1", getattr(self, name), f"Raise {name}.")


def select_settings(kind: type[Settings], config: Any) -> Settings:
    """Those of a configuration's fields that the dataclass `kind` has, as one of it."""
    return kind(**{item.name: getattr(config, item.name) for item in fields(kind)})  # type: ignore[arg-type]


def make_arguments(
    kind: Any,
    settings: TrainingSettings,
    name: str,
    *,
    output_dir: str,
    deepspeed: dict[str, Any] | str | None,
    use_cpu: bool,
    **fixed: Any,
) -> Any:
    """`kind` (TrainingArguments or one of it) of `settings` and `fixed`.

    With DeepSpeed, this process joins the group of all of them. Raises `InputError`, naming the command `name`, for
    settings that do not fit together or this machine.
    """
    # Said aloud where there is no accelerator, or DeepSpeed's batch sizes are computed for one process.
    use_cpu = use_cpu or not torch.accelerator.is_available()
    if deepspeed:
        init_process_group(timedelta(seconds=settings.ddp_timeout), "gloo" if use_cpu else None)
    values = asdict(settings) | {"save_total_limit": None}  # checkpoints are the sealer's to keep
    try:
        return kind(output_dir=output_dir, deepspeed=deepspeed, use_cpu=use_cpu, dataloader_pin_memory=False,
                    **values, **fixed)
    except (ValueError, ImportError) as error:
        raise_input_error(name, "settings that fit together and this machine", Verbatim(error), "Change these keys.")
