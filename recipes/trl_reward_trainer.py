"""rmkit's losses in TRL: a RewardTrainer that uses the columns `target` and `margin` of repaired pairs.

    python recipes/trl_reward_trainer.py --model_name_or_path BASE --pairs REPAIRED/train.parquet --output_dir OUTPUT

It takes all options of TRL's RewardConfig. TRL itself supports `margin`; this adds soft, smoothed and flipped labels,
and losses other than Bradley-Terry. Everything else (tokenisation, metrics, centring, checkpoints, launchers) is TRL's.
"""

from dataclasses import dataclass, field

import torch
from datasets import Dataset
from transformers import HfArgumentParser
from trl import RewardConfig, RewardTrainer

from rmkit.core.checks import raise_input_error
from rmkit.losses import PAIR_LOSSES, reward_center_penalty


class RobustRewardTrainer(RewardTrainer):
    """TRL's RewardTrainer with a pair loss from rmkit.

    `loss` is a key of `rmkit.losses.PAIR_LOSSES`, and `loss_settings` has that loss's other arguments, such as
    {"flip_rate": 0.2} for "noise_corrected". If a dataset has a `target` column, every row needs a value.
    """

    def __init__(self, *args, loss="bradley_terry", loss_settings=None, **kwargs):
        if loss not in PAIR_LOSSES:
            raise_input_error("loss", f"one of {', '.join(PAIR_LOSSES)}", loss, "Choose one of these.")
        super().__init__(*args, **kwargs)
        self.pair_loss, self.loss_settings = PAIR_LOSSES[loss], loss_settings or {}
        self.collate_without_target, self.data_collator = self.data_collator, self.collate

    def _set_signature_columns_if_needed(self):
        super()._set_signature_columns_if_needed()
        if "target" not in self._signature_columns:
            self._signature_columns.append("target")

    def collate(self, examples):
        """TRL's batch, with `target` [pair] if the examples have it."""
        batch = self.collate_without_target(examples)
        if any("target" in example for example in examples):
            batch["target"] = torch.tensor([example["target"] for example in examples])
        return batch

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """The loss on the rewards of TRL's own forward pass, with TRL's metrics."""
        target, margin = inputs.pop("target", None), inputs.get("margin")
        _, outputs = super().compute_loss(
            model, inputs, return_outputs=True, num_items_in_batch=num_items_in_batch)
        chosen, rejected = outputs.logits.float().squeeze(-1).chunk(2)
        loss = self.pair_loss(chosen, rejected, target=target, margin=margin, **self.loss_settings)
        if self.args.center_rewards_coefficient is not None:
            penalty = reward_center_penalty(torch.stack([chosen, rejected], dim=1))
            loss = loss + self.args.center_rewards_coefficient * penalty
        return (loss, outputs) if return_outputs else loss


@dataclass
class Inputs:
    """The base model and the pairs."""

    model_name_or_path: str
    pairs: str = field(metadata={"help": "Parquet file: prompt, chosen, rejected and optionally target and margin"})


def main():
    inputs, config = HfArgumentParser((Inputs, RewardConfig)).parse_args_into_dataclasses()
    trainer = RobustRewardTrainer(
        model=inputs.model_name_or_path, args=config, train_dataset=Dataset.from_parquet(inputs.pairs))
    trainer.train()
    trainer.save_model()


if __name__ == "__main__":
    main()
