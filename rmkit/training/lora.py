"""LoRA: low-rank adapters on every linear layer; the head is trained and saved in full."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from transformers import PreTrainedModel, Trainer
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.models.reward_model import find_head
from rmkit.training.distributed import is_first_rank

ADAPTER = "adapter"


def add_lora(model: PreTrainedModel, *, rank: int, alpha: int, dropout: float) -> PreTrainedModel:
    """`model` with adapters of rank `rank` on all its linear layers; only these and the head are trained.

    Raises `InputError` where peft is not installed.
    """
    try:
        import peft
    except ImportError as error:
        raise_input_error("lora_rank", "peft to be installed", Verbatim(error), "pip install rmkit[peft]")
    head = find_head(model)
    name = next(name for name, module in model.named_modules() if module is head)
    config = peft.LoraConfig(
        task_type="SEQ_CLS",
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules="all-linear",
        modules_to_save=[name.partition(".")[0]],
    )
    # peft adds float32 parameters; ZeRO-3, which has partitioned the model already, requires a single type.
    partitioned = hasattr(head.weight, "ds_id")
    adapted = peft.get_peft_model(model, config, autocast_adapter_dtype=not partitioned)
    return cast(PreTrainedModel, adapted)  # it has the attributes of a model


def save_merged(trainer: Trainer, load_base_model: Callable[[], PreTrainedModel], directory: Path) -> None:
    """Save the trained adapter in `directory`/adapter, and in `directory` the base model with the adapter merged."""
    import peft

    trainer.save_model(str(directory / ADAPTER))
    unset_hf_deepspeed_config()  # the base model is loaded in full, on the first process alone
    if is_first_rank():
        merged = peft.PeftModel.from_pretrained(load_base_model(), directory / ADAPTER).merge_and_unload()
        merged.save_pretrained(directory)
        cast(Any, trainer.processing_class).save_pretrained(directory)
