"""LoRA: low-rank adapters on every linear layer, the head trained and saved whole."""

from pathlib import Path
from typing import cast

from transformers import PreTrainedModel

from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.models.reward_model import find_head


def add_lora(model: PreTrainedModel, *, rank: int, alpha: int, dropout: float) -> PreTrainedModel:
    """`model` with adapters of rank `rank` on all its linear layers; only they and the head are trained.

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
    # peft trains in float32 what it adds; ZeRO-3, which has cut the model already, wants all of it in one type.
    cut = hasattr(head.weight, "ds_id")
    adapted = peft.get_peft_model(model, config, autocast_adapter_dtype=not cut)
    return cast(PreTrainedModel, adapted)  # which passes on all that a model has


def merge_lora(base: PreTrainedModel, adapter: str | Path) -> PreTrainedModel:
    """`base` with a saved adapter added to its weights, and the adapter's head in place of its own."""
    import peft

    return peft.PeftModel.from_pretrained(base, adapter).merge_and_unload()
