"""Adapters: many reward models on one backbone, by low-rank adapters and heads that are trained all together.

Every member is a model of its own, with its own initialisation and its own order of the data; what members share is
the frozen backbone. Its lower layers, the trunk, give the same states for all members and are run once; the top
layers, where the adapters are, run on the rows of all members at once. To what the adapted model says a member adds
what a head of its own makes of the frozen features (`rmkit.models.heads`): they are the same for all members too, and
a few adapted layers alone find far fewer flips in as many steps (benchmarks/ensembles.py).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import numpy as np
import safetensors.torch
import torch
from datasets import Dataset
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from rmkit.core.checks import Seen, refuse
from rmkit.core.seeds import derive_seed
from rmkit.losses import PAIR_LOSSES
from rmkit.models.features import Features
from rmkit.models.heads import Heads, VoterLoss
from rmkit.models.lessons import Lessons, measure, read_lessons
from rmkit.models.reward import load_reward_model, load_tokenizer
from rmkit.models.stack import AdapterStack
from rmkit.models.windows import Rows, Window, Windows, draw_turns, split_batch

HEADS = "heads.safetensors"
WINDOW = 16  # batches whose conversations are held at once


@dataclass(frozen=True)
class AdaptersConfig:
    """How many adapters there are, where, and how they are trained.

    rank, alpha: LoRA's; an adapter's part is scaled by alpha / rank.
    layers: how many of the top layers are adapted; a sixth of them, at least one, where not given. Ten members then
        cost about twice one LoRA run on all layers (benchmarks/throughput.py); twice the layers, twice that.
    hidden: units of each member's head on the frozen features.
    epochs: passes over the pairs; the learning rate falls linearly to zero over them.
    weight_decay: AdamW's, decoupled.
    tokens_at_once: in one forward, over its members; it bounds the memory and changes nothing else.
    """

    members: int = 10
    rank: int = 8
    alpha: float = 16.0
    layers: int | None = None
    hidden: int = 64
    loss: VoterLoss = "symmetric"
    epochs: int = 3
    batch_size: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    tokens_at_once: int = 4096

    def __post_init__(self) -> None:
        for name in ("members", "rank", "hidden", "epochs", "batch_size", "tokens_at_once"):
            if getattr(self, name) < 1:
                refuse(name, "at least 1", getattr(self, name), f"Raise {name}.")
        for name, usual in (("alpha", 16), ("learning_rate", 0.001)):
            if not 0 < getattr(self, name) < math.inf:
                refuse(name, "a positive number", getattr(self, name), f"Take {usual}.")
        if not 0 <= self.weight_decay < math.inf:
            refuse("weight_decay", "a number that is not negative", self.weight_decay, "Take 0.01.")
        if self.loss not in get_args(VoterLoss):
            refuse("loss", f"one of {', '.join(get_args(VoterLoss))}", self.loss, "Choose the voters' loss.")


@dataclass(frozen=True)
class Adapters:
    """Members on the base at `path`, as `train_adapters` gives them: a reward is the stack's and the head's, added."""

    stack: AdapterStack
    heads: Heads
    tokenizer: PreTrainedTokenizerBase
    path: str | Path
    max_length: int
    config: AdaptersConfig

    def cut(self, pairs: Dataset, *, keep: bool) -> Windows:
        """`pairs` in windows that the members can read."""
        return Windows(
            pairs, self.tokenizer, self.max_length, size=WINDOW * self.config.batch_size,
            trunk=self.stack.run_trunk, device=self.stack.model.device, keep=keep,
        )

    @torch.no_grad()
    def score(self, pairs: Dataset, features: Features) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Rewards of chosen and rejected, each [member, pair], in reward units, not rescaled between members.

        `features`: those of the pairs, as `extract_features` gives them on the members' base. Raises `InputError`
        when a reward is not finite, and `OverLong` for a response that does not fit.
        """
        members = self.stack.members
        rewards = np.stack([self.heads.score(side) for side in features])
        windows = self.cut(pairs, keep=False)
        for window in tqdm((windows[number] for number in range(len(windows))), "Scoring pairs", len(windows),
                           unit="window"):
            count, longest = window.input_ids.shape
            at_once = max(1, self.config.tokens_at_once // (members * longest))
            parts = [
                self.stack.run_members(*gather(window, np.tile(part, (members, 1)), longest))
                for part in np.array_split(np.arange(count), -(-count // at_once))
            ]
            found = torch.cat(parts, dim=1).double().cpu().numpy()
            for side in range(2):
                rewards[side][:, window.rows] += found[:, window.places[side]]
        if not np.isfinite(rewards).all():
            refuse("rewards", "finite numbers", Seen("NaN or infinity"), "Lower learning_rate.")
        return rewards[0], rewards[1]

    def save(self, folder: str | Path) -> None:
        """Each member's adapted part as a PEFT adapter of its own (folder/0, folder/1, ...), and heads.safetensors."""
        self.stack.save(folder, self.path)
        safetensors.torch.save_file(vars(self.heads), Path(folder) / HEADS)


def train_adapters(
    pairs: Dataset,
    features: Features,
    path: str | Path,
    config: AdaptersConfig,
    *,
    max_length: int = 1024,
    target: ArrayLike | None = None,
    margin: ArrayLike | None = None,
    seed: int,
    trust_remote_code: bool = False,
) -> Adapters:
    """`config.members` reward models on the base at `path`, trained on all pairs.

    Args:
        pairs: with `prompt`, `chosen`, `rejected`; prompts are cut from the left to fit `max_length` tokens.
        features: those of the pairs, as `extract_features` gives them on the base at `path`.
        target: [pair], probability in [0, 1] that `chosen` is truly preferred; 1 where not given.
        margin: [pair], reward units, subtracted from the gap; 0 where not given.
        seed: member m has the same start and the same order of the data whatever the number of members.

    A member is what it would be if trained alone: the loss is a sum over members, and AdamW works number by number.

    Raises `InputError` for fewer than two pairs, values out of range, and a base without blocks of linear layers;
    `OverLong` for a response that does not fit.

    Source: LoRA, arXiv 2106.09685; voting as in arXiv 2401.06080, Section 2.2, which fine-tunes whole models that
    differ by data order. Here adapters on the top layers, each with a head on frozen features, differ by data order
    and initialisation; the order of the windows of pairs (`rmkit.models.windows`) is the same for all members, their
    ways through each are their own.
    """
    lessons = read_lessons(*features, target, margin)
    tokenizer = load_tokenizer(path, trust_remote_code=trust_remote_code)
    model = load_reward_model(path, tokenizer, seed=seed, trust_remote_code=trust_remote_code)
    seeds = [derive_seed(seed, "member", member) for member in range(config.members)]
    stack = AdapterStack(model, seeds, rank=config.rank, alpha=config.alpha, layers=config.layers)
    stack.model.eval().to("cuda" if torch.cuda.is_available() else "cpu")
    heads = Heads.start(*measure(lessons), config.hidden, [derive_seed(own, "start") for own in seeds])
    adapters = Adapters(stack, heads, tokenizer, path, max_length, config)
    fit(adapters, pairs, lessons, seeds, seed)
    return replace(adapters, heads=heads.detach())


def fit(adapters: Adapters, pairs: Dataset, lessons: Lessons, seeds: Sequence[int], seed: int) -> None:
    """Train all members; `seeds` [member] decide each one's order of the data, `seed` the order of the windows."""
    stack, heads, config = adapters.stack, adapters.heads, adapters.config
    windows = adapters.cut(pairs, keep=True)
    optimizer = torch.optim.AdamW(
        [*stack.parameters(), *heads.parameters], lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
    )
    steps = config.epochs * sum(-(-len(rows) // config.batch_size) for rows in windows.rows)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 1.0 / steps, total_iters=max(1, steps - 1))
    orders = [np.random.default_rng(derive_seed(each, "order")) for each in seeds]
    shared = np.random.default_rng(derive_seed(seed, "windows"))
    with tqdm(total=steps, desc="Training adapters", unit="step") as bar:
        for number in (number for _ in range(config.epochs) for number in shared.permutation(len(windows))):
            window = windows[int(number)]
            for pairs_of_step in draw_turns(window, orders, config.batch_size):
                optimizer.zero_grad()
                for part in split_batch(window, pairs_of_step, config.tokens_at_once):
                    rewards = stack.run_members(
                        *gather(window, part.conversations, part.longest), members=part.members
                    )
                    own = heads.select(part.members).run(lessons.gather(part.rows)).to(rewards.device)
                    sides = torch.from_numpy(np.concatenate(part.places, axis=1)).to(rewards.device)
                    chosen, rejected = (rewards.gather(1, sides) + own).chunk(2, dim=1)
                    losses = PAIR_LOSSES[config.loss](
                        chosen.flatten(),
                        rejected.flatten(),
                        target=lessons.target[part.rows].flatten().to(rewards.device),
                        margin=lessons.margin[part.rows].flatten().to(rewards.device),
                        reduction="sum",  # over members too: no member's gradient sees another
                    )
                    (losses / pairs_of_step.shape[1]).backward()
                optimizer.step()
                schedule.step()
                bar.update()


def gather(window: Window, conversations: Rows, longest: int) -> tuple[Tensor, Tensor, Tensor]:
    """States [member * row, token, hidden], tokens and mask of `conversations` [member, row], cut at `longest`."""
    chosen = torch.from_numpy(conversations.ravel()).to(window.states.device)
    states, tokens, mask = (
        each[:, :longest][chosen] for each in (window.states, window.input_ids, window.attention_mask)
    )
    return states, tokens, mask
