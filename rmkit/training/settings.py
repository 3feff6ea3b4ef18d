"""Settings of the training commands, declared once and light: neither torch nor transformers is imported."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.core.config import configuration, option
from rmkit.training.hf_arguments import HuggingFaceArguments


@configuration
class TrainingSettings(HuggingFaceArguments):
    """Hugging Face's TrainingArguments and how processes are started: the base of train, sft, dpo and rl."""

    output_dir: str = option(help="Folder for the model, its checkpoints and stage.json.")
    deepspeed: dict[str, Any] | str | None = option(
        "auto", '"auto" for ZeRO-2, a DeepSpeed JSON file (recipes/deepspeed), its content, or null for plain torch.'
    )
    num_processes: int = option(
        1, "Processes to start on this machine with the deepspeed launcher.", ge=1, affects_output=False
    )
    launcher: str | None = option(
        None, 'Start of another command that starts the processes, such as "torchrun --nproc_per_node 2".',
        affects_output=False,
    )
    per_device_train_batch_size: int = option(8, "Rows of a forward on each process.", ge=1)
    gradient_accumulation_steps: int = option(1, "Forwards whose gradients make a step.", ge=1)
    trust_remote_code: bool = option(False, "Run model code from the hub.", advanced=True)
    logging_steps: float = option(10, "Steps between two logs.")
    save_total_limit: int | None = option(1, "Complete checkpoints to keep, or null for all.", advanced=True)
    train_sampling_strategy: Literal["group_by_length", "random", "sequential"] = option(
        "group_by_length", "Order of the rows in an epoch.", advanced=True
    )

    def __post_init__(self) -> None:
        if isinstance(self.deepspeed, str) and self.deepspeed != "auto" and not Path(self.deepspeed).is_file():
            raise_input_error("deepspeed", '"auto", a JSON file or null', self.deepspeed, "recipes/deepspeed has some.")
        if self.max_steps < 1 and not self.num_train_epochs > 0:
            raise_input_error("num_train_epochs", "above 0, or max_steps", self.num_train_epochs, "Set one of them.")


@dataclass
class RewardSettings:
    """Settings of a reward model's training beyond TrainingArguments, and the defaults of those that differ.

    `RewardConfig` and `rmkit train` both inherit them; the annotations hold the help and the ranges.
    """

    loss: Annotated[str, option(
        help="Loss on a pair's rewards, one of rmkit.losses.PAIR_LOSSES, such as bradley_terry or symmetric."
    )] = "bradley_terry"
    loss_kwargs: Annotated[dict[str, Any], option(
        help="The loss's own arguments, such as {flip_rate: 0.2} for noise_corrected."
    )] = field(default_factory=dict)
    center_rewards_coefficient: Annotated[float, option(
        help="Weight of a penalty on the squared sum of a pair's rewards.", advanced=True
    )] = 0.0
    max_length: Annotated[int, option(
        help="Tokens of prompt and response; prompts are cut from the left.", ge=2
    )] = 1024
    max_tokens_per_batch: Annotated[int | None, option(
        help="Tokens of a forward on each process, in place of per_device_train_batch_size.", ge=1
    )] = None
    packing: Annotated[bool, option(
        help="Pack a batch into one row without padding, a pair's shared prefix once, where the model allows it.",
        advanced=True,
    )] = True
    contrastive: Annotated[Literal["none", "simcse", "simcse_difference", "swav", "swav_difference"], option(
        help="Contrastive loss added to the loss on pairs."
    )] = "none"
    contrastive_beta: Annotated[float | None, option(
        help="Weight of the contrastive loss; the paper's by default.", ge=0, advanced=True
    )] = None
    contrastive_temperature: Annotated[float | None, option(
        help="Temperature of the contrastive loss; by default SimCSE's 0.05 or SwAV's 0.1.", gt=0, advanced=True
    )] = None
    prototypes: Annotated[int | None, option(
        help="SwAV's prototypes; the paper's 50 (swav) or 20 (swav_difference) by default.", ge=2, advanced=True
    )] = None
    dropout: Annotated[float, option(
        help="Dropout that makes the two views of the contrastive loss.", gt=0, lt=1, advanced=True
    )] = 0.05
    meta_learning_rate: Annotated[float | None, option(
        help="MetaRM's step size, required with a meta set; the paper's is 5e-6.", ge=0
    )] = None
    meta_batch_size: Annotated[int | None, option(
        help="Prompts of a MetaRM step over all processes; by default as many as a step has pairs.", ge=1, advanced=True
    )] = None
    meta_steps: Annotated[int, option(
        help="Optimizer steps from one MetaRM step to the next; those between are plain.", ge=1, advanced=True
    )] = 1
    learning_rate: Annotated[float, option(help="Learning rate at its highest.")] = 1e-5
    num_train_epochs: Annotated[float, option(help="Epochs, where max_steps is not set.")] = 1.0
    logging_steps: Annotated[float, option(help="Steps between two logs.")] = 10
    save_total_limit: Annotated[int | None, option(
        help="Complete checkpoints to keep, or null for all.", advanced=True
    )] = 1
    train_sampling_strategy: Annotated[Literal["group_by_length", "random", "sequential"], option(
        help="Order of the pairs in an epoch.", advanced=True
    )] = "group_by_length"
    remove_unused_columns: Annotated[bool, option(
        help="Remove the columns that the model's forward does not take.", advanced=True
    )] = False
    dataloader_pin_memory: Annotated[bool, option(help="Pin the memory of batches.", advanced=True)] = False
    ddp_find_unused_parameters: Annotated[bool | None, option(
        help="Look for unused parameters without DeepSpeed; breaks SwAV's prototypes.", advanced=True
    )] = False


def check_reward_settings(settings: Any) -> None:
    """Raise `InputError` for settings that do not fit together.

    `settings`: an object with the attributes of `RewardSettings` and of TrainingArguments.
    """
    contrastive, prototypes = settings.contrastive, settings.prototypes
    contrastive_settings = (settings.contrastive_beta, settings.contrastive_temperature, prototypes)
    without_contrastive = any(value is not None for value in contrastive_settings)
    without_contrastive |= settings.dropout != RewardSettings.dropout
    by_tokens, metarm = settings.max_tokens_per_batch is not None, settings.meta_learning_rate is not None
    for refused, what, expected, got, hint in (
        (contrastive == "none" and without_contrastive, "contrastive",
         "one of simcse, simcse_difference, swav, swav_difference beside its settings", "none",
         "Choose one, or leave contrastive_beta, contrastive_temperature, prototypes and dropout out."),
        (contrastive.startswith("simcse") and prototypes is not None, "prototypes", "none without SwAV", prototypes,
         "Leave it out, or choose swav or swav_difference."),
        (by_tokens and settings.train_sampling_strategy != "group_by_length", "train_sampling_strategy",
         "group_by_length with a max_tokens_per_batch", settings.train_sampling_strategy, "Leave one of the two out."),
        (by_tokens and settings.dataloader_drop_last, "dataloader_drop_last", "false with a max_tokens_per_batch",
         True, "Leave it out: all steps are complete."),
        (by_tokens and metarm and settings.meta_batch_size is None, "meta_batch_size",
         "a number of prompts with a max_tokens_per_batch", Verbatim("none"),
         "Set it, since steps differ in pairs; the paper's batches have as many prompts as pairs."),
        (not metarm and (settings.meta_batch_size is not None or settings.meta_steps != 1), "meta_learning_rate",
         "MetaRM's step size, beside its other settings", Verbatim("none"),
         "Set it, or leave meta_batch_size and meta_steps out."),
        (metarm and settings.fp16, "fp16", "float32 or bf16 with MetaRM", Verbatim("fp16"), "Set bf16 instead."),
    ):
        if refused:
            raise_input_error(what, expected, got, hint)


def check_meta(meta_learning_rate: float | None, has_meta_set: bool) -> None:
    """Raise `InputError` for a meta set without a step size, and the reverse."""
    if has_meta_set != (meta_learning_rate is not None):
        raise_input_error(
            "meta_learning_rate and meta_data",
            "both or neither",
            Verbatim(f"{meta_learning_rate} with{'' if has_meta_set else 'out'} a meta set"),
            "The paper's step size is its learning rate, 5e-6; it tries 1e-6 and 1e-5 too.",
        )
