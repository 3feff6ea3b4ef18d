"""Hugging Face's training arguments, or TRL's, of this process: one way to make them for every trainer of a policy."""

from dataclasses import asdict, dataclass, fields
from datetime import timedelta
from typing import Any, TypeVar

import torch

from rmkit.core.checks import Seen, refuse
from rmkit.training.zero import join_process_group

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
                refuse(name, "at least 1", getattr(self, name), f"Raise {name}.")


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
        join_process_group(timedelta(seconds=settings.ddp_timeout), "gloo" if use_cpu else None)
    values = asdict(settings) | {"save_total_limit": None}  # checkpoints are the sealer's to keep
    try:
        return kind(output_dir=output_dir, deepspeed=deepspeed, use_cpu=use_cpu, dataloader_pin_memory=False,
                    **values, **fixed)
    except (ValueError, ImportError) as error:
        refuse(name, "settings that fit together and this machine", Seen(error), "Change these keys.")
