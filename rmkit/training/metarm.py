"""The MetaRM step: the preference gradient is taken where the model tells fresh responses apart a little better."""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.core.seeds import derive_seed
from rmkit.data.parquet import load_split, read_column
from rmkit.data.samples import SPLIT, collate_samples, encode_samples, read_samples
from rmkit.data.token_batches import token_batches
from rmkit.losses import difference_loss
from rmkit.training.batching import take_tokens
from rmkit.training.config import RewardConfig
from rmkit.training.distributed import is_first_rank, wait_for_ranks
from rmkit.training.perturbation import FullParameters, ParameterView, WeightPerturbation
from rmkit.training.samplers import GlobalBatchSampler
from rmkit.training.zero import ShardedParameters, is_sharded


class MetaRMStep:
    """Before an optimizer step: theta' = theta + meta_learning_rate * gradient of J at theta; before it steps: theta.

    J is `difference_loss` over `meta_batch_size` prompts of `samples` (of `encode_samples`), on all processes together.
    All micro-batches of the step take their preference gradient at theta', and the optimizer applies it at theta: it
    sees no other gradient, and neither does clipping. First order: theta' counts as a constant. Which prompts, and
    their dropout, follow from the seed and the step's number alone, so that a resumed run goes on with the same ones.

    Source: arXiv 2401.06080, Eq. (11) to (14), and MetaRM, arXiv 2405.00438, Algorithm 1. They descend by plain
    gradient descent; here by the trainer's optimizer.
    """

    def __init__(
        self, samples: Dataset, args: RewardConfig, tokenizer: PreTrainedTokenizerBase, *, packed: bool
    ) -> None:
        assert args.meta_learning_rate is not None
        self.samples, self.args, self.tokenizer, self.packed = samples, args, tokenizer, packed
        self.rate: float = args.meta_learning_rate
        pairs = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
        prompts = args.meta_batch_size or pairs
        if prompts % args.world_size:
            raise_input_error(
                "meta_batch_size", f"a multiple of the {args.world_size} processes", prompts, "Change it."
            )
        seed = derive_seed(args.seed if args.data_seed is None else args.data_seed, "meta")
        lengths = read_column(samples, "length", "int32")
        self.order = GlobalBatchSampler(len(samples), batch=prompts, seed=seed, lengths=lengths)
        # A padded forward has the longest one's tokens for every response; as many as the most to any prompt is safe.
        self.sizes = (read_column(samples, "tokens", "int32") if packed
                      else lengths * read_column(samples, "responses", "int32").max())
        if args.max_tokens_per_batch is not None and self.sizes.max() > args.max_tokens_per_batch:
            raise_input_error(
                "max_tokens_per_batch",
                f"at least the {self.sizes.max()} tokens of the meta set's longest prompt with its responses",
                args.max_tokens_per_batch,
                "Raise it, or sample fewer or shorter responses.",
            )
        self.epoch: list[int] = []
        self.ascent = WeightPerturbation()
        self.step = -1
        self.optimizer: Any = None
        self.seen: list[Tensor] = []

    def begin(self, model: nn.Module, wrapped: Any, optimizer: Any, step: int) -> None:
        """Ascend if step `step` has not begun yet and is one with an ascent; `wrapped` is the engine around `model`."""
        if step == self.step:
            return
        self.step = step
        while hasattr(optimizer, "optimizer"):  # out of what accelerate and DeepSpeed put around it
            optimizer = optimizer.optimizer
        if optimizer is not self.optimizer:
            # Some of DeepSpeed's engines step within the last backward, on the very parameters that were moved.
            optimizer.register_step_pre_hook(lambda *_: self.ascent.restore())
            self.optimizer = optimizer
        if step % self.args.meta_steps == 0:
            self.climb(model, wrapped, step // self.args.meta_steps)

    def climb(self, model: nn.Module, wrapped: Any, number: int) -> None:
        """Ascent `number`. Raises `InputError` where there is a gradient and no parameter is changed by it."""
        wrapped.train()
        sharded = is_sharded(model)
        holding: ParameterView = ShardedParameters(wrapped) if sharded else FullParameters(model)
        device, process = self.args.device, self.args.process_index
        seed = derive_seed(self.args.seed, "ascent", number)
        batches = self.draw(number)
        count = sum(map(len, batches))
        with keep_random_state(device):
            torch.manual_seed(derive_seed(seed, process))
            for rows in batches:
                batch = collate_samples([self.samples[row] for row in rows], self.tokenizer, packed=self.packed)
                batch = {name: value.to(device) if torch.is_tensor(value) else value for name, value in batch.items()}
                logits = holding.forward(**take_tokens(batch, views=1)).logits[:, 0].float()
                rewards = logits.new_zeros(batch["present"].shape).masked_scatter(batch["present"], logits)
                difference = difference_loss(rewards, mask=batch["present"], reduction="sum")
                self.seen.append(torch.stack([difference.detach(), difference.new_tensor(len(rows))]))
                holding.differentiate(difference / count)
        # Processes that each hold all parameters have to round alike.
        generator = torch.Generator(device).manual_seed(derive_seed(seed, process) if sharded else seed)
        wanted, moved = self.ascent.climb(holding, self.rate, generator=generator, autocast=self.args.bf16)
        if wanted and not moved and self.rate:
            raise_input_error(
                "meta_learning_rate",
                "a step that changes a parameter",
                Verbatim(f"{self.rate}, which rounding takes away whole"),
                "Raise it, or train in float32.",
            )

    def draw(self, number: int) -> list[list[int]]:
        """This process' rows of `samples` in ascent `number`, by forward.

        There are no more forwards than for pairs or, with a token budget, as many as hold it, the same number on every
        process.
        """
        epoch, place = divmod(number, self.order.steps)
        if epoch != self.order.epoch or not self.epoch:
            self.order.epoch = epoch
            self.epoch = list(self.order)
        batch = self.epoch[place * self.order.batch:(place + 1) * self.order.batch]
        if self.args.max_tokens_per_batch is not None:
            largest_first = np.array(batch)[np.argsort(-self.sizes[batch], kind="stable")]
            deals = largest_first.reshape(-1, self.args.world_size)
            cuts = token_batches(self.sizes[deals].max(axis=1), self.args.max_tokens_per_batch, padded=not self.packed)
            return [deals[cut, self.args.process_index].tolist() for cut in cuts]
        mine = batch[self.args.process_index::self.args.world_size]
        forwards = min(self.args.gradient_accumulation_steps, len(mine))
        return [mine[forward::forwards] for forward in range(forwards)]

    def end(self) -> None:
        """Back to theta, however the training ended; another one may begin."""
        self.ascent.restore()
        self.step = -1

    def drain(self, gather: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """The mean of J over the prompts of all processes since the last call; `gather` stacks rows over processes."""
        if not self.seen:
            return {}
        total = gather(torch.stack(self.seen).sum(dim=0)[None]).sum(dim=0)
        self.seen = []
        return {"meta_difference": (total[0] / total[1]).item()}


def load_meta_set(
    data: str, folder: Path, tokenizer: PreTrainedTokenizerBase, max_length: int
) -> tuple[Dataset, dict[str, Any]]:
    """What can be used of the meta set `data`, encoded; and on the first process, what became of its rows.

    The first process reads it into `folder`, from which all load it.
    """
    facts = {}
    if is_first_rank():
        reading = read_samples(data, folder, tokenizer=tokenizer, max_length=max_length)
        print(reading)
        facts = {name: dict(value) if isinstance(value, Counter) else value for name, value in vars(reading).items()}
    wait_for_ranks()
    samples = load_split(folder / f"{SPLIT}.parquet", SPLIT, columns=("prompt", "responses"))
    return encode_samples(samples, tokenizer, max_length), facts


def check_meta(args: RewardConfig, given: bool) -> None:
    """Refuse a meta set without a step size, and the reverse."""
    if given != (args.meta_learning_rate is not None):
        raise_input_error(
            "meta_learning_rate and meta_data",
            "both or neither",
            Verbatim(f"{args.meta_learning_rate} with{'' if given else 'out'} a meta set"),
            "The paper's step size is its learning rate, 5e-6; it tries 1e-6 and 1e-5 too.",
        )


def check_precision(model: nn.Module) -> None:
    """Refuse a model in float16, where an ascent of the usual size is rounded away."""
    if any(parameter.dtype is torch.float16 and parameter.requires_grad for parameter in model.parameters()):
        raise_input_error(
            "model",
            "trainable parameters in float32 or bfloat16 with MetaRM's ascent",
            Verbatim("float16"),
            "Load it with dtype=torch.bfloat16 or torch.float32.",
        )


@contextlib.contextmanager
def keep_random_state(device: torch.device) -> Iterator[None]:
    """Whatever the block draws, what is drawn after it stays the same."""
    with torch.random.fork_rng([] if device.type == "cpu" else [device], device_type=device.type):
        yield
