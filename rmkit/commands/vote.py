"""`rmkit vote`: an ensemble of reward models scores every pair, and says which labels to distrust."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from rmkit.commands.vote_config import EnsembleRewards, VoteConfig, score_with_heads
from rmkit.commands.vote_members import (
    check_missing_members,
    find_folder,
    find_missing_members,
    finished_members,
    hash_inputs,
    merge_votes,
    run_member,
)
from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.core.legacy_config import as_dict
from rmkit.core.seeds import derive_seed
from rmkit.core.stage import Stage, input_hash, open_stage, read_record
from rmkit.data.memmap import memmap_zeros
from rmkit.data.parquet import PAIR_SIDES, load_split, prompt_ids, read_column, write_table
from rmkit.data.splits import SPLITS
from rmkit.evaluation.figures import draw_strength
from rmkit.metrics.correlation import auroc
from rmkit.preferences import Strength, estimate_noise_rate, preference_strength
from rmkit.training.zero import under_launcher

PAIRS_AT_ONCE = 2**16
# What says how a vote comes about and not what it is: all at once, or its members one by one.
JOB = ("member", "merge", "partial")


def vote(config: VoteConfig) -> Path:
    """Write each split with the members' rewards and the strength of every pair, and `strength.png`; the folder.

    The record says how the vote was taken, the estimated noise rate with its interval (cross-fitted votes alone),
    where labels were flipped on purpose, with what AUROC low strength finds them, and, of a partial vote, which
    members are absent and why. With `member`, it is that member's part alone that is made, and its folder returned.
    """
    if under_launcher():
        raise_input_error(
            "vote", "one process", Verbatim("a launcher's rank"), "Set train.processes; members start what they need."
        )
    pairs = {
        split: load_split(config.data, split, ("id", *PAIR_SIDES))
        for split in SPLITS if split == "train" or (Path(config.data) / f"{split}.parquet").is_file()
    }
    if config.member is not None:
        return run_member(config, config.member, pairs, hash_inputs(config, pairs))
    settings = {key: value for key, value in as_dict(config).items() if key not in JOB}
    inputs: dict[str, str | Path] = {"data": config.data, "model": config.model_name_or_path}
    digests: dict[str, str] = {}
    absent: dict[int, str] = {}
    if config.kind == "full" and not is_cached(config.output_dir, settings, inputs):
        digests = hash_inputs(config, pairs)
        absent = find_missing_members(config, digests)  # members of another vote are refused before anything is changed
        if config.merge and absent:
            check_missing_members(config, absent)
            inputs |= {f"member {member}": find_folder(config, member) for member in finished_members(config, absent)}
    with open_stage(config.output_dir, "vote", settings, inputs) as stage:
        if not stage.done:
            if config.kind == "heads":
                rewards = score_with_heads(config, pairs, stage.directory)
            else:
                if not config.merge:
                    for member in absent:
                        run_member(config, member, pairs, digests)
                    absent = {}
                rewards = merge_votes(config, pairs, finished_members(config, absent))
            strengths = {split: strength_in_blocks(rewards[split]) for split in pairs}
            for split in pairs:
                write_votes(pairs[split], rewards[split], strengths[split], stage.directory / f"{split}.parquet")
            record_vote(stage, config, pairs, strengths, absent)
        print(stage.record["summary"])
    return stage.directory


def is_cached(directory: str, settings: Mapping[str, Any], inputs: Mapping[str, str | Path]) -> bool:
    """Whether the whole vote lies in `directory` already; the members' folders may then be gone."""
    record = read_record(directory) or {}
    wanted = {key: value for key, value in settings.items() if key != "output_dir"}
    hashes = {role: input_hash(source) for role, source in inputs.items()}
    return bool(record.get("config") == wanted and record.get("inputs") == hashes)


def strength_in_blocks(rewards: EnsembleRewards) -> Strength:
    """`preference_strength`, some pairs at a time, since rewards need not fit into memory."""
    pairs = rewards.chosen.shape[1]
    found = memmap_zeros((len(Strength._fields), pairs), np.float64)
    for start in range(0, pairs, PAIRS_AT_ONCE):
        part = slice(start, start + PAIRS_AT_ONCE)
        found[:, part] = preference_strength(*(side[:, part] for side in rewards))
    return Strength(*found)


def write_votes(pairs: Dataset, rewards: EnsembleRewards, strength: Strength, path: Path) -> None:
    """The pairs with their votes."""
    columns = {
        "rewards_chosen": rewards.chosen.T,
        "rewards_rejected": rewards.rejected.T,
        "strength_mean": strength.mean,
        "strength_std": strength.std,
        "agreement": strength.agreement,
    }
    write_table(pairs, path, columns)


def record_vote(
    stage: Stage,
    config: VoteConfig,
    pairs: Mapping[str, Dataset],
    strengths: Mapping[str, Strength],
    absent: Mapping[int, str],
) -> None:
    """Everything the vote found, into the stage's record and the figure."""
    train, strength = pairs["train"], strengths["train"]
    planted = read_column(train, "is_flipped", np.bool_) if "is_flipped" in train.column_names else None
    rate = None
    if config.folds:
        prompts = prompt_ids(train)
        rate = estimate_noise_rate(strength.mean, groups=prompts, seed=derive_seed(config.seed, "noise rate"))
    found = auroc(-strength.mean, planted) if planted is not None and 0 < planted.sum() < len(planted) else None
    draw_strength(strength.mean, strength.std, planted).savefig(stage.directory / "strength.png", dpi=150)
    voting = "cross-fitted" if config.folds else "in-sample"
    negative = float((strength.mean < 0).mean())
    voted = config.members - len(absent)
    turnout = f"{voted} of {config.members}" if absent else f"{voted}"
    summary = f"vote of {turnout} ({config.kind}, {voting}): strength below zero on {negative:.1%} of the pairs"
    if rate is not None:
        summary += f"; estimated noise {rate.rate:.1%} [{rate.low:.1%}, {rate.high:.1%}]"
    if found is not None:
        summary += f"; planted flips found with AUROC {found:.3f}"
    stage.record.update(
        rows_in=sum(map(len, pairs.values())),
        rows_out=sum(map(len, pairs.values())),
        kind=config.kind,
        members=voted,
        absent=absent,
        loss=config.loss,
        voting=voting,
        noise_rate=None if rate is None else rate._asdict(),
        negative_share=negative,
        flip_auroc=found,
        summary=summary,
    )
