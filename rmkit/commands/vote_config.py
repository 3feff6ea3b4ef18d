"""Who votes: the vote's configuration, that of its members, and how heads on frozen features come by their rewards."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray

from rmkit.commands.train import TrainConfig
from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.core.legacy_config import build_config
from rmkit.core.seeds import derive_seed
from rmkit.data.parquet import prompt_ids
from rmkit.data.token_batches import MAX_TOKENS
from rmkit.ensembles.features import Features, extract_features
from rmkit.ensembles.heads import HeadsConfig, VoterLoss, cross_val_rewards, train_heads

FEATURES = "features"
SECTIONS = {"heads": "heads", "full": "train"}  # where each kind has its keys


@dataclass
class VoteConfig:
    """Let `members` reward models on the base `model_name_or_path` score the pairs in the stage folder `data`.

    `kind`: "heads" are small heads on its frozen features (`heads`: the keys of HeadsConfig), a matter of seconds;
    "full" are fine-tuned models, the paper's way (`train`: the keys of `rmkit train`). Members differ
    by their initialisation and their order of the data. `folds` of 2 or more: a train pair is scored by members that
    were trained on the other folds (cross-fitted), which an estimate of the noise rate needs; 0: by members that were
    trained on it (in-sample, the paper's way). `loss`: what the voters are trained under; "symmetric" finds wrong
    labels better, "bradley_terry" is the paper's. Validation and test pairs are scored by members that have not
    seen them. Pairs are read `max_tokens_per_batch` tokens at a time, or one response.

    Members of kind "full" are trained one after another, or each by a job of its own, on any machine: `member` (0 to
    `members` - 1) makes that one alone, in the folder `output_dir`-members/N, and `merge` makes the vote out of what
    lies in these folders, with no model and no accelerator. A member that has not finished is refused by name;
    `partial` merges those that have, 2 or more.
    """

    data: str
    model_name_or_path: str
    output_dir: str
    kind: Literal["heads", "full"] = "heads"
    members: int = 10
    folds: int = 5
    loss: VoterLoss = "symmetric"
    max_length: int = 1024
    max_tokens_per_batch: int = MAX_TOKENS
    seed: int = 0
    trust_remote_code: bool = False
    heads: dict[str, Any] = field(default_factory=dict)
    train: dict[str, Any] = field(default_factory=dict)
    member: int | None = None
    merge: bool = False
    partial: bool = False

    def __post_init__(self) -> None:
        if self.members < 2:
            raise_input_error("members", "2 or more", self.members, "The paper takes 10.")
        if self.folds == 1 or self.folds < 0:
            raise_input_error("folds", "0 (in-sample), or 2 or more", self.folds, "5 is usual.")
        if self.max_tokens_per_batch < 1:
            raise_input_error(
                "max_tokens_per_batch", "at least 1", self.max_tokens_per_batch, f"{MAX_TOKENS} is usual."
            )
        for kind, section in SECTIONS.items():
            if kind != self.kind and getattr(self, section):
                raise_input_error(section, f"no keys with kind {self.kind!r}", getattr(self, section), "Remove them.")
        self.check_job()
        if self.kind == "heads":  # built once, so that a fault in them is told before anything starts
            heads_config(self)
        else:
            member_config(self, self.data, Path(self.output_dir), 0)

    def check_job(self) -> None:
        """Refuse to make a part of a vote that it does not have."""
        if self.kind != "full" and (self.merge or self.member is not None):
            raise_input_error(
                "merge" if self.merge else "member",
                "members of kind full",
                Verbatim(f"{self.kind}, which are trained together"),
                "Vote without it.",
            )
        if self.member is not None:
            if not 0 <= self.member < self.members:
                raise_input_error(
                    "member",
                    f"one of 0 to {self.members - 1}, the members being {self.members}",
                    self.member,
                    "Count from 0.",
                )
            if self.merge:
                raise_input_error(
                    "member and merge", "one of them", Verbatim("both"), "Merge when the members have finished."
                )
        if self.partial and not self.merge:
            raise_input_error(
                "partial", "merge beside it", Verbatim("partial alone"), "It is members being merged that may be few."
            )


class EnsembleRewards(NamedTuple):
    """What the members give the two sides of each pair: [member, pair] each."""

    chosen: NDArray[np.float64]
    rejected: NDArray[np.float64]


def heads_config(config: VoteConfig) -> HeadsConfig:
    """The heads' configuration, with the vote's members and loss."""
    return build_config(HeadsConfig, merge_settings(config.heads, members=config.members, loss=config.loss), "heads")


def member_config(config: VoteConfig, data: str, folder: Path, member: int) -> TrainConfig:
    """One fine-tuned member's configuration: the seed alone tells it from the others."""
    seed = derive_seed(config.seed, "member", member)
    fixed = {"data": data, "model_name_or_path": config.model_name_or_path, "output_dir": str(folder), "seed": seed}
    shared = {"loss": config.loss, "max_length": config.max_length, "trust_remote_code": config.trust_remote_code}
    return build_config(TrainConfig, merge_settings(config.train, **fixed, **shared), "train")


def merge_settings(settings: Mapping[str, Any], **fixed: Any) -> dict[str, Any]:
    """A section's settings with those that the vote itself decides."""
    taken = sorted(set(settings) & set(fixed))
    if taken:
        raise_input_error(
            taken[0], "a key of this section alone", Verbatim("one that the vote sets"), "Set it on the vote itself."
        )
    return {**settings, **fixed}


def score_with_heads(config: VoteConfig, pairs: Mapping[str, Dataset], folder: Path) -> dict[str, EnsembleRewards]:
    """Rewards by split, from heads trained together on features that are computed once and kept in `folder`."""
    heads = heads_config(config)
    features = {split: extract_voter_features(config, rows, folder) for split, rows in pairs.items()}
    lessons = features["train"]
    trained = train_heads(lessons.chosen, lessons.rejected, heads, seed=config.seed)
    rewards = {
        split: EnsembleRewards(trained.score(sides.chosen), trained.score(sides.rejected))
        for split, sides in features.items() if split != "train" or not config.folds
    }
    if config.folds:
        prompts = prompt_ids(pairs["train"])
        rewards["train"] = EnsembleRewards(*cross_val_rewards(
            lessons.chosen, lessons.rejected, heads, groups=prompts, folds=config.folds, seed=config.seed
        ))
    return rewards


def extract_voter_features(config: VoteConfig, rows: Dataset, folder: Path) -> Features:
    """Frozen features of one split's pairs."""
    return extract_features(
        rows,
        config.model_name_or_path,
        max_length=config.max_length,
        max_tokens_per_batch=config.max_tokens_per_batch,
        cache_dir=folder / FEATURES,
        trust_remote_code=config.trust_remote_code,
    )
