"""`rmkit run`: from a preference set to a robust reward model and a report, in one go."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from rmkit.commands.evaluate import EvaluateConfig, evaluate
from rmkit.commands.read import ReadConfig, read
from rmkit.commands.repair import RepairConfig, repair
from rmkit.commands.report import ReportConfig, report
from rmkit.commands.synthetic import BASE_MODEL, SyntheticConfig, synthetic
from rmkit.commands.train import TrainConfig, train
from rmkit.commands.vote import vote
from rmkit.commands.vote_config import VoteConfig
from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.core.legacy_config import build_config
from rmkit.data.splits import SPLITS
from rmkit.training.zero import under_launcher

GOLD = "gold"
Config = TypeVar("Config")


@dataclass
class RunConfig:
    """The whole road; each stage's folder lies in `output_dir`, and one whose inputs are unchanged is not redone.

    `data` and `model_name_or_path` may be "gold", the embedded world and its base model (of the size that `gold`
    says). `read`, `vote`, `repair`, `train`, `evaluate` and `report` hold the keys of these commands; what this level
    sets (data, models, folders) is not theirs to set, and `seed` and `max_length` pass down unless a stage has its
    own. The baseline is trained as `train` says, on the labels as they came.
    """

    output_dir: str
    data: str = GOLD
    model_name_or_path: str = GOLD
    max_length: int = 1024
    seed: int = 0
    gold: dict[str, Any] = field(default_factory=dict)
    read: dict[str, Any] = field(default_factory=dict)
    vote: dict[str, Any] = field(default_factory=dict)
    repair: dict[str, Any] = field(default_factory=dict)
    train: dict[str, Any] = field(default_factory=dict)
    evaluate: dict[str, Any] = field(default_factory=dict)
    audit: dict[str, Any] = field(default_factory=dict)


@dataclass
class RunPlan:
    """The stages' configurations, all built, and so checked, before the first of them starts."""

    gold: SyntheticConfig | None
    read: ReadConfig
    vote: VoteConfig
    repair: RepairConfig
    robust: TrainConfig
    plain: TrainConfig
    evaluate: EvaluateConfig
    audit: ReportConfig


def run(config: RunConfig) -> Path:
    """Run every stage that is not finished yet; returns the folder of the report."""
    if under_launcher():
        raise_input_error(
            "run", "one process", Verbatim("a launcher's rank"), "Set train.processes; the stages start what they need."
        )
    plan = make_plan(config)
    check_plan(plan)
    if plan.gold is not None:
        synthetic(plan.gold)
    read(plan.read)
    vote(plan.vote)
    repair(plan.repair)
    train(plan.plain)
    train(plan.robust)
    evaluate(plan.evaluate)
    return report(plan.audit)


def make_plan(config: RunConfig) -> RunPlan:
    """Every stage's configuration, with the folders in between."""
    folder = Path(config.output_dir)
    pairs, votes, repaired, evaluation = (str(folder / name) for name in ("pairs", "votes", "repaired", "evaluation"))
    models = {"plain": str(folder / "plain"), "robust": str(folder / "robust")}
    shared = {"seed": config.seed, "max_length": config.max_length}
    gold, data, base = None, {"data": config.data}, config.model_name_or_path
    if GOLD in (config.data, config.model_name_or_path):
        gold = build_section(SyntheticConfig, config.gold, shared, "gold", output_dir=str(folder / GOLD))
        if config.data == GOLD:
            files = {"data": "train", "validation": "validation", "test": "test"}
            data = {role: str(folder / GOLD / f"{split}.jsonl") for role, split in files.items()}
        if config.model_name_or_path == GOLD:
            base = str(folder / GOLD / BASE_MODEL)
    return RunPlan(
        gold=gold,
        read=build_section(ReadConfig, config.read, shared, "read", output_dir=pairs, model_name_or_path=base, **data),
        vote=build_section(
            VoteConfig, config.vote, shared, "vote", output_dir=votes, data=pairs, model_name_or_path=base
        ),
        repair=build_section(RepairConfig, config.repair, shared, "repair", output_dir=repaired, votes=votes),
        plain=build_section(
            TrainConfig,
            config.train,
            shared,
            "train",
            output_dir=models["plain"],
            data=pairs,
            model_name_or_path=base,
            evaluation_data=pairs,
        ),
        robust=build_section(
            TrainConfig,
            config.train,
            shared,
            "train",
            output_dir=models["robust"],
            data=repaired,
            model_name_or_path=base,
            evaluation_data=pairs,
        ),
        evaluate=build_section(
            EvaluateConfig,
            config.evaluate,
            shared,
            "evaluate",
            output_dir=evaluation,
            data=pairs,
            models=models,
            votes=votes,
        ),
        audit=build_section(
            ReportConfig,
            config.audit,
            shared,
            "audit",
            output_dir=str(folder / "audit"),
            pairs=pairs,
            votes=votes,
            repaired=repaired,
            models=models,
            evaluation=evaluation,
        ),
    )


def check_plan(plan: RunPlan) -> None:
    """Refuse settings of single stages that do not fit together."""
    for split, source, fraction in (
        ("validation", plan.read.validation, plan.read.validation_fraction),
        ("test", plan.read.test, plan.read.test_fraction),
    ):
        if source is None and not fraction:
            raise_input_error(
                f"read: {split}_fraction", f"{split} pairs", Verbatim("none"), "A run needs them; 0.1 is usual."
            )
    if plan.vote.member is not None:
        raise_input_error(
            "vote: member",
            "the whole vote",
            Verbatim(f"member {plan.vote.member} alone"),
            "Make members with `rmkit vote`; a run can merge them.",
        )
    if plan.repair.fraction == "estimated" and not plan.vote.folds:
        raise_input_error(
            "repair: fraction",
            "cross-fitted votes to estimate it from",
            Verbatim("vote.folds: 0"),
            "Set vote.folds to 2 or more, or give a fraction.",
        )
    if plan.evaluate.split not in SPLITS:
        raise_input_error("evaluate: split", f"one of {', '.join(SPLITS)}", plan.evaluate.split, "test is usual.")
    if plan.audit.baseline not in plan.audit.models:
        raise_input_error(
            "audit: baseline", f"one of {', '.join(plan.audit.models)}", plan.audit.baseline, "plain is usual."
        )
    for name, stage in (("vote", plan.vote), ("train", plan.robust), ("evaluate", plan.evaluate)):
        if stage.max_length < (plan.read.max_length or 0):
            raise_input_error(
                f"{name}: max_length",
                f"at least that of read, {plan.read.max_length}",
                stage.max_length,
                "Set max_length for the whole run; longer responses are then set aside in reading.",
            )


def build_section(
    cls: type[Config], settings: dict[str, Any], shared: dict[str, Any], name: str, **fixed: Any
) -> Config:
    """One stage's configuration: what the run shares, then the section's own keys, then what the run decides."""
    taken = sorted(set(settings) & set(fixed))
    if taken:
        raise_input_error(
            f"{name}: {taken[0]}", "a key of the stage alone", Verbatim("one that the run sets"), "Remove it here."
        )
    known = {item.name for item in dataclasses.fields(cls)}  # type: ignore[arg-type]
    passed = {key: value for key, value in shared.items() if key in known}
    return build_config(cls, {**passed, **settings, **fixed}, name)
