"""`rmkit compare`: win rates of policies against one of them, by any judge."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.core.stage import Stage, open_stage, write_json
from rmkit.data.synthetic import gold_reward
from rmkit.data.synthetic.dataset import read_request
from rmkit.evaluation.policies import evaluate_policies, grade_turns
from rmkit.evaluation.policy_samples import (
    PolicySamples,
    build_comparisons,
    pairwise_rows,
    pointwise_rows,
    read_policies,
)
from rmkit.evaluation.tables import format_standings
from rmkit.judges.config import JudgeConfig, LLMJudgeConfig, RewardModelJudgeConfig, list_settings
from rmkit.judges.metrics import average, scores_to_preferences, to_verdicts
from rmkit.judges.report import write_judgments
from rmkit.judges.results import AnswerArrays, collect_results
from rmkit.judges.reward_model import ensemble_score
from rmkit.judges.runner import ANSWERS, AnswerLog, run_judge
from rmkit.metrics import position_bias


@dataclass
class CompareConfig:
    """Compare `policies` (name -> its samples) with `baseline`, by default the first of them, by one judge.

    Samples are a folder of `rmkit sample`, a file with `prompt` and `responses`, or a list of these. The n-th responses
    of two policies to a question meet; a question that not all have answered is left out. A `difficulty` in every row
    enters the length-controlled rate. Second turns (`rmkit sample --turns 2`; rows with `question` and `turn`) are
    questions of their own, graded apart: the judge sees the conversation. `matches`: with the baseline alone, or also
    among the others, which the arena score counts.

    The judge is `language_model` or `reward_model`, as `rmkit judge` has them (a comparison in both orders), or, with
    `gold`, the gold world's own reward. A killed run goes on where it was.
    """

    policies: dict[str, str | list[str]]
    output_dir: str
    baseline: str | None = None
    matches: Literal["baseline", "all"] = "baseline"
    language_model: LLMJudgeConfig | None = None
    reward_model: RewardModelJudgeConfig | None = None
    gold: bool = False
    split: str = "train"
    at_once: int = 64
    allow_failures: bool = False
    n_bootstrap: int = 1000
    seed: int = 0
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        if len(self.policies) < 2:
            raise_input_error(
                "policies", "at least two names with samples", list(self.policies), "Write --policies.NAME FOLDER."
            )
        if self.baseline is not None and self.baseline not in self.policies:
            raise_input_error(
                "baseline", f"one of {', '.join(self.policies)}", self.baseline, "Name one of the policies."
            )
        if not self.gold:
            self.find_judge()
        elif self.language_model is not None or self.reward_model is not None:
            raise_input_error("gold", "no other judge beside it", Verbatim("one"), "Name one judge.")

    def find_judge(self) -> JudgeConfig:
        """The same judge's configuration for `rmkit judge`."""
        shared = ("language_model", "reward_model", "split", "at_once", "allow_failures", "n_bootstrap", "seed",
                  "trust_remote_code")
        return JudgeConfig(data="", output_dir=self.output_dir, **{name: getattr(self, name) for name in shared})

    @property
    def places(self) -> dict[str, list[str]]:
        """Where each policy's samples are."""
        return {name: [place] if isinstance(place, str) else place for name, place in self.policies.items()}


def compare(config: CompareConfig) -> Path:
    """Write `comparison.json` and, but for gold, every answer into `judgments.parquet`; print the table; the folder.

    The record has `evaluate_policies`' figures by policy, `grades` (of judges of single responses: mean scores by turn,
    as `grade_turns`), questions, rows left out by policy, and how the judge answered.
    """
    field = read_policies(config.places, config.split)
    inputs: dict[str, str | Path] = {
        f"policies.{name}.{number}": place for name, own in config.places.items() for number, place in enumerate(own)}
    if config.reward_model is not None:
        inputs |= {f"models.{name}": path for name, path in config.reward_model.models.items()}
    elif config.language_model is not None and config.language_model.base_url is None:
        inputs["model"] = config.language_model.model_name_or_path
    with open_stage(config.output_dir, "compare", list_settings(config), inputs) as stage:
        if not stage.done:
            stage.record["comparison"] = found = compare_policies(stage, config, field)
            write_json(stage.directory / "comparison.json", found)
        print(format_standings(stage.record["comparison"]))
    (stage.directory / ANSWERS).unlink(missing_ok=True)  # sealed, the stage needs it no more
    return stage.directory


def compare_policies(stage: Stage, config: CompareConfig, field: PolicySamples) -> dict[str, Any]:
    """Everything that `comparison.json` says."""
    baseline = config.baseline or field.policies[0]
    anchor = field.policies.index(baseline) if config.matches == "baseline" else None
    seeds = {"seed": config.seed, "n_bootstrap": config.n_bootstrap}
    report: dict[str, Any] = {"baseline": baseline, "questions": len(field.names), "left_out": field.left_out}
    if config.gold:
        scores = gold_rewards(field)
    else:
        judge = config.find_judge()
        answers = judge_all(stage, judge, field, anchor)
        report["answers"] = {
            "asked": answers.scores.size, "failed": int(answers.failed.sum()), "unparsed": answers.unread.total(),
            "prompt_tokens": answers.prompt_tokens, "answer_tokens": answers.answer_tokens,
        }
        if judge.responses == 2:
            verdicts = to_verdicts(average(answers.scores.reshape(len(answers.scores), 2, -1), (2,)))
            matches = build_comparisons(field, anchor, (verdicts + 1) / 2)
            bias = position_bias(verdicts[:, 0], -verdicts[:, 1])._asdict()
            return {**report, "position": bias, "policies": evaluate_policies(
                matches, field.policies, baseline=baseline, **seeds)}
        scores = aggregate_scores(answers, config)
    starts = np.cumsum([0, *(len(one.responses) for row in field.sampled for one in row)])[:-1]
    first = starts.reshape(len(field.names), len(field.policies))
    met = np.array([[[scores[first[question, policy] + number]] for policy in (one, other)]
                    for question, one, other, number in field.list_pairs(anchor)])
    matches = build_comparisons(field, anchor, scores_to_preferences(met)[:, :, 0])
    return {
        **report,
        "grades": mean_score_by_turn(field, scores, **seeds),
        "policies": evaluate_policies(matches, field.policies, baseline=baseline, **seeds),
    }


def judge_all(stage: Stage, judge: JudgeConfig, field: PolicySamples, anchor: int | None) -> AnswerArrays:
    """The judge's answers on all tasks, in the order of the rows."""
    rows = pointwise_rows(field) if judge.responses == 1 else pairwise_rows(field, anchor)
    journal = AnswerLog(stage.directory / ANSWERS)
    run_judge(judge, rows, stage.directory, journal)
    write_judgments(journal, stage.directory / "judgments.parquet")
    return collect_results(judge, rows, journal.read()).answers


def aggregate_scores(answers: AnswerArrays, config: CompareConfig) -> NDArray[np.float64]:
    """One score of each response: the mean of a language model's, the conservative one of reward models."""
    if config.reward_model is None:
        return average(answers.scores, (1,))
    return ensemble_score(answers.scores.T, k=config.reward_model.k).conservative


def gold_rewards(field: PolicySamples) -> NDArray[np.float64]:
    """Gold rewards of all responses."""
    if not all(one.columns.get("request") for row in field.sampled for one in row):
        raise_input_error(
            "gold", "rows with the `request` of the gold world", Verbatim("some without"), "Name another judge."
        )
    return np.array([gold_reward(read_request(one.columns["request"]), response[-1]["content"])
                     for row in field.sampled for one in row for response in one.responses])


def mean_score_by_turn(field: PolicySamples, scores: NDArray[np.float64], **seeds: int) -> dict[str, Any]:
    """Each policy's mean scores by turn."""
    owners, turns, questions = [], [], []
    for (question, turn), row in zip(field.names, field.sampled, strict=True):
        for policy, sampled in zip(field.policies, row, strict=True):
            for _ in sampled.responses:
                owners.append(policy)
                turns.append(turn)
                questions.append(question)
    mine = {policy: np.array(owners) == policy for policy in field.policies}
    return {policy: grade_turns(scores[own], np.array(turns)[own], np.array(questions)[own], **seeds)
            for policy, own in mine.items()}
