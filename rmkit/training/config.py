"""`RewardConfig`: the arguments of `RewardTrainer`; and training arguments built from a command's settings."""

from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any, TypeVar

import torch
from transformers import TrainingArguments

from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.core.config import configuration
from rmkit.losses import get_pair_loss
from rmkit.training.settings import RewardSettings, TrainingSettings, check_reward_settings
from rmkit.training.zero import default_config, init_process_group

Arguments = TypeVar("Arguments", bound=TrainingArguments)


@configuration
class CheckedRewardSettings(RewardSettings):
    """`RewardSettings` whose types and ranges are checked."""


@dataclass
class RewardConfig(RewardSettings, TrainingArguments):
    """TrainingArguments with the settings of `RewardSettings`."""

    def __post_init__(self) -> None:
        CheckedRewardSettings(**{item.name: getattr(self, item.name) for item in fields(RewardSettings)})
        check_reward_settings(self)
        get_pair_loss(self.loss, self.loss_kwargs)
        if self.deepspeed:
            init_process_group(self.ddp_timeout_delta, "gloo" if self.use_cpu else None)
        super().__post_init__()
        if self.contrastive != "none" and self.n_gpu > 1:  # nn.DataParallel's copies would share the kept states
            raise_input_error(
                "contrastive",
                "one process per device",
                Verbatim(f"one for {self.n_gpu}"),
                f"Start one for each (num_processes: {self.n_gpu}, or torchrun), or make one device visible.",
            )


def build_arguments(kind: type[Arguments], command: str, settings: TrainingSettings, **fixed: Any) -> Arguments:
    """`kind` (TrainingArguments or a subclass) from those of `settings` that it has, and from `fixed`.

    With DeepSpeed, joins the process group. Raises `InputError`, which names `command`, for settings that do not fit
    together or this machine.
    """
    # Set use_cpu explicitly; otherwise DeepSpeed computes batch sizes for one process.
    use_cpu = settings.use_cpu or not torch.accelerator.is_available()
    deepspeed = default_config() if settings.deepspeed == "auto" else settings.deepspeed
    if deepspeed:
        init_process_group(timedelta(seconds=settings.ddp_timeout), "gloo" if use_cpu else None)
    names = [item.name for item in fields(kind) if item.init and hasattr(settings, item.name)]
    values = {name: getattr(settings, name) for name in names} | {"deepspeed": deepspeed, "use_cpu": use_cpu}
    try:
        return kind(**values | fixed)
    except (ValueError, ImportError) as error:
        raise_input_error(
            command, "settings that fit together and this machine", Verbatim(error), "Change these keys."
        )
