"""`rmkit vote`: an ensemble of reward models scores every pair, and says which labels to distrust."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from datasets import Dataset

from rmkit.core.checks import refuse
from rmkit.core.configuration import as_dict
from rmkit.core.seeds import derive_seed
from rmkit.core.stages import Stage, open_stage
from rmkit.data.tables import load_split, write_table
from rmkit.evaluation.figures import draw_strength
from rmkit.models.heads import VoterLoss
from rmkit.preferences import Strength, estimate_noise_rate, preference_strength
from rmkit.ratings.ranking import auroc
from rmkit.stages.electing import Rewards, check_voters, vote_with_heads, vote_with_models

SPLITS = ("train", "validation", "test")


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
        check_voters(self)


def vote(config: VoteConfig) -> Path:
    """Write each split with the members' rewards and the strength of every pair, and `strength.png`; the folder.

    The record says how the vote was taken, the estimated noise rate with its interval (cross-fitted votes alone),
    and, where labels were flipped on purpose, with what AUROC low strength finds them.
    """
    inputs = {"data": config.data, "model": config.model_name_or_path}
    with open_stage(config.output_dir, "vote", as_dict(config), inputs) as stage:
        if not stage.done:
            pairs = {split: load_split(config.data, split) for split in SPLITS if has_split(config.data, split)}
            if "train" not in pairs:
                load_split(config.data, "train")  # says what is missing
            take = vote_with_heads if config.kind == "heads" else vote_with_models
            rewards = take(config, pairs, stage.directory)
            strengths = {split: preference_strength(*rewards[split]) for split in pairs}
            for split in pairs:
                write_votes(pairs[split], rewards[split], strengths[split], stage.directory / f"{split}.parquet")
            record_vote(stage, config, pairs, strengths)
        print(stage.record["summary"])
    return stage.directory


def has_split(folder: str, split: str) -> bool:
    """Whether the stage's folder has this split; only the train split must be there."""
    return (Path(folder) / f"{split}.parquet").is_file()


def write_votes(pairs: Dataset, rewards: Rewards, strength: Strength, path: Path) -> None:
    """The pairs with their votes."""
    columns = {
        "rewards_chosen": list(rewards.chosen.T),
        "rewards_rejected": list(rewards.rejected.T),
        "strength_mean": strength.mean,
        "strength_std": strength.std,
        "agreement": strength.agreement,
    }
    for name, values in columns.items():
        pairs = pairs.add_column(name, values)
    write_table(pairs, path)


def record_vote(
    stage: Stage, config: VoteConfig, pairs: Mapping[str, Dataset], strengths: Mapping[str, Strength]
) -> None:
    """Everything the vote found, into the stage's record and the figure."""
    train, strength = pairs["train"], strengths["train"]
    planted = np.asarray(train["planted"][:]) if "planted" in train.column_names else None
    rate = None
    if config.folds:
        prompts = [str(prompt) for prompt in train["prompt"]]
        rate = estimate_noise_rate(strength.mean, groups=prompts, seed=derive_seed(config.seed, "noise rate"))
    found = auroc(-strength.mean, planted) if planted is not None and 0 < planted.sum() < len(planted) else None
    draw_strength(strength.mean, strength.std, planted).savefig(stage.directory / "strength.png", dpi=150)
    voting = "cross-fitted" if config.folds else "in-sample"
    negative = float((strength.mean < 0).mean())
    summary = f"vote of {config.members} ({config.kind}, {voting}): strength below zero on {negative:.1%} of the pairs"
    if rate is not None:
        summary += f"; estimated noise {rate.rate:.1%} [{rate.low:.1%}, {rate.high:.1%}]"
    if found is not None:
        summary += f"; planted flips found with AUROC {found:.3f}"
    stage.record.update(
        rows_in=sum(map(len, pairs.values())),
        rows_out=sum(map(len, pairs.values())),
        kind=config.kind,
        members=config.members,
        loss=config.loss,
        voting=voting,
        noise_rate=None if rate is None else rate._asdict(),
        negative_share=negative,
        planted_auroc=found,
        summary=summary,
    )
