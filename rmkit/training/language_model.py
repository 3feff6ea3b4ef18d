"""The base model of the synthetic data: next-token prediction with transformers' Trainer alone, without TRL."""

import os
from collections.abc import Sequence
from pathlib import Path

import torch
from datasets import Dataset
from transformers import (
    DataCollatorForLanguageModeling,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Trainer,
    TrainingArguments,
)

from rmkit.data.chat_template import encode
from rmkit.training.checkpoint import delete_checkpoint, find_last_complete, take_over_checkpoints
from rmkit.training.zero import accelerator_environment

SAVE_STEPS = 250
MAX_LENGTH = 512  # tokens; the longest text of the synthetic data has about 270


def train_language_model(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    demonstrations: Sequence[dict[str, str]],
    output_dir: str | Path,
    *,
    seed: int,
) -> None:
    """One epoch of next-token prediction on prompts and responses; writes model and tokenizer to `output_dir`.

    Called again after an interruption, it resumes from the last complete checkpoint there, to the same weights.
    """
    rows = [
        encode(
            tokenizer,
            [{"role": "user", "content": row["prompt"]}],
            [{"role": "assistant", "content": row["response"]}],
            MAX_LENGTH,
        ).input_ids
        for row in demonstrations
    ]
    for name, value in accelerator_environment().items():  # DeepSpeed, which Trainer imports, warns otherwise
        os.environ.setdefault(name, value)
    arguments = TrainingArguments(
        output_dir=str(output_dir),
        per_device_train_batch_size=8,  # small: attention to the prompt is learnt over many steps
        learning_rate=2e-3,
        warmup_steps=50,
        lr_scheduler_type="linear",
        adam_beta2=0.98,
        num_train_epochs=1,
        train_sampling_strategy="group_by_length",
        save_steps=SAVE_STEPS,
        save_total_limit=1,
        report_to="none",
        logging_steps=100,
        seed=seed,
        use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=False,
    )
    trainer = Trainer(
        model,
        arguments,
        train_dataset=Dataset.from_dict({"input_ids": rows}),
        data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),
        processing_class=tokenizer,
        callbacks=[take_over_checkpoints(arguments)],
    )
    checkpoint = find_last_complete(output_dir, num_processes=1)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    model.save_pretrained(output_dir)
    tokenizer.save_pretrained(output_dir)
    for folder in Path(output_dir).glob("checkpoint-*"):
        delete_checkpoint(folder)
