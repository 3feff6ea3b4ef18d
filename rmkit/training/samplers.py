"""The order of the rows in an epoch, decided by seed, epoch and global batch alone."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Sampler
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from rmkit.core.checks import raise_input_error
from rmkit.core.seeds import derive_seed
from rmkit.data.collators import PairCollator
from rmkit.data.parquet import read_column
from rmkit.data.token_batches import token_batches
from rmkit.training.checkpoint import take_over_checkpoints
from rmkit.training.config import RewardConfig

WINDOW = 50  # global batches that are sorted by length together; small enough to stay near a random order


class GlobalBatchSampler(Sampler[int]):
    """Indices of one epoch, to be split into global batches of `batch` rows; their number is a multiple of `batch`.

    The last global batch is filled from the epoch's beginning (left out with `drop_last`), so that every process
    and every accumulation step has a full batch, and so that the rows of step t are the same on 1 process or on 8.
    With `lengths`, rows of similar length share a global batch. `epoch` is set by `SetEpochCallback`.
    """

    def __init__(
        self,
        count: int,
        *,
        batch: int,
        seed: int,
        shuffle: bool = True,
        lengths: ArrayLike | None = None,
        drop_last: bool = False,
    ) -> None:
        self.count = count
        self.batch = batch
        self.seed = seed
        self.shuffle = shuffle
        self.lengths = None if lengths is None else np.asarray(lengths)
        self.steps = count // batch if drop_last else -(-count // batch)
        self.epoch = 0

    def __len__(self) -> int:
        return self.steps * self.batch

    def __iter__(self) -> Iterator[int]:
        if not self.shuffle:
            yield from (index % self.count for index in range(len(self)))
            return
        generator = np.random.default_rng(derive_seed(self.seed, "order", self.epoch))
        order = np.arange(self.count, dtype=np.int32)  # 4 MB for a million rows
        generator.shuffle(order)
        order = np.resize(order, len(self))
        if self.lengths is not None:
            size = WINDOW * self.batch
            for start in range(0, len(order), size):
                window = order[start:start + size]
                window[:] = window[np.argsort(-self.lengths[window], kind="stable")]
            order = generator.permutation(order.reshape(-1, self.batch), axis=0).reshape(-1)
        yield from map(int, order)


class TokenBudgetBatchSampler(Sampler[list[int]]):
    """This process' batches of at most `tokens` tokens, `accumulation` of them per step; lists of indices.

    `sizes`: tokens of every pair, [pair], of its longer row where rows are `padded` to the longest of their batch.
    Pairs are sorted by size and assigned to the `processes` in turn, so that in every batch all processes have the
    same number of pairs of similar sizes; a few pairs are repeated to fill the last batches. Batches are built once;
    an epoch takes the steps in its own order. Raises `InputError` where a pair alone has more than `tokens` tokens.
    """

    def __init__(
        self,
        sizes: ArrayLike,
        *,
        tokens: int,
        padded: bool,
        seed: int,
        accumulation: int = 1,
        processes: int = 1,
        process: int = 0,
    ) -> None:
        sizes = np.asarray(sizes)
        if sizes.max() > tokens:
            raise_input_error(
                "max_tokens_per_batch",
                f"at least the {sizes.max()} tokens of the longest pair",
                tokens,
                "Raise it, or lower max_length.",
            )
        order = np.random.default_rng(derive_seed(seed, "ties")).permutation(len(sizes))
        order = np.resize(order, -(-len(order) // processes) * processes)
        shards = order[np.argsort(-sizes[order], kind="stable")].reshape(-1, processes)
        batches = [shards[rows] for rows in token_batches(sizes[shards].max(axis=1), tokens, padded=padded)]
        self.steps = [[batch[:, process].tolist() for batch in step] for step in pad_last_step(batches, accumulation)]
        self.seed = seed
        self.accumulation = accumulation
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.steps) * self.accumulation

    def __iter__(self) -> Iterator[list[int]]:
        for step in np.random.default_rng(derive_seed(self.seed, "order", self.epoch)).permutation(len(self.steps)):
            yield from self.steps[step]


def pad_last_step(batches: list[NDArray[np.intp]], accumulation: int) -> list[list[NDArray[np.intp]]]:
    """`accumulation` consecutive batches per step; the largest batches are halved until the last step is full."""
    while (missing := -len(batches) % accumulation):
        index = max(range(len(batches)), key=lambda index: len(batches[index]))
        largest = batches[index]
        if len(largest) == 1:  # nothing can be halved: repeat batches
            batches += itertools.islice(itertools.cycle(tuple(batches)), missing)
        else:
            batches[index:index + 1] = [largest[:len(largest) // 2], largest[len(largest) // 2:]]
    return [batches[start:start + accumulation] for start in range(0, len(batches), accumulation)]


def token_budget_dataloader(
    pairs: Dataset, collator: Callable[[list[Any]], Any], args: RewardConfig, *, views: int
) -> tuple[DataLoader, TokenBudgetBatchSampler]:
    """Batches of pairs of `encode_pairs` within `args.max_tokens_per_batch`, `views` copies of each counted.

    Returns the loader, which accelerate must not split over processes again, and its sampler.
    """
    assert args.max_tokens_per_batch is not None
    padded = isinstance(collator, PairCollator)
    batches = TokenBudgetBatchSampler(
        read_column(pairs, "length" if padded else "tokens", "int32") * (2 * views if padded else views),
        tokens=args.max_tokens_per_batch,
        padded=padded,
        seed=args.seed if args.data_seed is None else args.data_seed,
        accumulation=args.gradient_accumulation_steps,
        processes=args.world_size,
        process=args.process_index,
    )
    workers: dict[str, Any] = {
        "num_workers": args.dataloader_num_workers,
        "pin_memory": args.dataloader_pin_memory,
        "persistent_workers": args.dataloader_persistent_workers,
        "prefetch_factor": args.dataloader_prefetch_factor,
    }
    return DataLoader(pairs, batch_sampler=batches, collate_fn=collator, **workers), batches


class SetEpochCallback(TrainerCallback):
    """Sets the sampler's epoch, also after resuming."""

    sampler: GlobalBatchSampler | TokenBudgetBatchSampler

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Called before the epoch's first batch is loaded."""
        self.sampler.epoch = int(state.epoch or 0)


class ReproducibleTrainerMixin:
    """For a Trainer: the order of `GlobalBatchSampler`, complete checkpoints, and an error for a loss that diverges.

    The train dataset has a column `length`, in tokens. `train_sampling_strategy`: group_by_length, random or
    sequential.
    """

    train_dataset: Dataset
    args: Any
    _train_batch_size: int

    def __init__(self, *args: Any, **settings: Any) -> None:
        self.epochs = SetEpochCallback()
        super().__init__(*args, **settings)
        self.add_callback(take_over_checkpoints(self.args))  # type: ignore[attr-defined]
        self.add_callback(self.epochs)  # type: ignore[attr-defined]

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> GlobalBatchSampler:
        dataset = self.train_dataset if train_dataset is None else train_dataset
        args, strategy = self.args, self.args.train_sampling_strategy
        self.epochs.sampler = sampler = GlobalBatchSampler(
            len(dataset),
            batch=self._train_batch_size * args.gradient_accumulation_steps * args.world_size,
            seed=args.seed if args.data_seed is None else args.data_seed,
            shuffle=strategy != "sequential",
            lengths=read_column(dataset, "length", "int32") if strategy == "group_by_length" else None,
            drop_last=args.dataloader_drop_last,
        )
        return sampler

    def training_step(self, *args: Any, **settings: Any) -> Tensor:
        """The loss of a micro-batch, its gradient accumulated. Raises `InputError` for a loss that is not finite."""
        loss: Tensor = super().training_step(*args, **settings)  # type: ignore[misc]
        if not torch.isfinite(loss):
            raise_input_error("loss", "a finite number", loss.item(), "Lower learning_rate or set max_grad_norm.")
        return loss
