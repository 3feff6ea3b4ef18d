"""A judge's answers as arrays over tasks and over pairs of responses."""

import itertools
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray
from scipy.special import expit

from rmkit.data.parquet import prompt_ids
from rmkit.generation import Failed
from rmkit.judges.base import JudgeAnswer, JudgeSpec, Unparsed
from rmkit.judges.metrics import average, scores_to_preferences
from rmkit.judges.reward_model import EnsembleScore, ensemble_score
from rmkit.judges.tasks import iterate_rows, list_tasks


@dataclass
class AnswerArrays:
    """Scores and rewards [task, answer], NaN for none, and counts of what has none.

    tasks: ids. unparsed_reasons, failed_reasons: how often each occurred. prompt_tokens, answer_tokens: sums; None if
    a part of them is unknown. seconds: of finished batches.
    """

    tasks: list[str]
    scores: NDArray[np.float64]
    rewards: NDArray[np.float64]
    unparsed_reasons: Counter[str] = field(default_factory=Counter)
    failed_reasons: Counter[str] = field(default_factory=Counter)
    prompt_tokens: int | None = 0
    answer_tokens: int | None = 0
    seconds: float = 0.0

    def add(self, task: int, answers: list[JudgeAnswer]) -> None:
        """Enter a task's answers, those in the original order before the swapped ones."""
        for index, answer in enumerate(answers):
            if isinstance(answer, Failed):
                self.failed_reasons[answer.reason] += 1
                continue
            if isinstance(answer, Unparsed):
                self.unparsed_reasons[answer.reason] += 1
            else:
                self.scores[task, index] = answer.score
                self.rewards[task, index] = np.nan if answer.reward is None else answer.reward
            self.prompt_tokens = add_optional(self.prompt_tokens, answer.prompt_tokens)
            self.answer_tokens = add_optional(self.answer_tokens, answer.answer_tokens)

    def counts(self) -> dict[str, Any]:
        """How many answers were asked for, failed, and could not be parsed, and why."""
        failed, unparsed = self.failed_reasons.total(), self.unparsed_reasons.total()
        received = self.scores.size - failed
        return {
            "asked": self.scores.size, "failed": failed, "unparsed": unparsed,
            "unparsed_share": unparsed / received if received else None,
            "unparsed_reasons": dict(self.unparsed_reasons.most_common()),
            "failed_reasons": dict(self.failed_reasons.most_common()),
        }


def add_optional(total: int | None, number: int | None) -> int | None:
    """The sum, None if a part of it is unknown."""
    return None if total is None or number is None else total + number


@dataclass(frozen=True)
class PairwiseResults:
    """A judge's answers by pairs of responses to a prompt: labelled pairs, or every two of a prompt's samples.

    tasks: [pair, task], the indices of the tasks of a pair: its two responses, or their comparison. lengths: [pair,
    side], characters. prompts: [pair]. labels: [pair], 1 for labelled pairs, NaN for samples.
    """

    spec: JudgeSpec
    answers: AnswerArrays
    tasks: NDArray[np.intp]
    lengths: NDArray[np.float64]
    prompts: NDArray[np.integer]
    labels: NDArray[np.float64]

    @property
    def ensemble(self) -> EnsembleScore:
        """Of reward models: the members' mean, spread and conservative score of each task's response."""
        return ensemble_score(self.answers.scores.T, std_penalty=self.spec.std_penalty)

    @property
    def task_scores(self) -> NDArray[np.float64]:
        """One score of each task: the conservative score of reward models, the mean of another judge's answers."""
        return self.ensemble.conservative if self.spec.members else average(self.answers.scores, (1,))

    @property
    def scores(self) -> NDArray[np.float64]:
        """Scores [pair, side, answer] of a judge of single responses."""
        return self.answers.scores[self.tasks]

    @property
    def gaps(self) -> NDArray[np.float64]:
        """Gaps [pair, member] of reward models."""
        rewards = self.answers.rewards[self.tasks]
        return np.asarray(rewards[:, 0] - rewards[:, 1], dtype=np.float64)

    @property
    def preferences(self) -> NDArray[np.float64]:
        """Preferences for the first response [pair, order, answer]; of reward models each member's is an answer.

        A member's is sigmoid(gap) of its raw rewards, the probability by the model that it was trained as, so that it
        can be calibrated; the verdict is that of the mean probability. The conservative score and the mean score in
        `ensemble.parquet` are on the stated scale instead, which removes the members' own scales.
        """
        if self.spec.responses == 2:
            return self.answers.scores[self.tasks[:, 0]].reshape(len(self.tasks), 2, -1)
        if self.spec.members:
            return np.asarray(expit(self.gaps)[:, None], dtype=np.float64)
        return scores_to_preferences(self.scores)


def collect_results(
    rows: Dataset, answers: Iterable[tuple[str, list[JudgeAnswer]]], spec: JudgeSpec, seconds: float
) -> PairwiseResults:
    """The results on `rows` from the answers by task id."""
    indices: dict[str, int] = {}
    tasks: list[list[int]] = []
    lengths: list[tuple[int, int]] = []
    row_of_pair: list[int] = []
    for row_index, row in enumerate(iterate_rows(rows)):
        start = len(indices)
        indices |= {task.id: start + offset for offset, task in enumerate(list_tasks(row, spec.responses))}
        sizes = [len(response[-1]["content"]) for response in row.responses.values()]
        for pair, (first, second) in enumerate(itertools.combinations(range(len(sizes)), 2)):
            lengths.append((sizes[first], sizes[second]))
            tasks.append([start + first, start + second] if spec.responses == 1 else [start + pair])
            row_of_pair.append(row_index)
    scores = np.full((len(indices), spec.answers), np.nan)
    arrays = AnswerArrays(list(indices), scores, scores.copy(), seconds=seconds)
    for name, answers_of_task in answers:
        arrays.add(indices[name], answers_of_task)
    labels = np.full(len(tasks), 1.0 if "chosen" in rows.column_names else np.nan)
    return PairwiseResults(
        spec, arrays, np.array(tasks, dtype=np.intp), np.array(lengths, dtype=np.float64),
        prompt_ids(rows)[row_of_pair], labels,
    )
