"""`rmkit meta-reward`: the loop, step by step; a killed run goes on at the step it was in."""

import contextlib
import dataclasses
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from rmkit.commands.compare import CompareConfig, compare
from rmkit.commands.dpo import dpo
from rmkit.commands.judge import judge
from rmkit.commands.read import read
from rmkit.commands.sample import sample
from rmkit.commands.sft import sft
from rmkit.commands.synthetic import make_synthetic_lm
from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.core.legacy_config import as_dict, build_config
from rmkit.core.seeds import derive_seed
from rmkit.core.stage import open_stage, read_record
from rmkit.data.rejected_rows import RejectedRows
from rmkit.data.samples import read_prompts
from rmkit.generation import managed_server
from rmkit.judges.base import Scale
from rmkit.judges.results import read_judged
from rmkit.meta_rewarding.config import MetaRewardConfig
from rmkit.meta_rewarding.drift import Alert, DriftMetrics, check_drift, drift_metrics
from rmkit.meta_rewarding.eft import write_eft_data
from rmkit.meta_rewarding.meta_judging import read_battles, run_meta_judging
from rmkit.meta_rewarding.metrics import measure_iteration
from rmkit.meta_rewarding.pairs import stack_verdicts, write_pairs
from rmkit.meta_rewarding.plan import Iteration, LoopPlan, PolicyEvaluation, plan_loop
from rmkit.meta_rewarding.report import report
from rmkit.meta_rewarding.reward_models import update_reward_models
from rmkit.training.zero import under_launcher

logger = logging.getLogger(__name__)


def meta_reward(config: MetaRewardConfig) -> Path:
    """Take every step that is not finished, and write the report, whose folder is returned.

    Each step is a stage in a folder of its own; killed at any moment, the same call goes on there, and comes to the
    same. A stop by the rules of `drift` ends the loop before the iteration's training.
    """
    if under_launcher():
        raise_input_error(
            "meta-reward",
            "one process",
            Verbatim("a launcher's rank"),
            "Set processes in dpo, sft and reward.train; the steps start what they need.",
        )
    plan = plan_loop(config)
    run_setup(config, plan)
    figures = [measure(config, plan.measures[0])] if plan.measures else []
    history: list[DriftMetrics] = []
    iterations: list[dict[str, Any]] = []
    for iteration in plan.iterations:
        run_iteration(config, iteration)
        alarms = []
        if iteration.pair is not None:
            history.append(describe(iteration, figures[-1] if figures else {}))
            alarms = check_drift(history, config.drift)
        iterations.append(summarise(iteration, history[-1] if history else None, alarms))
        for alarm in alarms:
            logger.warning("Iteration %d: %s (%s).", iteration.number, alarm.text, alarm.level)
        if any(alarm.level == "stop" for alarm in alarms):
            break
        dpo(iteration.dpo)
        if plan.measures:
            figures.append(measure(config, plan.measures[iteration.number]))
    if plan.compare is not None and len(figures) > 1:
        figures = add_comparison(plan.compare, figures)
    return report(Path(config.output_dir) / "report", as_dict(config), figures, iterations,
                  [measures.responses.output_dir for measures in plan.measures[:len(figures)]])


def run_setup(config: MetaRewardConfig, plan: LoopPlan) -> None:
    """All that comes before the first iteration."""
    if plan.school is not None:
        make_synthetic_lm(plan.school)
    if plan.read is not None:
        read(plan.read)
    if plan.exam is not None and plan.teach is not None:
        with server_of_iteration(config):
            judge(plan.exam)
        write_eft_data(plan.teach)
    if plan.sft is not None:
        sft(plan.sft)
    if plan.iterations and config.fixed_pairs is None:
        split_prompts(config, plan)


def split_prompts(config: MetaRewardConfig, plan: LoopPlan) -> None:
    """Write each iteration's prompts: all of them in an order by chance, then in another, cut into iterations."""
    place = Path(config.output_dir) / "prompts"
    settings = {"count": config.prompts_per_iteration, "iterations": config.iterations, "seed": config.seed}
    with open_stage(place, "allot", settings, {"prompts": plan.prompts}) as stage:
        if stage.done:
            return
        with RejectedRows(place / "quarantine.jsonl") as quarantine:
            rows = read_prompts(plan.prompts, "train", quarantine)
        generator = np.random.default_rng(derive_seed(config.seed, "prompts"))
        wanted = config.prompts_per_iteration * config.iterations
        order = np.concatenate([generator.permutation(len(rows)) for _ in range(-(-wanted // len(rows)))])
        for iteration in plan.iterations:
            start = (iteration.number - 1) * config.prompts_per_iteration
            own = dict.fromkeys(order[start:start + config.prompts_per_iteration].tolist())  # where orders meet
            text = "".join(json.dumps(rows[number], ensure_ascii=False) + "\n" for number in own)
            iteration.prompts.write_text(text, encoding="utf-8")
        stage.record.update(rows=len(rows), quarantined=quarantine.reasons)


def run_iteration(config: MetaRewardConfig, iteration: Iteration) -> None:
    """An iteration's datasets, from samples to pairs."""
    with server_of_iteration(config):
        if iteration.sample is not None:
            sample(iteration.sample)
        if iteration.judge is not None:
            judge(iteration.judge)
        if iteration.battle is not None:
            run_meta_judging(iteration.battle)
    if iteration.follow is not None:
        update_reward_models(iteration.follow)
    if iteration.pair is not None:
        write_pairs(iteration.pair)


def measure(config: MetaRewardConfig, measures: PolicyEvaluation) -> dict[str, Any]:
    """A policy's figures."""
    with server_of_iteration(config):
        sample(measures.responses)
        for settings in measures.judges:
            judge(settings)
    return measure_iteration(measures.figures)


def add_comparison(config: CompareConfig, figures: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The figures with what the judge of `compare` says of each policy beside the first one."""
    known = dict(list(config.policies.items())[:len(figures)])  # of a loop that was stopped not all
    record = read_record(compare(dataclasses.replace(config, policies=known)))
    assert record is not None
    found = record["comparison"]["policies"]
    added = []
    for name, own in zip(known, figures, strict=True):
        arena, controlled = found[name]["arena"], found[name].get("length_controlled") or {}
        added.append({
            **own,
            "judged_win_rate": found[name].get("win_rate"),
            "judged_win_rate_interval": [found[name].get(end) for end in ("low", "high")],
            "judged_win_rate_lc": controlled.get("rate"),
            "judged_win_rate_lc_interval": [controlled.get(end) for end in ("low", "high")],
            "arena": arena["score"], "arena_interval": [arena["low"], arena["high"]],
        })
    return added


@contextlib.contextmanager
def server_of_iteration(config: MetaRewardConfig) -> Iterator[None]:
    """For the block, the user's server, where there is one to start."""
    if config.server is None or config.server.command is None:
        yield
        return
    log = Path(config.output_dir) / "server.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with managed_server(config.server.command, startup_timeout=config.server.startup_timeout, log=log):
        yield


def describe(iteration: Iteration, figures: dict[str, Any]) -> DriftMetrics:
    """What the monitor sees of an iteration: its judgments, and the policy that it began with."""
    assert iteration.pair is not None
    folder = iteration.pair.language or iteration.pair.reward
    assert folder is not None
    scale = find_scale(iteration)
    inputs = {"judgments": folder, **({"battles": iteration.pair.battles} if iteration.pair.battles else {})}
    place = Path(iteration.pair.output_dir).parent / "drift"
    with open_stage(place, "drift", {"scale": list(scale)}, inputs) as stage:
        if not stage.done:
            judged = read_judged(folder)
            fought = read_battles(iteration.pair.battles) if iteration.pair.battles else []
            found = drift_metrics(
                judged.scores, judged.contents, scale=scale, battles=stack_verdicts(fought) if fought else None
            )
            stage.record["figures"] = dataclasses.asdict(found)
    found = build_config(DriftMetrics, stage.record["figures"], "drift")
    judge_name = "language" if iteration.pair.language else "reward"
    return dataclasses.replace(found, kl=figures.get("kl"), agreement=figures.get(f"agreement_{judge_name}"))


def find_scale(iteration: Iteration) -> Scale:
    """The scale of an iteration's scores; the language model's, where there are two judges."""
    if iteration.judge is not None:
        return iteration.judge.scale
    assert iteration.follow is not None
    return Scale(iteration.follow.low, iteration.follow.high)


def summarise(iteration: Iteration, drift: DriftMetrics | None, alarms: list[Alert]) -> dict[str, Any]:
    """An iteration as the report tells it."""
    record = read_record(iteration.dpo.data) or {}
    return {
        "iteration": iteration.number, "rho": record.get("rho"),
        "pairs": {name: record[name] for name in ("actor", "judge") if name in record},
        "drift": None if drift is None else dataclasses.asdict(drift),
        "alarms": [alarm._asdict() for alarm in alarms],
    }
