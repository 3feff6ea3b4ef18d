"""The evidence: all answers of a judge as arrays over pairs of responses, and what they cost."""

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
from rmkit.judges.base import Failed, Given, Judgment, Unparsed
from rmkit.judges.config import JudgeConfig
from rmkit.judges.metrics import scores_to_preferences
from rmkit.judges.tasks import list_tasks, read_rows


@dataclass
class AnswerArrays:
    """Each task's answers [task, answer], NaN where there is none, and what they say beside their scores.

    rewards: of reward models. failed: true where no answer came. unread, failures: the reasons, with how often.
    prompt_tokens, answer_tokens: of all answers together; None where one does not say.
    """

    scores: NDArray[np.float64]
    rewards: NDArray[np.float64]
    failed: NDArray[np.bool_]
    unread: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    prompt_tokens: int | None = 0
    answer_tokens: int | None = 0

    def add(self, task: int, answers: list[Given]) -> None:
        """Enter a task's answers, those in the order given before the swapped ones."""
        for number, answer in enumerate(answers):
            if isinstance(answer, Failed):
                self.failed[task, number] = True
                self.failures[answer.reason] += 1
                continue
            if isinstance(answer, Unparsed):
                self.unread[answer.reason] += 1
            elif isinstance(answer, Judgment):
                self.scores[task, number] = answer.score
                self.rewards[task, number] = np.nan if answer.reward is None else answer.reward
            self.prompt_tokens = add_optional(self.prompt_tokens, answer.prompt_tokens)
            self.answer_tokens = add_optional(self.answer_tokens, answer.answer_tokens)


@dataclass(frozen=True)
class PairwiseResults:
    """The answers by pairs of responses to a prompt: labelled pairs, or every two of a prompt's samples.

    tasks [pair, task]: the numbers of the tasks on a pair: of its two responses, or of their comparison.
    lengths [pair, side]: characters. prompts [pair]. labels [pair]: 1 in labelled pairs, NaN among samples.
    """

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

    def list_preferences(self, config: JudgeConfig) -> NDArray[np.float64]:
        """Preferences for the first [pair, order, answer]; of reward models each member's is an answer.

        A member's is sigmoid(gap) of its raw rewards, the chance that it states by the model it was trained as, so that
        it can be calibrated. The verdict is that of the mean chance: a member that is sure counts for more than one
        that is not, also where its rewards are too wide to be true. On the stated scale, which takes each member's
        reach away, are the conservative score and the mean in `ensemble.parquet`.
        """
        if config.responses == 2:
            return self.answers.scores[self.tasks[:, 0]].reshape(len(self.tasks), 2, -1)
        if config.language_model is None:
            return np.asarray(expit(self.gaps)[:, None], dtype=np.float64)
        return scores_to_preferences(self.scores)


def collect_results(config: JudgeConfig, rows: Dataset, heard: Iterable[tuple[str, list[Given]]]) -> PairwiseResults:
    """The evidence on `rows` from tasks with their answers."""
    places: dict[str, int] = {}
    tasks: list[list[int]] = []
    lengths: list[tuple[int, int]] = []
    owners: list[int] = []
    for number, row in enumerate(read_rows(rows)):
        start = len(places)
        own = list_tasks(row, config.responses)
        places |= {task.id: start + place for place, task in enumerate(own)}
        sizes = [len(response[-1]["content"]) for response in row.responses.values()]
        for place, (first, second) in enumerate(itertools.combinations(range(len(sizes)), 2)):
            lengths.append((sizes[first], sizes[second]))
            tasks.append([start + first, start + second] if config.responses == 1 else [start + place])
            owners.append(number)
    shape = (len(places), config.answers)
    answers = AnswerArrays(np.full(shape, np.nan), np.full(shape, np.nan), np.zeros(shape, np.bool_))
    for name, given in heard:
        answers.add(places[name], given)
    labels = np.full(len(tasks), 1.0 if "chosen" in rows.column_names else np.nan)
    prompts = prompt_ids(rows)[owners]
    return PairwiseResults(
        answers, np.array(tasks, dtype=np.intp), np.array(lengths, dtype=np.float64), prompts, labels
    )


def add_optional(total: int | None, number: int | None) -> int | None:
    """The sum, unknown where a part of it is."""
    return None if total is None or number is None else total + number


ROWS, JUDGMENTS = "rows.parquet", "judgments.parquet"
AT_ONCE = 10000  # judgments held as Python objects


@dataclass(frozen=True)
class JudgedSamples:
    """Prompts with their responses, and judgments of these.

    ids, prompts: [prompt]; responses: [prompt][response], as messages. scores, rewards: [prompt, response, judgment],
    NaN where there is none; of reward models a judgment is a member's. texts: of the judgments that have a score, by
    their three places.
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
        return [[response[-1]["content"] for response in own] for own in self.responses]

    def spread(self, values: list[list[float]]) -> NDArray[np.float64]:
        """[prompt][response] as an array, NaN where a prompt has fewer responses than another."""
        array = np.full(self.scores.shape[:2], np.nan)
        for place, own in enumerate(values):
            array[place, :len(own)] = own
        return array

    @property
    def lengths(self) -> NDArray[np.float64]:
        """Characters, [prompt, response]."""
        return self.spread([[len(text) for text in own] for own in self.contents])

    @property
    def first(self) -> NDArray[np.bool_]:
        """Whether a response repeats no earlier one of its prompt, [prompt, response]."""
        return self.spread([is_first_occurrence(own).tolist() for own in self.contents]) == 1

    def average(self, least: int = 1, k: float = 0.0) -> NDArray[np.float64]:
        """Mean score less `k` (population) standard deviations, [prompt, response]; NaN below `least` judgments."""
        known = ~np.isnan(self.scores)
        count = known.sum(axis=-1)
        total = np.maximum(count, 1)
        mean = np.where(known, self.scores, 0.0).sum(axis=-1) / total
        spread = np.sqrt(np.where(known, np.square(self.scores - mean[..., None]), 0.0).sum(axis=-1) / total)
        return np.where(count >= least, mean - k * spread, np.nan)


def read_judged(folder: str | Path) -> JudgedSamples:
    """The samples and judgments in a folder of `rmkit judge`.

    Of a judge that compares, the n-th judgment of a response is the mean preference for it in the n-th comparisons with
    each other response of its prompt, in both orders: as all meet all, that orders them as Bradley-Terry ratings do.
    """
    rows = load_split(Path(folder) / ROWS, "samples", ("id", "prompt", "responses"))
    ids, responses = list(rows["id"]), list(rows["responses"])
    numbers = {name: prompt for prompt, name in enumerate(ids)}
    file = pyarrow.parquet.ParquetFile(Path(folder) / JUDGMENTS)
    samples = 1 + max(int(max(batch["sample"].to_numpy(), default=0)) for batch in file.iter_batches())
    shape = (len(ids), max(map(len, responses)), samples)
    total, rewards, count = np.zeros(shape), np.full(shape, np.nan), np.zeros(shape)
    texts: dict[tuple[int, int, int], str] = {}
    for batch in file.iter_batches(AT_ONCE):
        for answer in batch.to_pylist():
            if answer["kind"] != "judgment":
                continue
            name, *judged = split_task(answer["task"], numbers)
            for response, score in zip(judged, (answer["score"], 1 - answer["score"]), strict=False):
                place = (numbers[name], response, answer["sample"])
                total[place] += score
                count[place] += 1
            if len(judged) == 1:
                rewards[place] = np.nan if answer["reward"] is None else answer["reward"]
                if answer["text"] is not None:
                    texts[place] = answer["text"]
    scores = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return JudgedSamples(ids, list(rows["prompt"]), responses, scores, rewards, texts)


def split_task(task: str, ids: Container[str]) -> tuple[Any, ...]:
    """A task's row, and the number of the response, or of the two, that it is on; a row's id may hold a stroke."""
    row, last = task.rsplit("/", 1)
    if row in ids:
        return row, int(last)
    row, first = row.rsplit("/", 1)
    return row, int(first), int(last)
