"""`RewardConfig`, the arguments of `RewardTrainer`; training arguments built from a command's settings, or checked."""

from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any, TypeVar

import torch
from transformers import TrainingArguments

from rmkit.core.checks import InputError, Verbatim, raise_input_error
from rmkit.core.config import configuration
from rmkit.losses import get_pair_loss
from rmkit.training.settings import RewardSettings, TrainingSettings, check_reward_settings
from rmkit.training.zero import default_config, init_process_group, under_launcher

Arguments = TypeVar("Arguments", bound=TrainingArguments)
NOT_CHECKED = {"deepspeed": None, "tf32": None, "torch_compile": False, "torch_compile_mode": None,
               "torch_compile_backend": None}


@configuration
class CheckedRewardSettings(RewardSettings):
    """`RewardSettings` whose types and ranges are checked."""


@dataclass
class RewardConfig(RewardSettings, TrainingArguments):  # type: ignore[misc]  # a Literal where they have str
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
    values = {item.name: getattr(settings, item.name) for item in fields(kind) if hasattr(settings, item.name)} | fixed
    # Set use_cpu explicitly; otherwise DeepSpeed computes batch sizes for one process.
    values["use_cpu"] = settings.use_cpu or not torch.accelerator.is_available()
    if values["deepspeed"] == "auto":
        values["deepspeed"] = default_config()
    if values["deepspeed"]:
        init_process_group(timedelta(seconds=settings.ddp_timeout), "gloo" if values["use_cpu"] else None)
    try:
        return kind(**values)
    except InputError:
        raise
    except (ValueError, ImportError) as error:
        raise_input_error(
            command, "settings that fit together and this machine", Verbatim(error), "Change these keys."
        )


def check_training(settings: TrainingSettings, section: str = "") -> None:
    """Raise `InputError`, which names `section`, for settings that training would refuse, before anything starts.

    Neither device nor process group is set up, and TF32 and torch.compile are not switched on; these and DeepSpeed's
    configuration are checked when training starts. The same holds under a launcher, whose processes start at once.
    """
    if under_launcher():
        return
    kind = RewardConfig if isinstance(settings, RewardSettings) else TrainingArguments
    no_device = {"_setup_devices": torch.device("cpu"), "_n_gpu": 1, "distributed_state": None}
    try:
        build_arguments(type(kind.__name__, (kind,), no_device), section or "train", settings, **NOT_CHECKED)
    except InputError as error:
        prefix = f"{section}." if section and not str(error).startswith(f"{section}:") else ""
        raise InputError(f"{prefix}{error}") from None
