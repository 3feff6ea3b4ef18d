"""`RewardTrainer`: `transformers.Trainer` for pairs, with targets, margins, a contrastive loss and MetaRM."""

from dataclasses import replace
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
from rmkit.data.samples import encode_samples
from rmkit.losses import get_pair_loss, reward_center_penalty
from rmkit.training.batching import choose_collator, count_pairs, take_tokens
from rmkit.training.config import RewardConfig
from rmkit.training.contrastive import N_VIEWS, VARIANTS, ContrastiveObjective
from rmkit.training.metarm import MetaRMStep
from rmkit.training.samplers import ReproducibleTrainerMixin, token_budget_dataloader
from rmkit.training.settings import check_meta
from rmkit.training.train_metrics import PairMetrics

PROTOTYPES = "prototypes.safetensors"


class RewardTrainer(ReproducibleTrainerMixin, Trainer):
    """Trains a reward model on pairs (or on the output of `encode_pairs`), with `target` and `margin`.

    One forward per batch: chosen and rejected, and with a contrastive loss both of their dropout views, are its
    rows, or segments of one packed row; the loss on pairs covers both views. A step's loss is the mean over its
    pairs. With a `meta_dataset` (a prompt and its `responses` in each row, or the output of `encode_samples`) the loss
    and the logged rewards are those at the perturbed parameters, see `MetaRMStep`.
    """

    args: RewardConfig
    model: PreTrainedModel

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
        check_meta(args.meta_learning_rate, meta_dataset is not None)
        self.pair_loss = get_pair_loss(args.loss, args.loss_kwargs)
        self.contrastive = make_contrastive_objective(model, args)
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
            compute_metrics=self.compute_pair_metrics,
            **others,
        )
        self.loss_is_scaled_for_ga = False  # compute_loss gives a batch's mean
        self.pair_metrics = PairMetrics()
        self.meta_step: MetaRMStep | None = None
        if meta_dataset is not None:
            if "input_ids" not in meta_dataset.column_names:
                meta_dataset = encode_samples(meta_dataset, processing_class, args.max_length)
            packed = isinstance(collator, PairPacker)
            self.meta_step = MetaRMStep(model, meta_dataset, args, processing_class, packed=packed)

    def train(self, *args: Any, **settings: Any) -> Any:
        """Train; afterwards, also after an error, the parameters are not perturbed by MetaRM."""
        try:
            return super().train(*args, **settings)
        finally:
            if self.meta_step is not None:
                self.meta_step.finish()

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """The loss of a micro-batch, its gradient accumulated; with a meta set, at MetaRM's perturbed parameters."""
        if self.meta_step is None:
            return super().training_step(model, inputs, num_items_in_batch)
        self.meta_step.start_step(self.model, model, self.optimizer, self.state.global_step)
        loss = super().training_step(model, inputs, num_items_in_batch)
        if self.accelerator.sync_gradients:
            self.meta_step.perturbation.undo()
        return loss

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The mean loss of a batch: the loss on pairs, the centring penalty and the contrastive loss."""
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
        self.pair_metrics.update(chosen.detach(), rejected.detach(), margin)
        if num_items_in_batch is not None:  # batches of a step differ in pairs; the mean is over all of them
            loss = loss * (self.current_gradient_accumulation_steps * count_pairs(inputs) / num_items_in_batch)
        return (loss, outputs) if return_outputs else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the metrics of the pairs since the last log to the training logs."""
        if "loss" in logs:
            logs = {**logs, **self.pair_metrics.pop(self.accelerator.gather)}
            if self.meta_step is not None:
                logs |= self.meta_step.pop_metrics(self.accelerator.gather)
        super().log(logs, start_time)

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[None, Tensor, Tensor]:
        """Rewards [pair, (chosen, rejected)] and labels [pair, (target, margin)], for `compute_pair_metrics`."""
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad():
            logits = model(**take_tokens(inputs, views=1)).logits
        chosen, rejected = logits[:, 0].float().chunk(2)
        labels = [inputs.get("target", torch.ones_like(chosen)), inputs.get("margin", torch.zeros_like(chosen))]
        return None, torch.stack([chosen, rejected], dim=1), torch.stack(labels, dim=1)

    def compute_pair_metrics(self, prediction: EvalPrediction) -> dict[str, float]:
        """Loss and metrics over the whole evaluation set, each pair counted once."""
        chosen, rejected = torch.as_tensor(prediction.predictions).double().T
        target, margin = torch.as_tensor(prediction.label_ids).double().T
        metrics = PairMetrics()
        metrics.update(chosen, rejected, margin)
        loss = self.pair_loss(chosen, rejected, target=target, margin=margin)
        return {"loss": loss.item(), **metrics.pop(lambda row: row)}

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the standard folder. Raises `InputError` on every process when a weight of any is not finite."""
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
        """Save the prototypes beside the model, so that every library can read the checkpoint."""
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
        """A step's micro-batches and, with a token budget, their number of pairs on this process."""
        batches, count = super().get_batch_samples(*args, **settings)
        return batches, count if self.args.max_tokens_per_batch is None else sum(map(count_pairs, batches))

    def get_train_dataloader(self) -> DataLoader:
        """Batches of a number of pairs, or of tokens (with all views), then already this process' own."""
        if self.args.max_tokens_per_batch is None:
            return super().get_train_dataloader()
        views = 1 if self.contrastive is None else N_VIEWS
        loader, self.epochs.sampler = token_budget_dataloader(
            self.train_dataset, self.data_collator, self.args, views=views
        )
        return loader


def make_contrastive_objective(model: nn.Module, args: RewardConfig) -> ContrastiveObjective | None:
    """The contrastive loss that `args` asks for, attached to `model`."""
    if args.contrastive == "none":
        return None
    settings = {
        "beta": args.contrastive_beta, "temperature": args.contrastive_temperature, "prototypes": args.prototypes
    }
    given: dict[str, Any] = {name: value for name, value in settings.items() if value is not None}
    variant = replace(VARIANTS[args.contrastive], **given)
    return ContrastiveObjective(model, variant, rate=args.dropout, seed=args.seed)


def is_finite(parameter: nn.Parameter, rank: int) -> bool:
    """Whether all of a parameter is finite, or under ZeRO-3 this rank's shard, whose padding may hold anything."""
    values: Tensor = parameter
    if hasattr(parameter, "ds_tensor"):
        shard, count = parameter.ds_tensor, int(parameter.ds_numel)  # type: ignore[attr-defined]
        values = shard[:max(0, count - rank * shard.numel())]
    return bool(torch.isfinite(values).all())
