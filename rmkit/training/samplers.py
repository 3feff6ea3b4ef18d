"""The order in which an epoch visits the pairs: a function of seed, epoch and global batch, of nothing else."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from datasets import Dataset
from numpy.typing import ArrayLike, NDArray
from torch.utils.data import DataLoader, Sampler
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from rmkit.core.checks import raise_input_error
from rmkit.core.seeds import derive_seed
from rmkit.data.collators import PairCollator
from rmkit.data.parquet import read_column
from rmkit.data.token_batches import token_batches
from rmkit.training.config import RewardConfig


class TokenBudgetBatchSampler(Sampler[list[int]]):
    """This process' batches of at most `tokens` tokens, `accumulation` of them to a step; lists of indices.

    `sizes`: tokens of every pair, [pair], of its longest row where rows are `padded` to that of their batch. Pairs are
    sorted by size and dealt out to the `processes`, so that in every batch they have as many pairs as each other, of
    like sizes; where that does not come out even, a few pairs come twice. The batches are cut once, which makes every
    epoch as long; an epoch takes the steps in an order of its own. Raises `InputError` where a pair alone has more
    tokens.
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
        deals = order[np.argsort(-sizes[order], kind="stable")].reshape(-1, processes)
        batches = [deals[cut] for cut in token_batches(sizes[deals].max(axis=1), tokens, padded=padded)]
        self.steps = [[batch[:, process].tolist() for batch in step] for step in pad_last_step(batches, accumulation)]
        self.seed = seed
        self.accumulation = accumulation
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.steps) * self.accumulation

    def __iter__(self) -> Iterator[list[int]]:
        for step in np.random.default_rng(derive_seed(self.seed, "order", self.epoch)).permutation(len(self.steps)):
            yield from self.steps[step]


WINDOW = 50  # global batches within which pairs are sorted by length; small enough to stay near a random order


class GlobalBatchSampler(Sampler[int]):
    """Indices of one epoch, cut later into global batches of `batch` pairs: always a multiple of `batch` of them.

    The last global batch is filled from the epoch's beginning (left out with `drop_last`), so that every process
    and every accumulation step has a full batch, and so that the pairs of step t are the same on 1 process or on 8.
    With `lengths`, pairs of like length share a global batch. `epoch` is set by the trainer.
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
            yield from (place % self.count for place in range(len(self)))
            return
        generator = np.random.default_rng(derive_seed(self.seed, "order", self.epoch))
        order = np.arange(self.count, dtype=np.int32)  # of a million pairs 4 MB, at most three times at once
        generator.shuffle(order)
        order = np.resize(order, len(self))
        if self.lengths is not None:
            size = WINDOW * self.batch
            for start in range(0, len(order), size):
                window = order[start:start + size]
                window[:] = window[np.argsort(-self.lengths[window], kind="stable")]
            order = generator.permutation(order.reshape(-1, self.batch), axis=0).reshape(-1)
        yield from map(int, order)


class SetEpochCallback(TrainerCallback):
    """Tells the order which epoch begins, after a resumption too."""

    order: GlobalBatchSampler | TokenBudgetBatchSampler

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **others: Any
    ) -> None:
        """Called before the epoch's first batch is drawn."""
        self.order.epoch = int(state.epoch or 0)


def pad_last_step(batches: list[NDArray[np.intp]], accumulation: int) -> list[list[NDArray[np.intp]]]:
    """`accumulation` neighbours to a step; for the last to be whole, batches of the most pairs are cut in two."""
    while (missing := -len(batches) % accumulation):
        place = max(range(len(batches)), key=lambda place: len(batches[place]))
        one = batches[place]
        if len(one) == 1:  # a step is filled as an epoch is: by pairs that come a second time
            batches += itertools.islice(itertools.cycle(tuple(batches)), missing)
        else:
            batches[place:place + 1] = [one[:len(one) // 2], one[len(one) // 2:]]
    return [batches[start:start + accumulation] for start in range(0, len(batches), accumulation)]


def token_budget_dataloader(
    pairs: Dataset, collator: Callable[[list[Any]], Any], args: RewardConfig, *, views: int
) -> tuple[DataLoader, TokenBudgetBatchSampler]:
    """Batches of pairs of `encode_pairs` within `args.max_tokens_per_batch`, `views` copies of each counted, and their order.

    They are this process' own, and stay so: accelerate, which deals out batches, has not to see them.
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
