"""The interface of all judges: tasks in, judgments out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

from rmkit.core.checks import raise_input_error
from rmkit.generation import Failed

Messages = Sequence[Mapping[str, str]]
Order = Literal["original", "swapped"]
ORDERS: tuple[Order, Order] = ("original", "swapped")


class Scale(NamedTuple):
    """The range of a judge's scores, both ends included."""

    low: float
    high: float

    def holds(self, score: float) -> bool:
        """Whether a score is on the scale."""
        return self.low <= score <= self.high


PREFERENCE = Scale(0.0, 1.0)  # of a comparison: how far the first response is preferred; 1/2 is a tie


class JudgeSpec(NamedTuple):
    """What a judge's answers look like, known before its models are loaded.

    responses: 1 for a judge that scores single responses, 2 for one that compares two. answers: for each task; of a
    comparison those in the original order come first. models: the models that are read, by name. members: of an
    ensemble of reward models, whose answers to a task are its members'; their score is the mean minus `std_penalty`
    standard deviations.
    """

    responses: int
    scale: Scale
    answers: int
    models: Mapping[str, str]
    members: tuple[str, ...] = ()
    std_penalty: float = 0.0


@dataclass(frozen=True)
class JudgeTask:
    """One response to score, or two to compare, with their prompt; `id` is unique.

    request: what a prompt of the synthetic data asks for (its column `request`).
    """

    id: str
    prompt: Messages
    responses: tuple[Messages, ...]
    request: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class AnswerFields:
    """What a judge's answers have in common.

    sample: index of the sample; of an ensemble, of the member.
    seed: under which the sample was drawn; None for a judge that does not sample.
    order: in which order the two responses were shown; "original" for a single response.
    text: what the judge wrote; None for a judge that does not write.
    prompt_tokens, answer_tokens: read and written for this answer; None where they were not counted.
    """

    sample: int
    seed: int | None = None
    order: Order = "original"
    text: str | None = None
    prompt_tokens: int | None = None
    answer_tokens: int | None = None


@dataclass(frozen=True, kw_only=True)
class Judgment(AnswerFields):
    """A score on the judge's scale; of a comparison, the preference for the first response in the original order.

    reward: of a reward model, before it was mapped to the scale.
    """

    score: float
    reward: float | None = None


@dataclass(frozen=True, kw_only=True)
class Unparsed(AnswerFields):
    """An answer without a verdict that can be parsed, and the reason: neither a score nor a tie."""

    reason: str


JudgeAnswer = Judgment | Unparsed | Failed


class Judge(Protocol):
    """Answers tasks, each with the same number of answers."""

    responses: int

    def judge(self, tasks: Sequence[JudgeTask]) -> list[list[JudgeAnswer]]:
        """The answers to each task, [task][order * sample]."""


def check_tasks(tasks: Sequence[JudgeTask], responses: int) -> None:
    """Refuse tasks with another number of responses than the judge takes."""
    for task in tasks:
        if len(task.responses) != responses:
            hint = "A judge scores single responses or compares two."
            raise_input_error(f"task {task.id}", f"responses: {responses}", len(task.responses), hint)
