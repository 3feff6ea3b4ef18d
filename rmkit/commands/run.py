"""`rmkit run`: from preference pairs to a robust reward model and a report, in one go."""

from pathlib import Path
from typing import Any

from rmkit.commands.evaluate import EvaluateConfig, evaluate
from rmkit.commands.read import ReadConfig, read
from rmkit.commands.repair import RepairConfig, repair
from rmkit.commands.report import ReportConfig, report
from rmkit.commands.synthetic import BASE_MODEL, SYNTHETIC, SyntheticConfig, synthetic
from rmkit.commands.train import TrainConfig, train
from rmkit.commands.vote import VoteConfig, vote
from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.core.config import configuration, option, section
from rmkit.core.steps import Steps, get_config, make_step, run_steps

SPLITS = ("train", "validation", "test")


@configuration
class RunConfig:
    """Read, vote, repair, train on the original and on the repaired labels, evaluate both models and report.

    Each step has a folder in `output_dir`, and is not repeated if nothing that it depends on has changed.
    """

    output_dir: str = option(help="Output folder.")
    data: str = option(SYNTHETIC, "Preference pairs: a file, a folder, a hub name, or `synthetic`.")
    model_name_or_path: str = option(SYNTHETIC, "Base model: a folder, a hub name, or `synthetic`.")
    max_length: int = option(1024, "Tokens of a prompt with its response, in every step.", ge=1)
    seed: int = option(0, "Seed of every step.")
    synthetic: dict[str, Any] = section(
        "rmkit.commands.synthetic:SyntheticConfig", "The synthetic data and their model.", fixed=("output_dir",)
    )
    read: dict[str, Any] = section(
        "rmkit.commands.read:ReadConfig", "Reading the pairs.", fixed=("data", "model_name_or_path", "output_dir")
    )
    vote: dict[str, Any] = section(
        "rmkit.commands.vote:VoteConfig", "The vote.", fixed=("data", "model_name_or_path", "output_dir")
    )
    repair: dict[str, Any] = section(
        "rmkit.commands.repair:RepairConfig", "The label repair.", fixed=("votes", "output_dir")
    )
    train: dict[str, Any] = section(
        "rmkit.commands.train:TrainConfig", "The training of both models.",
        fixed=("data", "model_name_or_path", "output_dir", "evaluation_data"),
    )
    evaluate: dict[str, Any] = section(
        "rmkit.commands.evaluate:EvaluateConfig", "The evaluation.", fixed=("data", "models", "votes", "output_dir")
    )
    report: dict[str, Any] = section(
        "rmkit.commands.report:ReportConfig", "The report.",
        fixed=("pairs", "votes", "repaired", "models", "evaluation", "output_dir"),
    )


def run(config: RunConfig) -> Path:
    """Run every step that is not finished yet; returns the folder of the report."""
    from rmkit.training.config import check_training
    from rmkit.training.zero import check_single_process

    check_single_process("run", "vote.train and train")
    steps = plan_run(config)
    get_config(steps["vote"]).check_training("vote.train")
    check_training(get_config(steps["robust"]), "train")
    folder: Path = run_steps(steps)["report"]
    return folder


def plan_run(config: RunConfig) -> Steps:
    """All steps with their configurations, which are built, and so checked, before the first step starts."""
    folder = Path(config.output_dir)
    pairs, votes, repaired, evaluation = (str(folder / name) for name in ("pairs", "votes", "repaired", "evaluation"))
    models = {name: str(folder / name) for name in ("plain", "robust")}
    shared = {"seed": config.seed, "max_length": config.max_length}
    steps: Steps = {}
    source, model = {"data": config.data}, config.model_name_or_path
    if SYNTHETIC in (config.data, model):
        steps["synthetic"] = make_step(synthetic, SyntheticConfig, config.synthetic, shared, "synthetic",
                                       output_dir=str(folder / SYNTHETIC))
    if config.data == SYNTHETIC:
        files = {"data": "train", "validation": "validation", "test": "test"}
        source = {key: str(folder / SYNTHETIC / f"{split}.jsonl") for key, split in files.items()}
    if model == SYNTHETIC:
        model = str(folder / SYNTHETIC / BASE_MODEL)
    base = {"model_name_or_path": model}
    steps["read"] = make_step(read, ReadConfig, config.read, shared, "read", output_dir=pairs, **base, **source)
    steps["vote"] = make_step(vote, VoteConfig, config.vote, shared, "vote", output_dir=votes, data=pairs, **base)
    steps["repair"] = make_step(repair, RepairConfig, config.repair, shared, "repair", output_dir=repaired, votes=votes)
    for name, data in (("plain", pairs), ("robust", repaired)):
        steps[name] = make_step(train, TrainConfig, config.train, shared, "train", output_dir=models[name], data=data,
                                evaluation_data=pairs, **base)
    steps["evaluate"] = make_step(evaluate, EvaluateConfig, config.evaluate, shared, "evaluate", output_dir=evaluation,
                                  data=pairs, models=models, votes=votes)
    steps["report"] = make_step(report, ReportConfig, config.report, shared, "report", pairs=pairs, votes=votes,
                                output_dir=str(folder / "report"), repaired=repaired, models=models,
                                evaluation=evaluation)
    check_plan({name: get_config(step) for name, step in steps.items()})
    return steps


def check_plan(configs: dict[str, Any]) -> None:
    """Refuse settings of different steps that do not fit together."""
    reading, voting = configs["read"], configs["vote"]
    for split in ("validation", "test"):
        if getattr(reading, split) is None and not getattr(reading, f"{split}_fraction"):
            raise_input_error(
                f"read.{split}_fraction", f"{split} pairs", Verbatim("none"), "A run needs them; 0.1 is usual."
            )
    if voting.member is not None:
        raise_input_error(
            "vote.member", "the whole vote", Verbatim(f"member {voting.member} alone"),
            "Train members with `rmkit vote`; a run can merge them.",
        )
    if configs["repair"].fraction == "estimated" and not voting.folds:
        raise_input_error(
            "repair.fraction", "cross-fitted votes to estimate it from", Verbatim("vote.folds: 0"),
            "Set vote.folds to 2 or more, or give a fraction.",
        )
    split = configs["evaluate"].split
    if split not in SPLITS:
        raise_input_error("evaluate.split", f"one of {', '.join(SPLITS)}", split, "test is usual.")
    models, baseline = configs["report"].models, configs["report"].baseline
    if baseline not in models:
        raise_input_error("report.baseline", f"one of {', '.join(models)}", baseline, "plain is usual.")
    for name, key in (("vote", "vote"), ("robust", "train"), ("evaluate", "evaluate")):
        if configs[name].max_length < (reading.max_length or 0):
            raise_input_error(
                f"{key}.max_length", f"at least that of read, {reading.max_length}", configs[name].max_length,
                "Set max_length for the whole run; longer responses are then set aside in reading.",
            )
