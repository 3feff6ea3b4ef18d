"""Reward models as judges: MetaRM on the policy's current samples, and new training pairs that the members label."""

import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, concatenate_datasets
from numpy.typing import NDArray

from rmkit.commands.iterate import plan_metarm
from rmkit.commands.judge import JudgeConfig, judge
from rmkit.commands.repair import RepairConfig, repair
from rmkit.commands.train import TrainConfig, train
from rmkit.commands.vote import VoteConfig, vote
from rmkit.core.checks import raise_input_error
from rmkit.core.seeds import derive_seed
from rmkit.core.stage import open_stage
from rmkit.core.steps import Steps, make_step
from rmkit.data.parquet import PAIR_SIDES, load_split, write_table
from rmkit.judges.judged_samples import JudgedSamples, read_judged
from rmkit.judges.meta_judge import compare_ensemble_members, highest_variance_response
from rmkit.meta_rewarding.judge_selection import select_judgments
from rmkit.meta_rewarding.pairs import TRAIN
from rmkit.meta_rewarding.step_config import RewardEnsembleConfig

COLUMNS = ("id", *PAIR_SIDES, "source")
POLICY_PAIRS = "policy_pairs"


def plan_reward_models(
    config: RewardEnsembleConfig, *, data: str, model: str, samples: str, output_dir: Path, previous: Sequence[Path],
    shared: dict[str, Any],
) -> Steps:
    """Steps to train the reward models of an iteration, score `samples`, and write new pairs.

    The training pairs are those of `data` (a folder of `rmkit read`) and the policy pairs of the `previous` iterations'
    folders, voted on and repaired together. Each member begins as `model`. `shared`: settings that every step gets.
    """
    pool = output_dir / "pool"
    policy_pairs = [str(folder / POLICY_PAIRS) for folder in previous] if config.add_policy_pairs else []
    steps: Steps = {"pool": partial(pool_pairs, [data, *policy_pairs], pool)}
    if config.vote is not None:
        votes, repaired = str(output_dir / "votes"), output_dir / "repaired"
        steps["vote"] = make_step(vote, VoteConfig, config.vote, shared, "judge_rm.vote", data=str(pool),
                                  model_name_or_path=model, output_dir=votes)
        steps["repair"] = make_step(repair, RepairConfig, config.repair, shared, "judge_rm.repair", votes=votes,
                                    output_dir=str(repaired))
        pool = repaired
    metarm: dict[str, Any] = {"meta_data": None}
    if config.metarm is not None:
        metarm = plan_metarm({"meta_learning_rate": 5e-6, **config.metarm}, samples, "judge_rm.metarm")
    settings, seed_name, models = config.train, "member", dict.fromkeys(list_members(config, output_dir), model)
    if previous and config.continue_training is not None:
        settings, models = {**config.train, **config.continue_training}, list_members(config, previous[-1])
        seed_name = output_dir.name  # another order of the pairs than in the previous iteration
    for member, (name, folder) in enumerate(list_members(config, output_dir).items()):
        steps[name] = make_step(
            train, TrainConfig, settings, {**shared, "seed": derive_seed(shared["seed"], seed_name, member)},
            "judge_rm.train", data=str(pool), model_name_or_path=models[name], output_dir=folder, **metarm,
        )
    rewards = output_dir / "rewards"
    steps["judge_rm"] = plan_ensemble_judge(config, output_dir, samples, rewards, shared)
    if config.add_policy_pairs:
        steps[POLICY_PAIRS] = partial(write_policy_pairs, rewards, output_dir / POLICY_PAIRS, seed=shared["seed"])
    return steps


def list_members(config: RewardEnsembleConfig, folder: Path) -> dict[str, str]:
    """The members' folders by name, in the folder of an iteration."""
    return {f"member-{member}": str(folder / "reward" / f"member-{member}") for member in range(config.members)}


def plan_ensemble_judge(
    config: RewardEnsembleConfig, folder: Path, samples: str, output_dir: Path, shared: dict[str, Any]
) -> partial[Path]:
    """Judgments of `samples` by the reward models in an iteration's `folder`."""
    ensemble = {"kind": "reward_model", "models": list_members(config, folder), "score_min": config.score_min,
                "score_max": config.score_max, "max_length": shared["max_length"]}
    return make_step(judge, JudgeConfig, {"n_bootstrap": 100}, shared, "judge_rm", data=samples,
                     output_dir=str(output_dir), judge=ensemble)


def pool_pairs(folders: Sequence[str], output_dir: Path) -> None:
    """Write all train pairs into one folder, with the validation pairs of the first."""
    inputs = {f"pairs {number}": folder for number, folder in enumerate(folders)}
    with open_stage(output_dir, "pool", {}, inputs) as stage:
        if not stage.done:
            tables = [load_split(folder, "train", COLUMNS).select_columns(list(COLUMNS)) for folder in folders]
            write_table(concatenate_datasets(tables), stage.directory / TRAIN)
            validation = Path(folders[0]) / "validation.parquet"
            if validation.is_file():
                shutil.copy(validation, stage.directory)
            stage.record["rows"] = [len(table) for table in tables]


def write_policy_pairs(rewards: Path, output_dir: Path, *, seed: int) -> None:
    """Write `train.parquet`: pairs of the responses judged in the folder `rewards`, labelled by the members."""
    with open_stage(output_dir, "policy pairs", {"seed": seed}, {"rewards": rewards}) as stage:
        if not stage.done:
            rows, counts = make_policy_pairs(read_judged(rewards), output_dir.parent.name, seed=seed)
            if not rows:
                raise_input_error(
                    "add_policy_pairs", "at least one pair", counts, "Set it to false, or look at the samples."
                )
            stage.record.update(counts=counts)
            write_table(Dataset.from_list(rows), stage.directory / TRAIN)


def make_policy_pairs(judged: JudgedSamples, name: str, *, seed: int) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """New pairs with ids that begin with `name`, and the number of prompts with a pair and without, by reason.

    A pair is the two responses of a prompt on whose gap the members differ most (`most_disputed_pair`). Each member's
    gap is its verdict; the verdict that agrees best with the other members (`compare_ensemble_members`,
    then `select_judgments`) decides which response is chosen.
    """
    kept = [(prompt, pair) for prompt in range(len(judged.ids)) if (pair := most_disputed_pair(judged, prompt, seed))]
    skipped = {"fewer than two different responses": len(judged.ids) - len(kept)}
    if not kept:
        return [], skipped
    first, second = (np.array([judged.scores[prompt, pair[side]] for prompt, pair in kept]).T for side in (0, 1))
    selected = select_judgments(compare_ensemble_members(first, second, rule="leave_two_out"))
    rows = []
    for number, (prompt, pair) in enumerate(kept):
        member = int(selected.chosen[number])
        gap = first[member, number] - second[member, number] if member >= 0 else 0.0
        if gap == 0:
            continue
        chosen, rejected = pair if gap > 0 else pair[::-1]
        rows.append({
            "id": f"{name}:{judged.ids[prompt]}", "prompt": judged.prompts[prompt],
            "chosen": judged.responses[prompt][chosen], "rejected": judged.responses[prompt][rejected],
            "source": "policy",
        })
    return rows, {**skipped, **selected.count()}


def most_disputed_pair(judged: JudgedSamples, prompt: int, seed: int) -> tuple[int, int] | None:
    """The two different responses of a prompt on whose gap the members differ most; None without two."""
    scored = ~np.isnan(judged.scores[prompt]).any(axis=-1)
    responses: NDArray[np.intp] = np.flatnonzero(judged.first[prompt] & scored)
    if len(responses) < 2:
        return None
    first, second = np.triu_indices(len(responses), 1)
    gaps = judged.scores[prompt, responses[first]] - judged.scores[prompt, responses[second]]
    pair = highest_variance_response(gaps, seed=derive_seed(seed, "fresh", judged.ids[prompt]))
    return None if pair is None else (int(responses[first[pair]]), int(responses[second[pair]]))
