"""rmkit's losses inside TRL: a RewardTrainer that reads the columns `target` and `margin` of repaired pairs.

    python recipes/trl_reward_trainer.py --model_name_or_path BASE --pairs REPAIRED/train.parquet --output_dir OUTPUT

It takes all options of TRL's RewardConfig. TRL reads `margin` by itself; what it lacks are soft, smoothed and flipped
labels, and losses other than Bradley-Terry's. Everything else (tokenisation, metrics, centring, checkpoints, launchers)
stays TRL's.
"""

from dataclasses import dataclass, field

import torch
from datasets import Dataset
from transformers import HfArgumentParser
from trl import RewardConfig, RewardTrainer

from rmkit.core.checks import raise_input_error
from rmkit.losses import PAIR_LOSSES, reward_center_penalty


class RobustRewardTrainer(RewardTrainer):
    """TRL's RewardTrainer with a pair loss of rmkit.

    `loss` is a name in `rmkit.losses.PAIR_LOSSES` and `loss_settings` what that loss takes besides targets and
    margins, such as {"flip_rate": 0.2} for "noise_corrected". Where a dataset has a `target` column, every row needs one.
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
        """TRL's batch, and `target` [pair] where the examples have one."""
        batch = self.collate_without_target(examples)
        if any("target" in example for example in examples):
            batch["target"] = torch.tensor([example["target"] for example in examples])
        return batch

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """The chosen loss on the rewards of TRL's own forward pass, whose metrics are kept."""
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
    """What is trained, and on what."""

    model_name_or_path: str
    pairs: str = field(metadata={"help": "Parquet file: prompt, chosen, rejected and, as wished, target and margin"})


def main():
    inputs, config = HfArgumentParser((Inputs, RewardConfig)).parse_args_into_dataclasses()
    trainer = RobustRewardTrainer(
        model=inputs.model_name_or_path, args=config, train_dataset=Dataset.from_parquet(inputs.pairs))
    trainer.train()
    trainer.save_model()


if __name__ == "__main__":
    main()
