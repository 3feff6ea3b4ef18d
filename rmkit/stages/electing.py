"""Who votes: heads on frozen features, or fine-tuned reward models; and how they come by their rewards."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray

from rmkit.core.checks import Seen, refuse
from rmkit.core.configuration import build
from rmkit.core.seeds import derive_seed
from rmkit.data.tables import write_table
from rmkit.models.features import Features, extract_features
from rmkit.models.folds import assign_folds
from rmkit.models.heads import HeadsConfig, VoterLoss, cross_fit, train_heads
from rmkit.models.reward import score_with
from rmkit.stages.training import TrainConfig, train

FEATURES = "features"
MEMBERS = "members"


@dataclass
class VoteConfig:
    """Let `members` reward models on the base `model_name_or_path` score the pairs in the stage folder `data`.

    `kind`: "heads" are small heads on its frozen features (`heads`: the keys of HeadsConfig), a matter of seconds;
    "full" are fine-tuned models, the paper's way (`train`: the keys of `rmkit train`). Members differ by their
    initialisation and their order of the data. `folds` of 2 or more: a train pair is scored by members that were
    trained on the other folds (cross-fitted), which an estimate of the noise rate needs; 0: by members that were
    trained on it (in-sample, the paper's way). `loss`: what the voters are trained under; "symmetric" finds wrong
    labels better, "bradley_terry" is the paper's. Validation and test pairs are scored by members that have not
    seen them.
    """

    data: str
    model_name_or_path: str
    output_dir: str
    kind: Literal["heads", "full"] = "heads"
    members: int = 10
    folds: int = 5
    loss: VoterLoss = "symmetric"
    max_length: int = 1024
    batch_size: int = 32
    seed: int = 0
    trust_remote_code: bool = False
    heads: dict[str, Any] = field(default_factory=dict)
    train: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.members < 2:
            refuse("members", "2 or more", self.members, "The paper takes 10.")
        if self.folds == 1 or self.folds < 0:
            refuse("folds", "0 (in-sample), or 2 or more", self.folds, "5 is usual.")
        if self.batch_size < 1:
            refuse("batch_size", "at least 1", self.batch_size, "32 is usual.")
        unused = "train" if self.kind == "heads" else "heads"
        if getattr(self, unused):
            refuse(unused, f"no keys with kind {self.kind!r}", getattr(self, unused), "Remove them.")
        if self.kind == "heads":  # built once, so that a fault in them is told before anything starts
            heads_config(self)
        else:
            member_config(self, self.data, Path(self.output_dir), 0)


class Rewards(NamedTuple):
    """What the members give the two sides of each pair: [member, pair] each."""

    chosen: NDArray[np.float64]
    rejected: NDArray[np.float64]


def heads_config(config: VoteConfig) -> HeadsConfig:
    """The heads' configuration, with the vote's members and loss."""
    return build(HeadsConfig, own_keys(config.heads, members=config.members, loss=config.loss), "heads")


def member_config(config: VoteConfig, data: str, folder: Path, member: int) -> TrainConfig:
    """One fine-tuned member's configuration: the seed alone tells it from the others."""
    seed = derive_seed(config.seed, "member", member)
    fixed = {"data": data, "model_name_or_path": config.model_name_or_path, "output_dir": str(folder), "seed": seed}
    shared = {"loss": config.loss, "max_length": config.max_length, "trust_remote_code": config.trust_remote_code}
    return build(TrainConfig, own_keys(config.train, **fixed, **shared), "train")


def own_keys(settings: Mapping[str, Any], **fixed: Any) -> dict[str, Any]:
    """A section's settings with those that the vote itself decides."""
    taken = sorted(set(settings) & set(fixed))
    if taken:
        refuse(taken[0], "a key of this section alone", Seen("one that the vote sets"), "Set it on the vote itself.")
    return {**settings, **fixed}


def vote_with_heads(config: VoteConfig, pairs: Mapping[str, Dataset], folder: Path) -> dict[str, Rewards]:
    """Rewards by split, from heads trained together on features that are computed once and kept in `folder`."""
    heads = heads_config(config)
    features = {split: voter_features(config, rows, folder) for split, rows in pairs.items()}
    lessons = features["train"]
    trained = train_heads(lessons.chosen, lessons.rejected, heads, seed=config.seed)
    rewards = {
        split: Rewards(trained.score(sides.chosen), trained.score(sides.rejected))
        for split, sides in features.items()
    }
    if config.folds:
        prompts = [str(prompt) for prompt in pairs["train"]["prompt"]]
        rewards["train"] = Rewards(*cross_fit(
            lessons.chosen, lessons.rejected, heads, groups=prompts, folds=config.folds, seed=config.seed
        ))
    return rewards


def voter_features(config: VoteConfig, rows: Dataset, folder: Path) -> Features:
    """Frozen features of one split's pairs."""
    return extract_features(
        rows,
        config.model_name_or_path,
        max_length=config.max_length,
        batch_size=config.batch_size,
        cache_dir=folder / FEATURES,
        trust_remote_code=config.trust_remote_code,
    )


def vote_with_models(config: VoteConfig, pairs: Mapping[str, Dataset], folder: Path) -> dict[str, Rewards]:
    """Rewards by split, from models fine-tuned one after another; those that are finished are not trained again.

    Cross-fitted, the members of the first fold score the validation and the test pairs.
    """
    rewards = {split: Rewards(*np.empty((2, config.members, len(rows)))) for split, rows in pairs.items()}
    lessons = pairs["train"]
    fold_of_pair = np.zeros(len(lessons), dtype=np.int64)
    if config.folds:
        prompts = [str(prompt) for prompt in lessons["prompt"]]
        fold_of_pair = assign_folds(prompts, config.folds, seed=derive_seed(config.seed, "folds"))
    for fold in range(max(1, config.folds)):
        data, scored = config.data, np.arange(len(lessons))
        if config.folds:
            scored = np.flatnonzero(fold_of_pair == fold)
            data = str(write_fold(lessons, np.flatnonzero(fold_of_pair != fold), folder / MEMBERS / f"fold-{fold}"))
        for member in range(config.members):
            place = folder / MEMBERS / (f"{member}-without-fold-{fold}" if config.folds else str(member))
            train(member_config(config, data, place, member))
            score_member(config, place, lessons.select(scored), rewards["train"], member, scored)
            for split in pairs.keys() - {"train"}:
                if fold == 0:
                    score_member(config, place, pairs[split], rewards[split], member, np.arange(len(pairs[split])))
    return rewards


def write_fold(lessons: Dataset, rows: NDArray[np.intp], folder: Path) -> Path:
    """The folder with the pairs that one fold's members are trained on; left alone once it is there."""
    path = folder / "train.parquet"
    if not path.exists():  # a new time of writing would make finished members look outdated
        folder.mkdir(parents=True, exist_ok=True)
        write_table(lessons.select(rows), path)
    return folder


def score_member(
    config: VoteConfig, place: Path, rows: Dataset, rewards: Rewards, member: int, places: NDArray[np.intp]
) -> None:
    """Put one member's rewards of `rows` into their `places` in `rewards`."""
    found = score_with(
        place, rows, max_length=config.max_length, batch_size=config.batch_size,
        trust_remote_code=config.trust_remote_code,
    )
    for side, values in zip(rewards, found, strict=True):
        side[member, places] = values
