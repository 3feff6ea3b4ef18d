"""The evidence: all answers of a judge as arrays over pairs of responses, and what they cost."""

import itertools
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray
from scipy.special import expit

from rmkit.data.tables import number_prompts
from rmkit.evaluation.judging import prefer
from rmkit.judges.judgment import Failed, Given, Judgment, Unparsed
from rmkit.stages.judging.appointing import JudgeConfig
from rmkit.stages.judging.docket import list_tasks, read_rows


@dataclass
class Answers:
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
            self.prompt_tokens = add_known(self.prompt_tokens, answer.prompt_tokens)
            self.answer_tokens = add_known(self.answer_tokens, answer.answer_tokens)


@dataclass(frozen=True)
class Evidence:
    """The answers by pairs of responses to a prompt: labelled pairs, or every two of a prompt's samples.

    tasks [pair, task]: the numbers of the tasks on a pair: of its two responses, or of their comparison.
    lengths [pair, side]: characters. prompts [pair]. labels [pair]: 1 in labelled pairs, NaN among samples.
    """

    answers: Answers
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
        return prefer(self.scores)


def gather(config: JudgeConfig, rows: Dataset, heard: Iterable[tuple[str, list[Given]]]) -> Evidence:
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
    answers = Answers(np.full(shape, np.nan), np.full(shape, np.nan), np.zeros(shape, np.bool_))
    for name, given in heard:
        answers.add(places[name], given)
    labels = np.full(len(tasks), 1.0 if "chosen" in rows.column_names else np.nan)
    prompts = number_prompts(rows)[owners]
    return Evidence(answers, np.array(tasks, dtype=np.intp), np.array(lengths, dtype=np.float64), prompts, labels)


def add_known(total: int | None, number: int | None) -> int | None:
    """The sum, unknown where a part of it is."""
    return None if total is None or number is None else total + number
