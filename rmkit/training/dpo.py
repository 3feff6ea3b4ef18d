"""Direct preference optimisation: TRL's DPOTrainer with rmkit's loss, which takes targets and margins."""

import functools
from typing import Any, Literal

import torch
from datasets import Dataset
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer

from rmkit.data.completions import CompletionCollator
from rmkit.losses import dpo_loss
from rmkit.training.rl import import_trl
from rmkit.training.samplers import ReproducibleTrainerMixin
from rmkit.training.zero import destroy_engine

SIDES = ("chosen", "rejected")
REFERENCE = tuple(f"ref_{side}_logps" for side in SIDES)  # TRL's names


def make_dpo_trainer(
    arguments: Any,
    *,
    model: PreTrainedModel,
    reference: PreTrainedModel | None,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Dataset,
    label_smoothing: float = 0.0,
    smoothing: Literal["conservative", "robust"] = "conservative",
) -> Trainer:
    """TRL's DPOTrainer of `model` on `pairs` of `encode_sides`, with `target` and `margin` where they have them.

    The reference is `reference`, or `model` before training: its log-probabilities are computed once, before the
    first step, which saves a forward pass of each step and the memory of a second model. The loss is
    `rmkit.losses.dpo_loss` with `arguments.beta`; TRL tokenises nothing, and its own loss is not used.
    """
    loss = functools.partial(dpo_loss, beta=arguments.beta, label_smoothing=label_smoothing, smoothing=smoothing)
    trainer: Trainer = dpo_trainer_class(import_trl())(
        model=model, ref_model=reference, args=arguments, train_dataset=pairs, processing_class=tokenizer,
        data_collator=CompletionCollator(tokenizer, SIDES, REFERENCE), loss=loss,
    )
    return trainer


@functools.cache
def dpo_trainer_class(trl: Any) -> Any:
    """The subclass of TRL's DPOTrainer whose loss is `rmkit.losses.dpo_loss`."""

    class DPOTrainer(ReproducibleTrainerMixin, trl.DPOTrainer):
        """See `make_dpo_trainer`."""

        def __init__(self, *args: Any, loss: functools.partial[Tensor], **settings: Any) -> None:
            self.pair_loss = loss
            super().__init__(*args, **settings)
            for name in ("ref_model", "_precompute_engine"):  # not needed once the log-probabilities are computed
                destroy_engine(getattr(self, name))
                setattr(self, name, None)

        def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
            return dataset

        def compute_loss(
            self,
            model: Any,
            inputs: dict[str, Tensor],
            return_outputs: bool = False,
            num_items_in_batch: Tensor | int | None = None,
        ) -> Any:
            """The mean loss of a batch."""
            labels = inputs["input_ids"].masked_fill(inputs["completion_mask"] == 0, -100)
            outputs = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], use_cache=False,
                            labels=labels, fused_lm_head=True)
            policy = outputs.log_probs.float().sum(dim=1).view(2, -1)  # [(chosen, rejected), pair]
            reference = torch.stack([inputs[name].float() for name in REFERENCE])
            loss = self.pair_loss(*policy, *reference, target=inputs.get("target"), margin=inputs.get("margin"))
            self.log_rewards(policy.detach(), reference)
            return (loss, outputs) if return_outputs else loss

        def log_rewards(self, policy: Tensor, reference: Tensor) -> None:
            """Collect TRL's metrics: implicit rewards, their gap, the share that is positive, and log-probabilities."""
            rewards = self.args.beta * (policy - reference)
            gap = rewards[0] - rewards[1]
            metrics = {
                **{f"rewards/{side}": values for side, values in zip(SIDES, rewards, strict=True)},
                **{f"logps/{side}": values for side, values in zip(SIDES, policy, strict=True)},
                "rewards/margins": gap,
                "rewards/accuracies": (gap > 0).float() + 0.5 * (gap == 0).float(),
            }
            for name, values in metrics.items():
                self._metrics["train"][name].append(self.accelerator.gather(values.contiguous()).mean().item())

    return DPOTrainer
