"""Direct preference optimisation: the adapter around TRL's DPO trainer, with targets and margins."""

import functools
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from datasets import Dataset
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer

from rmkit.data.completions import CompletionCollator
from rmkit.losses import dpo_loss
from rmkit.training.config import select_settings
from rmkit.training.rl import import_trl
from rmkit.training.sft import OrderedRows
from rmkit.training.zero import destroy_engine

SIDES = ("chosen", "rejected")
REFERENCE = tuple(f"ref_{side}_logps" for side in SIDES)  # TRL's names


@dataclass
class PreferenceLoss:
    """`rmkit.losses.dpo_loss`: `beta` reward units per nat of log-ratio, and how labels are smoothed."""

    beta: float = 0.1
    label_smoothing: float = 0.0
    smoothing: Literal["conservative", "robust"] = "conservative"

    def check(self) -> None:
        """Refuse what the loss would refuse."""
        even = torch.zeros(1)
        dpo_loss(even, even, even, even, **asdict(select_settings(PreferenceLoss, self)))


def make_preference_trainer(
    arguments: Any,
    loss: PreferenceLoss,
    *,
    model: PreTrainedModel,
    reference: PreTrainedModel | None,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Dataset,
    checkpoints: int | None = 1,
) -> Trainer:
    """TRL's DPOTrainer of `model` on `pairs` of `encode_sides`, with `target` and `margin` where they have them.

    The reference is the model as it comes, or `reference`: its log-probabilities are computed once, before the first
    step, which saves a forward pass of each step and the memory of a second model. TRL tokenises nothing here, and its
    `label_smoothing`, which its sigmoid loss passes over, is not used: the loss is rmkit's.
    """
    trainer: Trainer = define_trainer(import_trl())(
        model=model, ref_model=reference, args=arguments, train_dataset=pairs, processing_class=tokenizer,
        data_collator=CompletionCollator(tokenizer, SIDES, REFERENCE), checkpoints=checkpoints, loss=loss,
    )
    return trainer


@functools.cache
def define_trainer(trl: Any) -> Any:
    """The subclass of TRL's DPOTrainer whose loss is `rmkit.losses.dpo_loss`."""

    class PreferenceTrainer(OrderedRows, trl.DPOTrainer):
        """See `make_preference_trainer`."""

        def __init__(self, *args: Any, loss: PreferenceLoss, **settings: Any) -> None:
            self.preference_loss = loss
            super().__init__(*args, **settings)
            for name in ("ref_model", "_precompute_engine"):  # all that they are for has been computed
                engine = getattr(self, name)
                destroy_engine(engine if hasattr(engine, "destroy") else None)
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
            """The mean loss of a batch; what is logged is kept as TRL keeps it."""
            labels = inputs["input_ids"].masked_fill(inputs["completion_mask"] == 0, -100)
            outputs = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], use_cache=False,
                            labels=labels, fused_lm_head=True)
            policy = outputs.log_probs.float().sum(dim=1).chunk(2)  # [chosen, rejected] of [pair]
            reference = [inputs[name].float() for name in REFERENCE]
            loss = dpo_loss(*policy, *reference, target=inputs.get("target"), margin=inputs.get("margin"),
                            **asdict(self.preference_loss))
            self.note({side: own.detach() for side, own in zip(SIDES, policy, strict=True)},
                      dict(zip(SIDES, reference, strict=True)))
            return (loss, outputs) if return_outputs else loss

        def note(self, policy: dict[str, Tensor], reference: dict[str, Tensor]) -> None:
            """Keep what TRL logs: implicit rewards, their gap, the share that is positive, and log-probabilities."""
            rewards = {side: self.preference_loss.beta * (policy[side] - reference[side]) for side in SIDES}
            gap = rewards["chosen"] - rewards["rejected"]
            found = {
                **{f"rewards/{side}": rewards[side] for side in SIDES},
                **{f"logps/{side}": policy[side] for side in SIDES},
                "rewards/margins": gap,
                "rewards/accuracies": (gap > 0).float() + 0.5 * (gap == 0).float(),
            }
            for name, values in found.items():
                self._metrics["train"][name].append(self.accelerator.gather(values).mean().item())

    return PreferenceTrainer
