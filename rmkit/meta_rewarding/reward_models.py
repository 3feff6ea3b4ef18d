"""Reward models that follow the policy: MetaRM on its fresh samples, and new pairs that its own members agree on."""

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, concatenate_datasets
from numpy.typing import NDArray

from rmkit.commands.iterate import plan_meta
from rmkit.commands.judge import JudgeConfig, judge
from rmkit.commands.repair import RepairConfig, repair
from rmkit.commands.run import build_section
from rmkit.commands.train import TrainConfig, train
from rmkit.commands.vote import vote
from rmkit.commands.vote_config import VoteConfig
from rmkit.core.checks import raise_input_error
from rmkit.core.seeds import derive_seed
from rmkit.core.stage import open_stage
from rmkit.data.parquet import PAIR_SIDES, load_split, write_table
from rmkit.judges.config import RewardModelJudgeConfig
from rmkit.judges.meta_judge import compare_ensemble_members, highest_variance_response
from rmkit.judges.results import JudgedSamples, read_judged
from rmkit.meta_rewarding.judge_selection import select_judgments
from rmkit.meta_rewarding.pairs import TRAIN

POOL = ("id", *PAIR_SIDES, "source")


@dataclass(kw_only=True)
class UpdateRewardModelsConfig:
    """Train an ensemble of `members` reward models for the policy as it stands, and let it judge `samples`.

    Their pairs are those of `data` (a folder of `rmkit read`) and of `earlier` iterations, which pass through `vote`
    and `repair` together; without `vote` (null), they are taken as they are. Each member begins with
    `model_name_or_path`, and is trained as `train` says; with `meta`, by MetaRM on the samples, or without it (null).
    With `update`, those of the iteration `before` go on instead, by what `update` changes of `train`: as the pairs have
    been learnt, a few steps on the samples are enough. Scores run from `low` to `high`. `fresh`: whether the members'
    own verdicts, judged by the others, become new pairs for later iterations; it takes 3 members. `vote`, `repair` and
    `train` hold keys of these commands, `update` those of `train` too, and `meta` MetaRM's of them.
    """

    data: str
    samples: str
    model_name_or_path: str
    output_dir: str
    earlier: list[str] = field(default_factory=list)
    before: str | None = None
    members: int = 3
    low: float = 0.0
    high: float = 5.0
    fresh: bool = True
    vote: dict[str, Any] | None = field(default_factory=dict)
    repair: dict[str, Any] = field(default_factory=dict)
    train: dict[str, Any] = field(default_factory=dict)
    meta: dict[str, Any] | None = field(default_factory=dict)
    update: dict[str, Any] | None = None
    max_length: int = 1024
    seed: int = 0
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        if self.members < 1 or self.fresh and self.members < 3:
            raise_input_error(
                "members",
                "at least 1, and 3 for fresh pairs, as the others judge two of them",
                self.members,
                "3 is a beginning; the paper's votes have 10.",
            )
        if self.vote is None and self.repair:
            raise_input_error("repair", "nothing without a vote", self.repair, "Remove it, or vote.")
        self.plan_trainings()
        self.plan_repair()

    def list_members(self, place: str | None = None) -> dict[str, str]:
        """The members' folders, in the `output_dir` of this ensemble or of another one."""
        folder = Path(place or self.output_dir) / "reward"
        return {f"member-{number}": str(folder / f"member-{number}") for number in range(self.members)}

    @property
    def shared(self) -> dict[str, Any]:
        """What passes down."""
        return {"seed": self.seed, "max_length": self.max_length, "trust_remote_code": self.trust_remote_code}

    def plan_repair(self) -> tuple[VoteConfig, RepairConfig] | None:
        """The vote on the pool, and the repair."""
        if self.vote is None:
            return None
        place = Path(self.output_dir)
        asked = build_section(
            VoteConfig,
            self.vote,
            self.shared,
            "vote",
            data=str(place / "pool"),
            model_name_or_path=self.model_name_or_path,
            output_dir=str(place / "votes"),
        )
        return asked, build_section(
            RepairConfig, self.repair, self.shared, "repair", votes=asked.output_dir, output_dir=str(place / "repaired")
        )

    def plan_trainings(self) -> list[TrainConfig]:
        """Each member's training."""
        data = str(Path(self.output_dir) / ("pool" if self.vote is None else "repaired"))
        meta: dict[str, Any] = {"meta_data": None}
        if self.meta is not None:
            meta = plan_meta({"meta_learning_rate": 5e-6, **self.meta}, self.samples)
        begin, settings, run = dict.fromkeys(self.list_members(), self.model_name_or_path), self.train, "member"
        if self.before is not None and self.update is not None:
            begin, settings = self.list_members(self.before), {**self.train, **self.update}
            run = Path(self.output_dir).name  # other pairs come first than in the ensemble before
        return [
            build_section(
                TrainConfig, settings, {**self.shared, "seed": derive_seed(self.seed, run, place)}, "train",
                data=data, model_name_or_path=begin[name], output_dir=folder, **meta,
            )
            for place, (name, folder) in enumerate(self.list_members().items())
        ]

    def plan_judge(self, samples: str, output_dir: str) -> JudgeConfig:
        """The ensemble's judgments of any samples."""
        models = RewardModelJudgeConfig(self.list_members(), low=self.low, high=self.high, max_length=self.max_length)
        return JudgeConfig(samples, output_dir, reward_model=models, n_bootstrap=100, seed=self.seed,
                           trust_remote_code=self.trust_remote_code)


def update_reward_models(config: UpdateRewardModelsConfig) -> None:
    """Take all steps that are not finished: pool, vote, repair, a training for each member, rewards, fresh pairs."""
    fill_prompt_pool(config)
    planned = config.plan_repair()
    if planned is not None:
        vote(planned[0])
        repair(planned[1])
    for training in config.plan_trainings():
        train(training)
    judge(config.plan_judge(config.samples, str(Path(config.output_dir) / "rewards")))
    if config.fresh:
        add_policy_pairs(config)


def fill_prompt_pool(config: UpdateRewardModelsConfig) -> None:
    """All pairs in one folder, with the validation pairs of `data`."""
    inputs = {f"earlier {place}": folder for place, folder in enumerate(config.earlier)}
    with open_stage(Path(config.output_dir) / "pool", "pool", {}, {"data": config.data, **inputs}) as stage:
        if not stage.done:
            tables = [load_split(folder, "train", POOL).select_columns(list(POOL))
                      for folder in (config.data, *config.earlier)]
            write_table(concatenate_datasets(tables), stage.directory / TRAIN)
            validation = Path(config.data) / "validation.parquet"
            if validation.is_file():
                shutil.copy(validation, stage.directory)
            stage.record["rows"] = [len(table) for table in tables]


def add_policy_pairs(config: UpdateRewardModelsConfig) -> None:
    """Write the iteration's new pairs, `fresh`/train.parquet."""
    rewards = str(Path(config.output_dir) / "rewards")
    with open_stage(Path(config.output_dir) / "fresh", "fresh", {"seed": config.seed}, {"rewards": rewards}) as stage:
        if not stage.done:
            rows, why = make_fresh(read_judged(rewards), Path(config.output_dir).name, seed=config.seed)
            if not rows:
                raise_input_error(
                    "fresh", "a pair that members can judge", why, "Set fresh to false, or look at the samples."
                )
            stage.record.update(pairs=len(rows), why=why)
            write_table(Dataset.from_list(rows), stage.directory / TRAIN)


def make_fresh(judged: JudgedSamples, name: str, *, seed: int) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """New pairs from the members' scores, whose ids begin with `name`, and how many prompts gave none, by reason.

    Of each prompt, the two responses on whose gap the members differ most (`highest_variance_response`); each member's gap is its
    verdict, and the one that the others bear out best (`compare_ensemble_members` by strength, then `select_judgments`) says
    which response is chosen.
    """
    kept = [(prompt, found) for prompt in range(len(judged.ids)) if (found := find_gap(judged, prompt, seed))]
    left = {"fewer than two different responses": len(judged.ids) - len(kept)}
    if not kept:
        return [], left
    chosen, rejected = (
        np.array([judged.scores[prompt, places[side]] for prompt, places in kept]).T for side in (0, 1)
    )
    picked = select_judgments(compare_ensemble_members(chosen, rejected, rule="strength"))
    rows = []
    for place, (prompt, places) in enumerate(kept):
        member = int(picked.chosen[place])
        gap = chosen[member, place] - rejected[member, place] if member >= 0 else 0.0
        if gap == 0:
            continue
        one, other = places if gap > 0 else places[::-1]
        rows.append({
            "id": f"{name}:{judged.ids[prompt]}", "prompt": judged.prompts[prompt],
            "chosen": judged.responses[prompt][one], "rejected": judged.responses[prompt][other], "source": "fresh",
        })
    return rows, {**left, **picked.count()}


def find_gap(judged: JudgedSamples, prompt: int, seed: int) -> tuple[int, int] | None:
    """The two different responses of a prompt on whose gap the members differ most."""
    places: NDArray[np.intp] = np.flatnonzero(judged.first[prompt] & ~np.isnan(judged.scores[prompt]).any(axis=-1))
    if len(places) < 2:
        return None
    one, other = np.triu_indices(len(places), 1)
    gaps = judged.scores[prompt, places[one]] - judged.scores[prompt, places[other]]
    most = highest_variance_response(gaps, seed=derive_seed(seed, "fresh", judged.ids[prompt]))
    return None if most is None else (int(places[one[most]]), int(places[other[most]]))
