"""`RewardTrainer`: `transformers.Trainer` for pairs, with targets, margins and a contrastive term."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from datasets import Dataset
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import EvalPrediction, PreTrainedModel, PreTrainedTokenizerBase, Trainer

from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.data.collators import PairCollator, PairPacker, encode_pairs
from rmkit.data.parquet import read_column
from rmkit.data.samples import encode_samples
from rmkit.losses import PAIR_LOSSES, reward_center_penalty
from rmkit.training.batching import choose_collator, count_pairs, take_tokens
from rmkit.training.checkpoint import CompleteCheckpointCallback
from rmkit.training.config import RewardConfig
from rmkit.training.contrastive import N_VIEWS, VARIANTS, ContrastiveObjective
from rmkit.training.metarm import MetaRMStep, check_meta, check_precision
from rmkit.training.samplers import GlobalBatchSampler, SetEpochCallback, token_budget_dataloader
from rmkit.training.train_metrics import PairMetrics

PROTOTYPES = "prototypes.safetensors"


class RewardTrainer(Trainer):
    """Trains a reward model on pairs (or on pairs that `encode_pairs` has encoded), with `target` and `margin`.

    One forward per batch: chosen and rejected, and with a contrastive term both of their dropout views, are its
    rows, or segments of one packed row; the preference loss covers both views. A step's loss is the mean over its
    pairs. With a `meta_dataset` (a prompt and its `responses` in each row, or what `encode_samples` made of them) it is
    taken at theta', see `MetaRMStep`; so are the rewards that are logged.
    """

    args: RewardConfig
    model: PreTrainedModel
    train_dataset: Dataset

    def __init__(
        self,
        model: PreTrainedModel,
        args: RewardConfig,
        *,
        processing_class: PreTrainedTokenizerBase,
        train_dataset: Dataset | None = None,
        eval_dataset: Dataset | None = None,
        meta_dataset: Dataset | None = None,
        **others: Any,
    ) -> None:
        check_meta(args, meta_dataset is not None)
        extra = {} if args.flip_rate is None else {"flip_rate": args.flip_rate}
        self.pair_loss = partial(PAIR_LOSSES[args.loss], **extra)
        self.contrastive: ContrastiveObjective | None = None
        if args.contrastive != "none":
            changes: dict[str, Any] = {
                "beta": args.contrastive_beta,
                "temperature": args.contrastive_temperature,
                "prototypes": args.prototypes,
            }
            changes = {name: value for name, value in changes.items() if value is not None}
            variant = replace(VARIANTS[args.contrastive], **changes)
            self.contrastive = ContrastiveObjective(model, variant, rate=args.dropout, seed=args.seed)
        sealer = CompleteCheckpointCallback(args.save_total_limit)
        args.save_total_limit = None  # or the last complete checkpoint would go before the next one is complete
        datasets = [
            encode_pairs(dataset, processing_class, args.max_length)
            if dataset is not None and "input_ids_chosen" not in dataset.column_names else dataset
            for dataset in (train_dataset, eval_dataset)
        ]
        collator: PairPacker | PairCollator = PairCollator(processing_class)
        if args.packing:
            collator = choose_collator(model, processing_class, args, args.max_length)
        super().__init__(
            model,
            args,
            data_collator=collator,
            train_dataset=datasets[0],
            eval_dataset=datasets[1],
            processing_class=processing_class,
            compute_metrics=self.measure,
            **others,
        )
        self.loss_is_scaled_for_ga = False  # compute_loss gives a batch's mean
        self.statistics = PairMetrics()
        self.epochs = SetEpochCallback()
        self.meta: MetaRMStep | None = None
        if meta_dataset is not None:
            check_precision(model)
            if "input_ids" not in meta_dataset.column_names:
                meta_dataset = encode_samples(meta_dataset, processing_class, args.max_length)
            packed = isinstance(collator, PairPacker)
            self.meta = MetaRMStep(meta_dataset, args, processing_class, packed=packed)
        self.add_callback(sealer)
        self.add_callback(self.epochs)

    def train(self, *args: Any, **settings: Any) -> Any:
        """Train; however it ends, the parameters are not left at MetaRM's ascent."""
        try:
            return super().train(*args, **settings)
        finally:
            if self.meta is not None:
                self.meta.end()

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """The loss of a micro-batch, its gradient added; with a meta set, where MetaRM's ascent leads to."""
        if self.meta is None:
            return super().training_step(model, inputs, num_items_in_batch)
        self.meta.begin(self.model, model, self.optimizer, self.state.global_step)
        loss = super().training_step(model, inputs, num_items_in_batch)
        if self.accelerator.sync_gradients:
            self.meta.ascent.restore()
        return loss

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The mean loss of a batch: preference loss, centring, contrastive term."""
        contrastive = self.contrastive if model.training else None
        views = 1 if contrastive is None else N_VIEWS
        tokens = take_tokens(inputs, views)
        target, margin = (inputs[name].repeat(views) if name in inputs else None for name in ("target", "margin"))
        outputs = model(**tokens)
        rewards = outputs.logits[:, 0].float()
        chosen, rejected = rewards.view(views, 2, -1).transpose(0, 1).reshape(2, -1)
        loss = self.pair_loss(chosen, rejected, target=target, margin=margin)
        if self.args.center_rewards_coefficient:
            penalty = reward_center_penalty(torch.stack([chosen, rejected], dim=1))
            loss = loss + self.args.center_rewards_coefficient * penalty
        if contrastive is not None:
            loss = loss + contrastive.loss(tokens.get("attention_mask"))
        self.statistics.update(chosen.detach(), rejected.detach(), margin)
        if num_items_in_batch is not None:  # batches of a step differ in pairs; the mean is over all of them
            loss = loss * (self.current_gradient_accumulation_steps * count_pairs(inputs) / num_items_in_batch)
        return (loss, outputs) if return_outputs else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add what was seen of the rewards since the last time to the training logs."""
        if "loss" in logs:
            logs = {**logs, **self.statistics.drain(self.accelerator.gather)}
            if self.meta is not None:
                logs |= self.meta.drain(self.accelerator.gather)
        super().log(logs, start_time)

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[None, Tensor, Tensor]:
        """Rewards [pair, (chosen, rejected)] and labels [pair, (target, margin)]; the loss is taken over all later."""
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad():
            logits = model(**take_tokens(inputs, views=1)).logits
        chosen, rejected = logits[:, 0].float().chunk(2)
        labels = [inputs.get("target", torch.ones_like(chosen)), inputs.get("margin", torch.zeros_like(chosen))]
        return None, torch.stack([chosen, rejected], dim=1), torch.stack(labels, dim=1)

    def measure(self, prediction: EvalPrediction) -> dict[str, float]:
        """Loss and statistics over the whole evaluation set, each pair counted once."""
        chosen, rejected = torch.as_tensor(prediction.predictions).double().T
        target, margin = torch.as_tensor(prediction.label_ids).double().T
        statistics = PairMetrics()
        statistics.update(chosen, rejected, margin)
        loss = self.pair_loss(chosen, rejected, target=target, margin=margin)
        return {"loss": loss.item(), **statistics.drain(lambda row: row)}

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the standard folder; refused on every process when a weight is not finite on one."""
        finite = all(is_finite(parameter, self.args.process_index) for parameter in self.model.parameters())
        broken = self.accelerator.gather(torch.tensor([not finite], device=self.args.device))
        if bool(broken.any()):
            raise_input_error(
                f"weights after step {self.state.global_step}",
                "finite numbers",
                Verbatim("NaN or infinity"),
                "Nothing was saved over the last checkpoint; lower learning_rate or set max_grad_norm.",
            )
        super().save_model(output_dir, _internal_call)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None) -> None:
        """Save the prototypes beside the model, so that the checkpoint stays one that every library reads."""
        if not self.args.should_save or not hasattr(self.model, "prototypes"):
            super()._save(output_dir, state_dict)
            return
        weights = dict(self.model.state_dict() if state_dict is None else state_dict)
        prototypes = {name: weights.pop(name).contiguous() for name in list(weights) if name.startswith("prototypes.")}
        super()._save(output_dir, weights)
        safetensors.torch.save_file(prototypes, Path(str(output_dir or self.args.output_dir)) / PROTOTYPES)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        """Load the prototypes too (with DeepSpeed, its own checkpoint holds them)."""
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        if hasattr(self.model, "prototypes"):
            prototypes = safetensors.torch.load_file(Path(resume_from_checkpoint) / PROTOTYPES)
            self.model.load_state_dict(prototypes, strict=False)

    def get_batch_samples(self, *args: Any, **settings: Any) -> tuple[list, Tensor | int | None]:
        """A step's micro-batches, and, where a token budget cuts them, how many pairs they have on this process."""
        batches, count = super().get_batch_samples(*args, **settings)
        return batches, count if self.args.max_tokens_per_batch is None else sum(map(count_pairs, batches))

    def get_train_dataloader(self) -> DataLoader:
        """Batches of so many pairs, or of so many tokens (views included), already those of this process."""
        if self.args.max_tokens_per_batch is None:
            return super().get_train_dataloader()
        views = 1 if self.contrastive is None else N_VIEWS
        loader, self.epochs.order = token_budget_dataloader(
            self.train_dataset, self.data_collator, self.args, views=views
        )
        return loader

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> GlobalBatchSampler:
        """The epoch's order. `train_sampling_strategy`: group_by_length, random or sequential."""
        dataset = self.train_dataset if train_dataset is None else train_dataset
        strategy = self.args.train_sampling_strategy
        args = self.args
        order = GlobalBatchSampler(
            len(dataset),
            batch=self._train_batch_size * args.gradient_accumulation_steps * args.world_size,
            seed=args.seed if args.data_seed is None else args.data_seed,
            shuffle=strategy != "sequential",
            lengths=read_column(dataset, "length", "int32") if strategy == "group_by_length" else None,
            drop_last=args.dataloader_drop_last,
        )
        self.epochs.order = order
        return order


def is_finite(parameter: nn.Parameter, rank: int) -> bool:
    """Whether all of a parameter is finite, or under ZeRO-3 this rank's shard, whose padding may hold anything."""
    values: Tensor = parameter
    if hasattr(parameter, "ds_tensor"):
        shard, count = parameter.ds_tensor, int(parameter.ds_numel)  # type: ignore[attr-defined]
        values = shard[:max(0, count - rank * shard.numel())]
    return bool(torch.isfinite(values).all())
