"""The voters of the ensembles' benchmark: ten of each kind, or one alone, on the same pairs with planted flips."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import peft
import torch
from datasets import Dataset
from numpy.typing import NDArray
from repair_study import FINAL, SHARES, VOTERS, Sides, judge, swap
from torch import nn
from ukp import BACKBONE, read_pairs, split_topics

from rmkit.core.seeds import derive_seed
from rmkit.ensembles.features import extract_features
from rmkit.ensembles.heads import train_heads
from rmkit.losses import symmetric_loss
from rmkit.models.adapters import WINDOW, AdaptersConfig, train_adapters
from rmkit.models.reward_model import load_reward_model, load_tokenizer
from rmkit.models.stack import AdapterStack
from rmkit.models.windows import Windows, draw_turns, gather_part
from rmkit.preferences import repair_labels, sample_label_flips
from rmkit.training.lora import add_lora

RATE = 0.3
LONGEST = 45  # tokens of an argument
MAX_LENGTH = 64  # with the end of the prompt
TOPICS = 16  # of the training topics, drawn per seed
LORA = AdaptersConfig()

Gaps = NDArray[np.float64]  # [member, pair]


@dataclass(frozen=True)
class World:
    """One seed's pairs as labelled, by part (train, validation, test), with features [side, pair, feature] and flips.

    Train labels are flipped in both pairs and features; validation labels too, test labels never.
    """

    pairs: Mapping[str, Dataset]
    sides: Mapping[str, Sides]
    planted: Mapping[str, NDArray[np.bool_]]


def read_short_pairs(path: Path) -> tuple[Dataset, NDArray[np.str_]]:
    """The pairs with two short arguments, and their topics."""
    rows, pairs = read_pairs(path)
    tokenizer = load_tokenizer(BACKBONE)
    length = {text: len(tokenizer(text)["input_ids"]) for row in rows for text in (row["chosen"], row["rejected"])}
    kept = [place for place, row in enumerate(rows)
            if max(length[row["chosen"]], length[row["rejected"]]) <= LONGEST]
    return pairs.select(kept), np.array([rows[place]["topic"] for place in kept])


def build_world(pairs: Dataset, topics: NDArray[np.str_], sides: Sides, seed: int) -> World:
    """Draw a seed's topics and flips."""
    split = split_topics(topics, seed)
    names = np.unique(topics[split["train"]])
    drawn = np.random.default_rng(derive_seed(seed, "topics")).choice(names, TOPICS, replace=False)
    split["train"] = split["train"][np.isin(topics[split["train"]], drawn)]
    planted = {
        name: sample_label_flips(np.ones(len(rows)), kind="uniform", rate=RATE, seed=derive_seed(seed, name, RATE))
        if name != "test" else np.zeros(len(rows), dtype=bool)
        for name, rows in split.items()
    }
    parts = {}
    for name, rows in split.items():
        labelled = [
            {**row, "chosen": row["rejected"], "rejected": row["chosen"]} if flip else row
            for row, flip in zip(pairs.select(rows).to_list(), planted[name], strict=True)
        ]
        parts[name] = Dataset.from_list(labelled)
    return World(parts, {name: swap(sides[:, rows], planted[name]) for name, rows in split.items()}, planted)


def fit_alone(model: nn.Module, windows: Windows, learning_rate: float, seed: int, own: int, half: bool) -> None:
    """Train one model by itself, in the order in which a member of the stack goes; `half`: matrix products in bf16."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=LORA.weight_decay, fused=True)
    steps = LORA.epochs * sum(-(-len(rows) // LORA.batch_size) for rows in windows.rows)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 1.0 / steps, total_iters=max(1, steps - 1))
    shared = np.random.default_rng(derive_seed(seed, "windows"))
    order = np.random.default_rng(derive_seed(own, "order"))
    for number in (number for _ in range(LORA.epochs) for number in shared.permutation(len(windows))):
        window = windows[int(number)]
        for batch in draw_turns(window, [order], LORA.batch_size):
            part = gather_part(window, batch)
            read, longest = torch.from_numpy(part.conversations[0]), part.longest
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                rewards = model(
                    input_ids=window.input_ids[read, :longest], attention_mask=window.attention_mask[read, :longest]
                ).logits[:, 0].float()
            chosen, rejected = (rewards[torch.from_numpy(places[0])] for places in part.places)
            optimizer.zero_grad()
            symmetric_loss(chosen, rejected).backward()
            optimizer.step()
            schedule.step()


@torch.no_grad()
def score_alone(model: nn.Module, windows: Windows, half: bool) -> NDArray[np.float64]:
    """Gap [pair] by one model, every conversation read once per window."""
    gaps = np.empty(len(windows.encoded))
    for window in (windows[number] for number in range(len(windows))):
        rewards = []
        for read in torch.arange(len(window.input_ids)).split(32):
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                logits = model(input_ids=window.input_ids[read], attention_mask=window.attention_mask[read]).logits
            rewards.append(logits[:, 0].double())
        found = torch.cat(rewards).numpy()
        gaps[window.rows] = found[window.places[0]] - found[window.places[1]]
    return gaps


def vote_alone(
    world: World, part: str, seed: int, member: int, learning_rate: float,
    adapt: Callable[[Any], nn.Module] | None = None,
) -> NDArray[np.float64]:
    """Gap [pair] on the pairs of `part` by one model trained on the train pairs; all weights, in bf16, or `adapt`'s.

    Without dropout, as the adapters.
    """
    tokenizer = load_tokenizer(BACKBONE)
    own = derive_seed(seed, "member", member)
    model = load_reward_model(BACKBONE, tokenizer, seed=own)
    trained = (model if adapt is None else adapt(model)).eval()
    cut = [Windows(world.pairs[name], tokenizer, MAX_LENGTH, size=WINDOW * LORA.batch_size, device="cpu", keep=True,
                   trunk=lambda input_ids, attention_mask: attention_mask)
           for name in dict.fromkeys(("train", part))]
    fit_alone(trained, cut[0], learning_rate, seed, own, half=adapt is None)
    return score_alone(trained, cut[-1], half=adapt is None)


def adapt_top(model: Any) -> nn.Module:
    """PEFT's adapters where the stack has them, and nowhere else."""
    names = list(AdapterStack(load_reward_model(BACKBONE, load_tokenizer(BACKBONE)), [0], rank=1, alpha=1.0).adapters)
    config = peft.LoraConfig(task_type="SEQ_CLS", r=LORA.rank, lora_alpha=int(LORA.alpha), target_modules=names,
                             modules_to_save=["classifier"])
    return peft.get_peft_model(model, config)


def adapt_all(model: Any) -> nn.Module:
    """The usual LoRA: adapters on all linear layers."""
    return add_lora(model, rank=LORA.rank, alpha=int(LORA.alpha), dropout=0.0)


def vote_with_adapters(world: World, part: str, seed: int, config: AdaptersConfig) -> Gaps:
    """Gaps of all members on the pairs of `part`."""
    features = {name: extract_features(world.pairs[name], BACKBONE, max_length=MAX_LENGTH)
                for name in dict.fromkeys(("train", part))}
    voters = train_adapters(world.pairs["train"], features["train"], BACKBONE, config, max_length=MAX_LENGTH, seed=seed)
    chosen, rejected = voters.score(world.pairs[part], features[part])
    return chosen - rejected


def vote_with_heads(world: World, seed: int, members: int) -> Gaps:
    """Gaps of all members on the train pairs, from features that are extracted for it."""
    features = extract_features(world.pairs["train"], BACKBONE, max_length=MAX_LENGTH)
    voters = train_heads(*features, replace(VOTERS, members=members), seed=seed)
    return voters.score(features.chosen) - voters.score(features.rejected)


def find_accuracy(world: World, strength: NDArray[np.float64] | None, seed: int) -> float:
    """Accuracy on held-out topics after the flip repair by `strength`; the share is chosen on noisy validation pairs.

    Without `strength`, of the labels as they are.
    """
    trials = []
    for share in (0.0,) if strength is None else SHARES:
        swapped = np.zeros(len(world.pairs["train"]), dtype=bool)
        if strength is not None:
            swapped = repair_labels(strength, recipe="flip", fraction=share).swapped
        model = train_heads(*swap(world.sides["train"], swapped), FINAL, seed=derive_seed(seed, "final"))
        trials.append((judge(model, world.sides["validation"]), -share, judge(model, world.sides["test"])))
    return max(trials)[2]
