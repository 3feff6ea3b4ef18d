"""`rmkit meta-reward`: the loop, step by step; a killed run continues with the step that it was in."""

import contextlib
import dataclasses
import itertools
import logging
from functools import partial
from pathlib import Path
from typing import Any

from rmkit.commands.compare import CompareConfig, compare
from rmkit.commands.vote import VoteConfig
from rmkit.core.config import as_dict
from rmkit.core.stage import read_record
from rmkit.core.steps import Steps, get_config, run_steps
from rmkit.generation import managed_server
from rmkit.meta_rewarding.config import MetaRewardConfig
from rmkit.meta_rewarding.drift import DriftMetrics, check_drift
from rmkit.meta_rewarding.plan import LoopPlan
from rmkit.meta_rewarding.report import write_report
from rmkit.training.config import check_training
from rmkit.training.settings import TrainingSettings
from rmkit.training.zero import check_single_process

logger = logging.getLogger(__name__)
SERVER_STEPS = ("sample", "responses", "judge_llm", "meta_judge")  # steps in which the policy generates


def meta_reward(config: MetaRewardConfig) -> Path:
    """Run every step that is not finished, write the report, and return its folder.

    Each step has a folder of its own. A killed run continues with the same call, to the same results. A drift alert
    that stops ends the loop before the iteration's training.
    """
    check_single_process("meta-reward", "dpo, sft and judge_rm.train")
    plan = LoopPlan(config)
    for step in itertools.chain.from_iterable(steps.items() for steps in (plan.setup, *plan.iterations)):
        check_step(*step)
    run_with_server(config, plan.setup)
    metrics = [run_with_server(config, steps)["metrics"] for steps in plan.evaluations[:1]]
    history: list[DriftMetrics] = []
    iterations: list[dict[str, Any]] = []
    for number, steps in enumerate(plan.iterations, 1):
        training = {"dpo": steps.pop("dpo")}
        results = run_with_server(config, steps)
        alerts = []
        if "drift" in results:
            evaluated = metrics[-1] if metrics else {}
            agreement = evaluated.get("agreement_llm" if "judge_llm" in steps else "agreement_reward_model")
            history.append(dataclasses.replace(results["drift"], kl=evaluated.get("kl"), agreement=agreement))
            alerts = check_drift(history, config.drift)
        record = read_record(get_config(training["dpo"]).data) or {}
        iterations.append({
            "iteration": number, "rho": record.get("rho"),
            "pairs": {role: record[role] for role in ("actor", "judge") if role in record},
            "drift": dataclasses.asdict(history[-1]) if history else None,
            "alerts": [alert._asdict() for alert in alerts],
        })
        for alert in alerts:
            logger.warning("Iteration %d: %s (%s).", number, alert.text, alert.severity)
        if any(alert.severity == "stop" for alert in alerts):
            break
        run_steps(training)
        metrics += [run_with_server(config, steps)["metrics"] for steps in plan.evaluations[number:number + 1]]
    if plan.compare is not None and len(metrics) > 1:
        metrics = add_win_rates(plan.compare, metrics)
    responses = [get_config(steps["responses"]).output_dir for steps in plan.evaluations[:len(metrics)]]
    return write_report(Path(config.output_dir) / "report", as_dict(config), metrics, iterations, responses)


def check_step(name: str, step: partial[Any]) -> None:
    """Raise `InputError` for a step with settings that training would refuse."""
    settings = step.args[0] if step.args else None
    if isinstance(settings, VoteConfig):
        settings.check_training("judge_rm.vote.train")
    elif isinstance(settings, TrainingSettings):
        check_training(settings, name if name in ("sft", "dpo") else "judge_rm.train")


def run_with_server(config: MetaRewardConfig, steps: Steps) -> dict[str, Any]:
    """Run the steps; the user's server, if it has a command, runs only during consecutive steps that generate."""
    results: dict[str, Any] = {}
    log = Path(config.output_dir) / "server.log"
    for generates, group in itertools.groupby(steps, SERVER_STEPS.__contains__):
        with contextlib.ExitStack() as stack:
            if generates and config.server is not None and config.server.command is not None:
                log.parent.mkdir(parents=True, exist_ok=True)
                timeout = config.server.startup_timeout
                stack.enter_context(managed_server(config.server.command, startup_timeout=timeout, log=log))
            results |= run_steps({name: steps[name] for name in group})
    return results


def add_win_rates(config: CompareConfig, metrics: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The metrics with each policy's win rates against the first one, by the judge of `compare`."""
    names = list(config.policies)[:len(metrics)]  # fewer if the loop was stopped
    record = read_record(compare(dataclasses.replace(config, policies={name: config.policies[name] for name in names})))
    assert record is not None
    added = []
    for name, policy in zip(names, metrics, strict=True):
        compared = record["comparison"]["policies"][name]
        arena, controlled = compared["arena"], compared.get("length_controlled") or {}
        added.append({
            **policy,
            "judged_win_rate": compared.get("win_rate"),
            "judged_win_rate_interval": [compared.get("low"), compared.get("high")],
            "judged_win_rate_lc": controlled.get("rate"),
            "judged_win_rate_lc_interval": [controlled.get("low"), controlled.get("high")],
            "arena": arena["score"], "arena_interval": [arena["low"], arena["high"]],
        })
    return added
