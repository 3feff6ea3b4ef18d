"""Supervised fine-tuning: next-token prediction of completions, and of nothing else."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor, nn
from transformers import (
    DataCollatorForLanguageModeling,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Trainer,
    TrainingArguments,
)

from rmkit.core.checks import raise_input_error
from rmkit.data.chat_template import encode
from rmkit.data.completions import COMPLETION, CompletionCollator
from rmkit.data.parquet import read_column
from rmkit.training.checkpoint import CompleteCheckpointCallback, delete_checkpoint, find_last_complete, list_complete
from rmkit.training.config import TrainingSettings
from rmkit.training.samplers import GlobalBatchSampler, SetEpochCallback
from rmkit.training.zero import accelerator_environment


@dataclass
class CompletionSettings(TrainingSettings):
    """Those of every training, and how often the rows are gone through where `max_steps` is not set."""

    num_train_epochs: float = 1.0
    weight_decay: float = 0.0

    def check(self) -> None:
        """Refuse what would be refused later, on every process."""
        super().check()
        if self.max_steps < 1 and not self.num_train_epochs > 0:
            raise_input_error(
                "num_train_epochs", "above 0, or max_steps", self.num_train_epochs, "Say how long to train."
            )


class OrderedRows:
    """For a Trainer: batches of rows of like length, in an order that seed, epoch and global batch decide alone."""

    train_dataset: Dataset
    args: Any
    _train_batch_size: int

    def __init__(self, *args: Any, checkpoints: int | None, **settings: Any) -> None:
        self.epochs = SetEpochCallback()
        super().__init__(*args, **settings, callbacks=[CompleteCheckpointCallback(checkpoints), self.epochs])  # type: ignore

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> GlobalBatchSampler:
        dataset = self.train_dataset if train_dataset is None else train_dataset
        order = GlobalBatchSampler(
            len(dataset),
            batch=self._train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size,
            seed=self.args.seed,
            lengths=read_column(dataset, "length", "int32"),
        )
        self.epochs.order = order
        return order


class SupervisedTrainer(OrderedRows, Trainer):
    """Trains on rows of `encode_sides`; the loss is the mean over all tokens of completions in a step, in nats.

    A step's mean is over the tokens of all its processes and micro-batches together, so that a token of a short
    completion counts as much as one of a long one. `checkpoints`: how many are kept; they are sealed.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        arguments: Any,
        *,
        tokenizer: PreTrainedTokenizerBase,
        rows: Dataset,
        checkpoints: int | None,
    ) -> None:
        super().__init__(
            model, arguments, train_dataset=rows, processing_class=tokenizer, checkpoints=checkpoints,
            data_collator=SupervisedCollator(tokenizer),
        )

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The loss of a batch; refused where it is not finite."""
        found: Any = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        loss = found[0] if return_outputs else found
        if not torch.isfinite(loss):
            raise_input_error(
                f"loss in step {self.state.global_step + 1}",
                "a finite number",
                loss.detach().item(),
                "Lower learning_rate or set max_grad_norm.",
            )
        return found


class SupervisedCollator:
    """A padded batch with `labels` [row, token]: -100, which the loss passes over, where a token is not written."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.collate = CompletionCollator(tokenizer, (COMPLETION,))

    def __call__(self, rows: Any) -> dict[str, Tensor]:
        batch = self.collate(rows)
        inside = batch.pop("completion_mask")
        return {**batch, "labels": batch["input_ids"].masked_fill(inside == 0, -100)}


BATCH = 8  # small: what counts is the number of steps in which attention learns to look back at the prompt


LEARNING_RATE = 2e-3


SAVE_STEPS = 250


MAX_LENGTH = 512  # tokens; the longest text of the gold world has about 270


def train_language_model(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    demonstrations: Sequence[dict[str, str]],
    output_dir: str | Path,
    *,
    seed: int,
) -> None:
    """One epoch of next-token prediction on prompts and responses; writes model and tokenizer to `output_dir`.

    Called again after it was killed, it goes on from the last complete checkpoint there, to the same weights.
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
    for name, value in accelerator_environment().items():  # DeepSpeed, which Trainer imports, warns when left to guess
        os.environ.setdefault(name, value)
    arguments = TrainingArguments(
        output_dir=str(output_dir),
        per_device_train_batch_size=BATCH,
        learning_rate=LEARNING_RATE,
        warmup_steps=50,
        lr_scheduler_type="linear",
        adam_beta2=0.98,
        num_train_epochs=1,
        train_sampling_strategy="group_by_length",
        save_steps=SAVE_STEPS,
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
        callbacks=[CompleteCheckpointCallback(limit=1)],
    )
    checkpoint = find_last_complete(output_dir, processes=1)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    model.save_pretrained(output_dir)
    tokenizer.save_pretrained(output_dir)
    for whole in list_complete(output_dir):
        delete_checkpoint(whole)
    for part in Path(output_dir).glob("checkpoint-*"):
        shutil.rmtree(part)
