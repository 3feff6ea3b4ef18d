"""Writes a judge's answers, and its report: agreement with labels, biases, ties, missing answers and cost."""

import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow
import pyarrow.parquet

from rmkit.judges.base import ORDERS, JudgeAnswer, JudgeSpec
from rmkit.judges.meta_judge import compare_ensemble_members
from rmkit.judges.metrics import evaluate_judge, scores_to_preferences, to_verdicts
from rmkit.judges.results import PairwiseResults
from rmkit.metrics import agreement, bradley_terry, wins_from_verdicts

JUDGMENTS = "judgments.parquet"
COLUMNS = pyarrow.schema([
    ("task", pyarrow.string()), ("kind", pyarrow.string()), ("sample", pyarrow.int32()), ("seed", pyarrow.int64()),
    ("order", pyarrow.string()), ("score", pyarrow.float64()), ("reward", pyarrow.float64()),
    ("text", pyarrow.string()), ("reason", pyarrow.string()), ("prompt_tokens", pyarrow.int64()),
    ("answer_tokens", pyarrow.int64()),
])
BATCH_SIZE = 1000  # rows that are held in memory
RIDGE = 0.01


def write_judgments(answers: Iterable[tuple[str, list[JudgeAnswer]]], path: Path, spec: JudgeSpec) -> None:
    """Write every answer, given by task id, as a row of a Parquet file."""
    samples = spec.answers // spec.responses
    rows = ({"task": task, "kind": type(answer).__name__.lower(), "sample": index % samples,
             "order": ORDERS[index // samples], **vars(answer)}
            for task, answers_of_task in answers for index, answer in enumerate(answers_of_task))
    with pyarrow.parquet.ParquetWriter(path, COLUMNS) as file:
        while batch := list(itertools.islice(rows, BATCH_SIZE)):
            file.write_table(pyarrow.Table.from_pylist(batch, COLUMNS))


def write_ensemble(results: PairwiseResults, path: Path) -> None:
    """Write the `ensemble_score` of each response as a row of a Parquet file."""
    table = pyarrow.table({"task": results.answers.tasks, **results.ensemble._asdict()})
    pyarrow.parquet.write_table(table, path)


def build_report(results: PairwiseResults, *, seed: int, n_bootstrap: int) -> dict[str, Any]:
    """`evaluate_judge` on all pairs of responses, with counts and costs, ready for JSON.

    Without pairs, where every prompt has one response, only `tasks`, `answers` and `cost`. `cost`: tokens of all
    answers, the seconds of finished batches, and each per pair. `ensemble`, of reward models on labelled pairs: the
    agreement of each member and of the conservative score, and the members' Bradley-Terry ratings in logits, by labels
    and by the other members' preferences.
    """
    spec, answers, pairs = results.spec, results.answers, len(results.tasks)
    scored = spec.responses == 1 and not spec.members  # by a language model or the gold reward
    report: dict[str, Any] = {"pairs": 0} if not pairs else evaluate_judge(
        results.preferences, results.labels, prompts=results.prompts, lengths=results.lengths,
        scores=results.scores if scored else None, top=spec.scale.high if scored else None,
        seed=seed, n_bootstrap=n_bootstrap,
    )
    cost = {name: getattr(answers, name) for name in ("prompt_tokens", "answer_tokens", "seconds")}
    per_pair = {f"{name}_per_pair": None if total is None else total / pairs for name, total in cost.items() if pairs}
    report |= {"cost": cost | per_pair, "answers": answers.counts(), "tasks": len(answers.scores)}
    if spec.members and pairs and not np.isnan(results.labels).any():
        report["ensemble"] = report_ensemble(results)
    return report


def report_ensemble(results: PairwiseResults) -> dict[str, Any]:
    """Agreement and ratings of the members of an ensemble, and of its conservative score."""
    names = results.spec.members
    conservative = results.ensemble.conservative[results.tasks]
    verdicts = to_verdicts(scores_to_preferences(conservative[:, :, None]))[:, 0, 0]
    report: dict[str, Any] = {
        "conservative": agreement(verdicts, results.labels)._asdict(),
        "members": {name: agreement(signs, results.labels)._asdict()
                    for name, signs in zip(names, np.sign(results.gaps).T, strict=True)},
    }
    chosen, rejected = results.scores.transpose(1, 2, 0)
    rules: tuple[tuple[Literal["label", "leave_two_out"], str, int], ...] = (
        ("label", "rated_by_labels", 2), ("leave_two_out", "rated_by_the_others", 3))
    for rule, key, min_members in rules:
        if len(names) >= min_members:
            wins = wins_from_verdicts(compare_ensemble_members(chosen, rejected, rule=rule)).sum(axis=0)
            report[key] = dict(zip(names, bradley_terry(wins, ridge=RIDGE).ratings.tolist(), strict=True))
    return report


def format_report(report: dict[str, Any]) -> str:
    """The report as lines for a terminal."""
    answers, cost = report["answers"], report["cost"]
    tokens = [number if number is not None else "unknown" for number in (cost["prompt_tokens"], cost["answer_tokens"])]
    lines = [
        f"{answers['asked']} answers on {report['tasks']} tasks, {report['pairs']} pairs of responses: "
        f"{answers['unparsed']} unparsed ({percent(answers['unparsed_share'])}), {answers['failed']} failed",
        *(f"  {number} unparsed: {reason}" for reason, number in answers["unparsed_reasons"].items()),
        *(f"  {number} failed: {reason}" for reason, number in answers["failed_reasons"].items()),
        f"cost: {tokens[0]} tokens read, {tokens[1]} written, {cost['seconds']:.1f} s",
    ]
    if not report["pairs"]:
        return "\n".join(lines)
    agreed, length, position = report["agreement"], report["length"], report["position"]
    if agreed["with_ties"] is not None:
        lines.append(f"agreement with labels: {percent(agreed['with_ties'], agreed)}, without ties "
                     f"{percent(agreed['without_ties'])}; ties {percent(report['tie_rate'])}, "
                     f"{agreed['unjudged']} unjudged")
    lines.append(f"prefers the longer: {percent(length['longer'], length)}, the labels "
                 f"{percent(length['labels_longer'])}")
    if position is not None:
        lines.append(f"prefers the one shown first: {percent(position['first'], position)}; same verdict in both "
                     f"orders: {percent(position['consistent'])}")
    if report["consistency"] is not None:
        lines.append(f"two answers on one pair are equal: {percent(report['consistency']['equal'])}")
    if report["scores"] is not None and report["scores"]["saturation"] is not None:
        saturation = report["scores"]["saturation"]
        lines.append(f"scores at the top: {percent(saturation['top'])}; equal within a pair: "
                     f"{percent(saturation['ties'])}")
    if report["calibration"] is not None:
        lines.append(f"calibration error of its preferences: {percent(report['calibration']['error'])}")
    if "ensemble" in report:
        members = {**report["ensemble"]["members"], "conservative score": report["ensemble"]["conservative"]}
        lines += [f"  {name}: agreement {percent(values['with_ties'])}" for name, values in members.items()]
    return "\n".join(lines)


def percent(share: float | None, interval: dict[str, Any] | None = None) -> str:
    """A share in percent, a dash for None, with its interval if there is one."""
    if share is None:
        return "-"
    bounds = "" if interval is None or interval["low"] is None else " [{low:.1%}, {high:.1%}]".format(**interval)
    return f"{share:.1%}{bounds}"
