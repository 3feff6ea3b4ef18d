"""The report on a judge: agreement with labels, biases, ties, what could not be read, and what it cost."""

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow
import pyarrow.parquet
from datasets import Dataset
from numpy.typing import NDArray

from rmkit.judges.base import Given, Judgment
from rmkit.judges.config import JudgeConfig
from rmkit.judges.meta_judge import compare_ensemble_members
from rmkit.judges.metrics import evaluate_judge, scores_to_preferences, to_verdicts
from rmkit.judges.results import PairwiseResults, collect_results
from rmkit.judges.reward_model import ensemble_score
from rmkit.metrics import agreement, bradley_terry, wins_from_verdicts

COLUMNS = pyarrow.schema([
    ("task", pyarrow.string()), ("kind", pyarrow.string()), ("sample", pyarrow.int32()), ("seed", pyarrow.int64()),
    ("order", pyarrow.string()), ("score", pyarrow.float64()), ("reward", pyarrow.float64()),
    ("text", pyarrow.string()), ("reason", pyarrow.string()), ("prompt_tokens", pyarrow.int64()),
    ("answer_tokens", pyarrow.int64()),
])
ENSEMBLE = pyarrow.schema([
    ("task", pyarrow.string()), ("mean", pyarrow.float64()), ("spread", pyarrow.float64()),
    ("conservative", pyarrow.float64()),
])
AT_ONCE = 1000  # rows that are held in memory
RIDGE = 0.01


class AnswerSource(Protocol):
    """What the hearing kept."""

    seconds: float

    def read(self) -> Iterable[tuple[str, list[Given]]]:
        """Each task with its answers."""


def write_judgments(heard: AnswerSource, path: Path) -> None:
    """Every answer as a row of a Parquet file."""
    write_rows(({"task": task, "kind": type(one).__name__.lower(), **vars(one)}
                for task, answers in heard.read() for one in answers), COLUMNS, path)


def write_ensemble(heard: AnswerSource, path: Path, *, k: float) -> None:
    """What reward models say of each response together, `ensemble_score`, a row of a Parquet file for each."""
    write_rows(ensemble_scores(heard, k), ENSEMBLE, path)


def ensemble_scores(heard: AnswerSource, k: float) -> Iterator[dict[str, Any]]:
    """Each response's mean, spread and conservative score."""
    for task, answers in heard.read():
        scores = [[one.score] for one in answers if isinstance(one, Judgment)]
        found = ensemble_score(scores, k=k)._asdict()
        yield {"task": task, **{name: float(value[0]) for name, value in found.items()}}


def write_rows(rows: Iterator[dict[str, Any]], columns: pyarrow.Schema, path: Path) -> None:
    """Rows as a Parquet file, which has its name only once it is whole."""
    draft = path.with_name(path.name + ".part")
    with pyarrow.parquet.ParquetWriter(draft, columns) as file:
        while some := list(itertools.islice(rows, AT_ONCE)):
            file.write_table(pyarrow.Table.from_pylist(some, columns))
    draft.replace(path)


def build_report(config: JudgeConfig, rows: Dataset, heard: AnswerSource) -> dict[str, Any]:
    """`evaluate_judge` on all pairs of responses, with what it leaves out, ready for JSON.

    `cost` has the tokens of all answers: of one question in two rows, which are put to the judge together and asked
    once, they count twice. Its seconds are of blocks of rows that came to their end, without what a killed run began.
    Where every prompt has one response there are no pairs, and only `answers`, `tasks` and `cost` are told. Beside it:
    tasks, and why answers were `unparsed` or `failed`; on labelled pairs, `ensemble`: what each member of several
    reward models and their conservative score are worth, and the members' ratings in logits, from battles over labels
    and over the others' preferences.
    """
    evidence = collect_results(config, rows, heard.read())
    answers = evidence.answers
    scored = config.responses == 1 and config.language_model is not None
    cost: dict[str, Any] = {
        "prompt_tokens": answers.prompt_tokens, "answer_tokens": answers.answer_tokens, "seconds": heard.seconds,
    }
    report: dict[str, Any] = {"pairs": 0, "cost": cost} if not len(evidence.tasks) else evaluate_judge(
        evidence.list_preferences(config), evidence.labels,
        prompts=evidence.prompts, lengths=evidence.lengths,
        scores=evidence.scores if scored else None, top=config.scale.high if scored else None,
        seed=config.seed, n_bootstrap=config.n_bootstrap, **cost,
    )
    came = int((~answers.failed).sum())
    report["answers"] = {
        "asked": answers.scores.size, "failed": answers.failed.size - came, "unparsed": answers.unread.total(),
        "unparsed_share": answers.unread.total() / came if came else None,
        "unparsed_reasons": dict(answers.unread.most_common()), "failed_reasons": dict(answers.failures.most_common()),
    }
    report["tasks"] = len(answers.scores)
    if config.language_model is None and "chosen" in rows.column_names:
        report["ensemble"] = measure_ensemble(evidence, config)
    return report


def measure_ensemble(evidence: PairwiseResults, config: JudgeConfig) -> dict[str, Any]:
    """Reward models by themselves and together."""
    names = list(config.reward_models.models)
    scores = evidence.scores
    careful = ensemble_score(scores.reshape(-1, len(names)).T, k=config.reward_models.k).conservative
    verdicts = to_verdicts(scores_to_preferences(careful.reshape(-1, 2, 1)))[:, 0, 0]
    members = np.sign(evidence.gaps).T
    report: dict[str, Any] = {
        "conservative": agreement(verdicts, evidence.labels)._asdict(),
        "members": {name: agreement(own, evidence.labels)._asdict() for name, own in zip(names, members, strict=True)},
    }
    sides = scores.transpose(1, 2, 0)
    if len(names) >= 2:
        report["rated_by_labels"] = rate_members(names, compare_ensemble_members(*sides, rule="agreement"))
    if len(names) >= 3:
        report["rated_by_the_others"] = rate_members(names, compare_ensemble_members(*sides, rule="strength"))
    return report


def rate_members(names: list[str], verdicts: NDArray[np.float64]) -> dict[str, float]:
    """Bradley-Terry ratings in logits from members' verdicts [pair, member, member]."""
    wins = wins_from_verdicts(verdicts).sum(axis=0)
    return dict(zip(names, bradley_terry(wins, ridge=RIDGE).ratings.tolist(), strict=True))


def format_report(report: dict[str, Any]) -> str:
    """The report as lines for a terminal."""
    answers, cost = report["answers"], report["cost"]
    lines = [
        f"{answers['asked']} answers on {report['tasks']} tasks, {report['pairs']} pairs of responses: "
        f"{answers['unparsed']} unparsed ({percent(answers['unparsed_share'])}), {answers['failed']} failed",
        *(f"  {number} unparsed: {reason}" for reason, number in answers["unparsed_reasons"].items()),
        *(f"  {number} failed: {reason}" for reason, number in answers["failed_reasons"].items()),
        f"cost: {format_count(cost['prompt_tokens'])} tokens read, {format_count(cost['answer_tokens'])} written, "
        f"{cost['seconds']:.1f} s",
    ]
    if not report["pairs"]:
        return "\n".join(lines)
    agreed, length = report["agreement"], report["length"]
    if agreed["with_ties"] is not None:
        lines.append(f"agreement with labels: {percent(agreed['with_ties'])}{format_interval(agreed)}, without ties "
                     f"{percent(agreed['without_ties'])}; ties {percent(report['tie_rate'])}, "
                     f"{agreed['unjudged']} unjudged")
    lines.append(f"prefers the longer: {percent(length['longer'])}{format_interval(length)}, the labels "
                 f"{percent(length['labels_longer'])}")
    if report["position"] is not None:
        position = report["position"]
        lines.append(
            f"prefers the one shown first: {percent(position['first'])}{format_interval(position)}; same verdict in both "
            f"orders: {percent(position['consistent'])}"
        )
    if report["consistency"] is not None:
        lines.append(f"two answers on one pair are equal: {percent(report['consistency']['equal'])}")
    if report["scores"] is not None and report["scores"]["saturation"] is not None:
        used = report["scores"]["saturation"]
        lines.append(f"scores at the top: {percent(used['top'])}; equal within a pair: {percent(used['ties'])}")
    if report["calibration"] is not None:
        lines.append(f"calibration error of its preferences: {percent(report['calibration']['error'])}")
    if "ensemble" in report:
        members = {**report["ensemble"]["members"], "conservative score": report["ensemble"]["conservative"]}
        lines += [f"  {name}: agreement {percent(own['with_ties'])}" for name, own in members.items()]
    return "\n".join(lines)


def percent(share: float | None) -> str:
    """A share in percent, or a dash."""
    return "-" if share is None else f"{share:.1%}"


def format_interval(interval: dict[str, Any]) -> str:
    """An interval of a share in square brackets, where there is one."""
    return "" if interval["low"] is None else f" [{interval['low']:.1%}, {interval['high']:.1%}]"


def format_count(number: int | None) -> str:
    """A number, or a word for one that nobody counted."""
    return "uncounted" if number is None else str(number)
