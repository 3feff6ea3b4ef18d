"""Judgments: what a judge is asked, and what it answers, whichever kind of judge it is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from rmkit.core.checks import raise_input_error

Messages = Sequence[Mapping[str, str]]
Order = Literal["given", "swapped"]


class Scale(NamedTuple):
    """The scores a judge may give, ends included."""

    low: float
    high: float

    def holds(self, score: float) -> bool:
        """Whether a score lies on the scale."""
        return self.low <= score <= self.high


PREFERENCE = Scale(0.0, 1.0)  # of a comparison: how far the first response is preferred; 1/2 is a tie


@dataclass(frozen=True)
class JudgeTask:
    """One response to score, or two to compare, and the prompt they answer; `id` tells tasks apart."""

    id: str
    prompt: Messages
    responses: tuple[Messages, ...]


@dataclass(frozen=True, kw_only=True)
class JudgeAnswer:
    """What every answer of a judge carries.

    sample: which of the N answers; of an ensemble, which member.
    seed: that the sample was drawn under, its own and not the run's; None for a judge that draws nothing.
    order: whether the two things compared were shown as given or swapped; "given" where there is one.
    text: what the judge wrote; None for a judge that does not write.
    prompt_tokens, answer_tokens: read and written for this answer; None where nobody counted.
    """

    sample: int
    seed: int | None = None
    order: Order = "given"
    text: str | None = None
    prompt_tokens: int | None = None
    answer_tokens: int | None = None


@dataclass(frozen=True, kw_only=True)
class Judgment(JudgeAnswer):
    """A score on the judge's scale; of a comparison, the preference for the first as given, whatever the order.

    reward: what a reward model gave before it was put on the scale.
    """

    score: float
    reward: float | None = None


@dataclass(frozen=True, kw_only=True)
class Unparsed(JudgeAnswer):
    """An answer that says nothing that can be read: no score, no tie, no loss. `reason` says why."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class Failed(JudgeAnswer):
    """No answer came, for a `reason` that another try may not meet."""

    reason: str


Given = Judgment | Unparsed | Failed


class Judge(Protocol):
    """Answers tasks with the same number of answers each, in order.

    responses: 1 for a judge that scores responses, 2 for one that compares two.
    scale: of the scores; `PREFERENCE` for comparisons.
    """

    responses: int
    scale: Scale

    def judge(self, tasks: Sequence[JudgeTask]) -> list[list[Given]]:
        """The answers to each task, [task][answer]; those in the order given come before the swapped ones."""


def check_tasks(tasks: Sequence[JudgeTask], responses: int) -> None:
    """Refuse tasks with another number of responses than the judge takes."""
    for task in tasks:
        if len(task.responses) != responses:
            raise_input_error(
                f"task {task.id}",
                f"responses: {responses}",
                len(task.responses),
                "One judge scores a response, another compares two.",
            )
