"""A judge's answers as arrays over pairs of responses, and the output of `rmkit judge` as arrays over samples."""

import itertools
from collections import Counter
from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
from datasets import Dataset
from numpy.typing import NDArray
from scipy.special import expit

from rmkit.data.parquet import load_split, prompt_ids
from rmkit.data.samples import is_first_occurrence
from rmkit.data.schema import Messages
from rmkit.generation import Failed
from rmkit.judges.base import JudgeAnswer, JudgeSpec, Unparsed
from rmkit.judges.metrics import average, scores_to_preferences
from rmkit.judges.reward_model import ensemble_score
from rmkit.judges.tasks import ROWS, iterate_rows, list_tasks

JUDGMENTS = "judgments.parquet"
BATCH_SIZE = 10000  # judgments held as Python objects


@dataclass
class AnswerArrays:
    """Scores and rewards [task, answer], NaN for none, and counts of what has none.

    failed: [task, answer], true where no answer came. unparsed_reasons, failed_reasons: how often each occurred.
    prompt_tokens, answer_tokens: sums; None if a part of them is unknown. seconds: of finished batches.
    """

    scores: NDArray[np.float64]
    rewards: NDArray[np.float64]
    failed: NDArray[np.bool_]
    unparsed_reasons: Counter[str] = field(default_factory=Counter)
    failed_reasons: Counter[str] = field(default_factory=Counter)
    prompt_tokens: int | None = 0
    answer_tokens: int | None = 0
    seconds: float = 0.0

    def add(self, task: int, answers: list[JudgeAnswer]) -> None:
        """Enter a task's answers, those in the original order before the swapped ones."""
        for index, answer in enumerate(answers):
            if isinstance(answer, Failed):
                self.failed[task, index] = True
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
        failed, unparsed = int(self.failed.sum()), self.unparsed_reasons.total()
        received = self.failed.size - failed
        return {
            "asked": self.failed.size, "failed": failed, "unparsed": unparsed,
            "unparsed_share": unparsed / received if received else None,
            "unparsed_reasons": dict(self.unparsed_reasons.most_common()),
            "failed_reasons": dict(self.failed_reasons.most_common()),
        }


def aggregate_scores(answers: AnswerArrays, spec: JudgeSpec) -> NDArray[np.float64]:
    """One score of each response: the conservative score of reward models, the mean of another judge's answers."""
    if spec.members:
        return ensemble_score(answers.scores.T, std_penalty=spec.std_penalty).conservative
    return average(answers.scores, (1,))


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
    shape = (len(indices), spec.answers)
    arrays = AnswerArrays(np.full(shape, np.nan), np.full(shape, np.nan), np.zeros(shape, np.bool_), seconds=seconds)
    for name, answers_of_task in answers:
        arrays.add(indices[name], answers_of_task)
    labels = np.full(len(tasks), 1.0 if "chosen" in rows.column_names else np.nan)
    return PairwiseResults(
        spec, arrays, np.array(tasks, dtype=np.intp), np.array(lengths, dtype=np.float64),
        prompt_ids(rows)[row_of_pair], labels,
    )


@dataclass(frozen=True)
class JudgedSamples:
    """Prompts with their responses, and judgments of these.

    ids, prompts: [prompt]; responses: [prompt][response], as messages. scores, rewards: [prompt, response, judgment],
    NaN for none; of reward models a judgment is a member's. texts: of the judgments that have a score, by their
    indices (prompt, response, judgment).
    """

    ids: list[str]
    prompts: list[Messages]
    responses: list[list[Messages]]
    scores: NDArray[np.float64]
    rewards: NDArray[np.float64]
    texts: dict[tuple[int, int, int], str]

    @property
    def contents(self) -> list[list[str]]:
        """The responses' texts, [prompt][response]."""
        return [[response[-1]["content"] for response in responses] for responses in self.responses]

    def pad(self, values: list[list[float]]) -> NDArray[np.float64]:
        """Values [prompt][response] as an array, NaN where a prompt has fewer responses than another."""
        array = np.full(self.scores.shape[:2], np.nan)
        for prompt, values_of_prompt in enumerate(values):
            array[prompt, :len(values_of_prompt)] = values_of_prompt
        return array

    @property
    def lengths(self) -> NDArray[np.float64]:
        """Characters, [prompt, response]."""
        return self.pad([[len(text) for text in texts] for texts in self.contents])

    @property
    def first(self) -> NDArray[np.bool_]:
        """Whether a response repeats no earlier one of its prompt, [prompt, response]."""
        return self.pad([is_first_occurrence(texts).tolist() for texts in self.contents]) == 1

    def average(self, min_judgments: int = 1, std_penalty: float = 0.0) -> NDArray[np.float64]:
        """Mean score minus `std_penalty` population standard deviations, [prompt, response].

        NaN for a response with fewer than `min_judgments` judgments.
        """
        known = ~np.isnan(self.scores)
        count = known.sum(axis=-1)
        total = np.maximum(count, 1)
        mean = np.where(known, self.scores, 0.0).sum(axis=-1) / total
        std = np.sqrt(np.where(known, np.square(self.scores - mean[..., None]), 0.0).sum(axis=-1) / total)
        return np.where(count >= min_judgments, mean - std_penalty * std, np.nan)


def read_judged(folder: str | Path) -> JudgedSamples:
    """The samples and judgments in an output folder of `rmkit judge`.

    Of a judge that compares, the n-th judgment of a response is the mean preference for it in the n-th comparisons with
    each other response of its prompt, in both orders: since every two are compared, that orders the responses as
    Bradley-Terry ratings do.
    """
    rows = load_split(Path(folder) / ROWS, "samples", ("id", "prompt", "responses"))
    ids, responses = list(rows["id"]), list(rows["responses"])
    indices = {name: prompt for prompt, name in enumerate(ids)}
    file = pyarrow.parquet.ParquetFile(Path(folder) / JUDGMENTS)
    samples = 1 + max(int(max(batch["sample"].to_numpy(), default=0)) for batch in file.iter_batches())
    shape = (len(ids), max(map(len, responses)), samples)
    total, rewards, count = np.zeros(shape), np.full(shape, np.nan), np.zeros(shape)
    texts: dict[tuple[int, int, int], str] = {}
    for batch in file.iter_batches(BATCH_SIZE):
        for answer in batch.to_pylist():
            if answer["kind"] != "judgment":
                continue
            name, *judged = split_task_id(answer["task"], indices)
            for response, score in zip(judged, (answer["score"], 1 - answer["score"]), strict=False):
                index = (indices[name], response, answer["sample"])
                total[index] += score
                count[index] += 1
            if len(judged) == 1:
                rewards[index] = np.nan if answer["reward"] is None else answer["reward"]
                if answer["text"] is not None:
                    texts[index] = answer["text"]
    scores = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return JudgedSamples(ids, list(rows["prompt"]), responses, scores, rewards, texts)


def split_task_id(task: str, row_ids: Container[str]) -> tuple[Any, ...]:
    """The row of a task and the indices of its one or two responses; a row's id may contain a slash."""
    row, last = task.rsplit("/", 1)
    if row in row_ids:
        return row, int(last)
    row, first = row.rsplit("/", 1)
    return row, int(first), int(last)
