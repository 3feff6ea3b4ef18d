"""MetaRM: take the preference gradient at parameters perturbed along the gradient of the difference loss."""

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
    All micro-batches of the step take their preference gradient at theta', and the optimizer applies it at theta; the
    gradient of J reaches neither the optimizer nor clipping. First order: theta' counts as a constant. The prompts, and
    their dropout, follow from the seed and the step's number, so a resumed run continues with the same ones.

    Source: arXiv 2401.06080, Eq. (11) to (14), and MetaRM, arXiv 2405.00438, Algorithm 1. They use plain gradient
    descent; here the trainer's optimizer steps.
    """

    def __init__(
        self,
        model: nn.Module,
        samples: Dataset,
        args: RewardConfig,
        tokenizer: PreTrainedTokenizerBase,
        *,
        packed: bool,
    ) -> None:
        assert args.meta_learning_rate is not None
        if any(parameter.dtype is torch.float16 and parameter.requires_grad for parameter in model.parameters()):
            raise_input_error(
                "model",
                "trainable parameters in float32 or bfloat16 with MetaRM",
                Verbatim("float16, where the step is rounded to zero"),
                "Load it with dtype=torch.bfloat16 or torch.float32.",
            )
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
        self.sampler = GlobalBatchSampler(len(samples), batch=prompts, seed=seed, lengths=lengths)
        # In a padded batch every response has as many tokens as the longest; the largest number of responses is safe.
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
        self.perturbation = WeightPerturbation()
        self.step = -1
        self.optimizer: Any = None
        self.values: list[Tensor] = []  # [sum of J, prompts] of each forward since `pop_metrics`

    def start_step(self, model: nn.Module, wrapped: Any, optimizer: Any, step: int) -> None:
        """Perturb at the first micro-batch of step `step`, every `meta_steps` steps; `wrapped`: `model`'s engine."""
        if step == self.step:
            return
        self.step = step
        while hasattr(optimizer, "optimizer"):  # unwrap accelerate's and DeepSpeed's optimizers
            optimizer = optimizer.optimizer
        if optimizer is not self.optimizer:
            # Some of DeepSpeed's engines step within the last backward, on the very parameters that were moved.
            optimizer.register_step_pre_hook(lambda *_: self.perturbation.undo())
            self.optimizer = optimizer
        if step % self.args.meta_steps == 0:
            self.perturb(model, wrapped, step // self.args.meta_steps)

    def perturb(self, model: nn.Module, wrapped: Any, number: int) -> None:
        """Apply perturbation `number`. Raises `InputError` where there is a gradient and no parameter changes."""
        wrapped.train()
        sharded = is_sharded(model)
        view: ParameterView = ShardedParameters(wrapped) if sharded else FullParameters(model)
        device, process = self.args.device, self.args.process_index
        seed = derive_seed(self.args.seed, "ascent", number)
        batches = self.sample_prompts(number)
        count = sum(map(len, batches))
        with keep_random_state(device):
            torch.manual_seed(derive_seed(seed, process))
            for rows in batches:
                batch = collate_samples([self.samples[row] for row in rows], self.tokenizer, packed=self.packed)
                batch = {name: value.to(device) if torch.is_tensor(value) else value for name, value in batch.items()}
                logits = view.forward(**take_tokens(batch, views=1)).logits[:, 0].float()
                rewards = logits.new_zeros(batch["present"].shape).masked_scatter(batch["present"], logits)
                difference = difference_loss(rewards, mask=batch["present"], reduction="sum")
                self.values.append(torch.stack([difference.detach(), difference.new_tensor(len(rows))]))
                view.accumulate_gradient(difference / count)
        # Processes that each hold all parameters must round alike.
        generator = torch.Generator(device).manual_seed(derive_seed(seed, process) if sharded else seed)
        has_gradient, has_changed = self.perturbation.apply(
            view, self.rate, generator=generator, autocast=self.args.bf16
        )
        if has_gradient and not has_changed and self.rate:
            raise_input_error(
                "meta_learning_rate",
                "a step that changes a parameter",
                Verbatim(f"{self.rate}, which is rounded to no change"),
                "Raise it, or train in float32.",
            )

    def sample_prompts(self, number: int) -> list[list[int]]:
        """This process' rows of `samples` in perturbation `number`, by forward.

        At most as many forwards as for pairs or, with a token budget, as many as it requires; the same number on every
        process.
        """
        epoch, step = divmod(number, self.sampler.steps)
        if epoch != self.sampler.epoch or not self.epoch:
            self.sampler.epoch = epoch
            self.epoch = list(self.sampler)
        batch = self.epoch[step * self.sampler.batch:(step + 1) * self.sampler.batch]
        if self.args.max_tokens_per_batch is not None:
            largest_first = np.array(batch)[np.argsort(-self.sizes[batch], kind="stable")]
            shards = largest_first.reshape(-1, self.args.world_size)
            sizes = self.sizes[shards].max(axis=1)
            parts = token_batches(sizes, self.args.max_tokens_per_batch, padded=not self.packed)
            return [shards[part, self.args.process_index].tolist() for part in parts]
        process_rows = batch[self.args.process_index::self.args.world_size]
        forwards = min(self.args.gradient_accumulation_steps, len(process_rows))
        return [process_rows[forward::forwards] for forward in range(forwards)]

    def finish(self) -> None:
        """Restore theta after a training, also after one that failed; another one may start."""
        self.perturbation.undo()
        self.step = -1

    def pop_metrics(self, gather: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """The mean of J over the prompts of all processes since the last call; `gather` stacks rows over processes."""
        if not self.values:
            return {}
        total = gather(torch.stack(self.values).sum(dim=0)[None]).sum(dim=0)
        self.values = []
        return {"meta_difference": (total[0] / total[1]).item()}


def load_meta_set(
    data: str, folder: Path, tokenizer: PreTrainedTokenizerBase, max_length: int
) -> tuple[Dataset, dict[str, Any]]:
    """The usable rows of the meta set `data`, encoded; and on the first process, the counts of its rows.

    The first process reads it into `folder`, from which all load it.
    """
    summary = {}
    if is_first_rank():
        reading = read_samples(data, folder, tokenizer=tokenizer, max_length=max_length)
        print(reading)
        summary = {name: dict(value) if isinstance(value, Counter) else value for name, value in vars(reading).items()}
    wait_for_ranks()
    samples = load_split(folder / f"{SPLIT}.parquet", SPLIT, columns=("prompt", "responses"))
    return encode_samples(samples, tokenizer, max_length), summary


@contextlib.contextmanager
def keep_random_state(device: torch.device) -> Iterator[None]:
    """Restore the random state after the block."""
    with torch.random.fork_rng([] if device.type == "cpu" else [device], device_type=device.type):
        yield
