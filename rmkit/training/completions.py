"""What supervised fine-tuning and preference optimisation share: their settings, and the order of the rows."""

from dataclasses import dataclass
from typing import Any

from datasets import Dataset

from rmkit.core.checks import refuse
from rmkit.data.tables import read_column
from rmkit.training.arguments import TrainingSettings
from rmkit.training.checkpoint import CheckpointSealer
from rmkit.training.order import EpochSetter, PairOrder


@dataclass
class CompletionSettings(TrainingSettings):
    """Those of every training, and how often the rows are gone through where `max_steps` is not set."""

    num_train_epochs: float = 1.0
    weight_decay: float = 0.0

    def check(self) -> None:
        """Refuse what would be refused later, on every process."""
        super().check()
        if self.max_steps < 1 and not self.num_train_epochs > 0:
            refuse("num_train_epochs", "above 0, or max_steps", self.num_train_epochs, "Say how long to train.")


class OrderedRows:
    """For a Trainer: batches of rows of like length, in an order that seed, epoch and global batch decide alone."""

    train_dataset: Dataset
    args: Any
    _train_batch_size: int

    def __init__(self, *args: Any, checkpoints: int | None, **settings: Any) -> None:
        self.epochs = EpochSetter()
        super().__init__(*args, **settings, callbacks=[CheckpointSealer(checkpoints), self.epochs])  # type: ignore

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> PairOrder:
        dataset = self.train_dataset if train_dataset is None else train_dataset
        order = PairOrder(
            len(dataset),
            batch=self._train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size,
            seed=self.args.seed,
            lengths=read_column(dataset, "length", "int32"),
        )
        self.epochs.order = order
        return order
