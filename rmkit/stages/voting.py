"""`rmkit vote`: an ensemble of reward models scores every pair, and says which labels to distrust."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from datasets import Dataset

from rmkit.core.configuration import as_dict
from rmkit.core.seeds import derive_seed
from rmkit.core.stages import Stage, open_stage
from rmkit.data.splits import SPLITS
from rmkit.data.tables import SIDES, load_split, write_table
from rmkit.evaluation.figures import draw_strength
from rmkit.preferences import Strength, estimate_noise_rate, preference_strength
from rmkit.ratings.ranking import auroc
from rmkit.stages.electing import Rewards, VoteConfig, vote_with_heads, vote_with_models

__all__ = ["VoteConfig", "vote"]


def vote(config: VoteConfig) -> Path:
    """Write each split with the members' rewards and the strength of every pair, and `strength.png`; the folder.

    The record says how the vote was taken, the estimated noise rate with its interval (cross-fitted votes alone),
    and, where labels were flipped on purpose, with what AUROC low strength finds them.
    """
    inputs = {"data": config.data, "model": config.model_name_or_path}
    pairs = {
        split: load_split(config.data, split, ("id", *SIDES))
        for split in SPLITS if split == "train" or (Path(config.data) / f"{split}.parquet").is_file()
    }
    with open_stage(config.output_dir, "vote", as_dict(config), inputs) as stage:
        if not stage.done:
            take = vote_with_heads if config.kind == "heads" else vote_with_models
            rewards = take(config, pairs, stage.directory)
            strengths = {split: preference_strength(*rewards[split]) for split in pairs}
            for split in pairs:
                write_votes(pairs[split], rewards[split], strengths[split], stage.directory / f"{split}.parquet")
            record_vote(stage, config, pairs, strengths)
        print(stage.record["summary"])
    return stage.directory


def write_votes(pairs: Dataset, rewards: Rewards, strength: Strength, path: Path) -> None:
    """The pairs with their votes."""
    columns = {
        "rewards_chosen": list(rewards.chosen.T),
        "rewards_rejected": list(rewards.rejected.T),
        "strength_mean": strength.mean,
        "strength_std": strength.std,
        "agreement": strength.agreement,
    }
    pairs = pairs.remove_columns([name for name in columns if name in pairs.column_names])  # of an earlier vote
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
