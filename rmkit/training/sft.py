"""Supervised fine-tuning: TRL's SFTTrainer on rmkit's encoding of prompts and completions."""

from collections.abc import Mapping
from typing import Any

from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer

from rmkit.training.rl import import_trl
from rmkit.training.samplers import ReproducibleTrainerMixin


def make_sft_trainer(
    arguments: Any, *, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: Dataset
) -> Trainer:
    """TRL's SFTTrainer of `model` on `rows` of `encode_sides`; the loss is that of the completions alone.

    A step's loss is the mean over all tokens of its completions, in nats, on all processes and micro-batches together.
    TRL tokenises and truncates nothing: `rows` are encoded.
    """
    dataset = rows.map(
        label_completion, remove_columns=["input_ids_completion", "start_completion"], load_from_cache_file=False
    )
    trainer_class = type("SFTTrainer", (ReproducibleTrainerMixin, import_trl().SFTTrainer), {})
    trainer: Trainer = trainer_class(model=model, args=arguments, train_dataset=dataset, processing_class=tokenizer)
    return trainer


def label_completion(row: Mapping[str, Any]) -> dict[str, list[int]]:
    """`input_ids` and `labels` of a row, -100 (ignored by the loss) for the tokens of the prompt."""
    tokens, start = row["input_ids_completion"], row["start_completion"]
    return {"input_ids": tokens, "labels": [-100] * start + tokens[start:]}
