"""Language models as judges: they are shown a response, or two in both orders, and write a judgment."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rmkit import generation
from rmkit.core.checks import raise_input_error
from rmkit.generation import GenerationResult, Generator, Sampling, derive_sample_seed
from rmkit.judges.base import Failed, Given, JudgeTask, Judgment, Messages, Order, Unparsed, check_tasks
from rmkit.judges.expected_score import expected_score
from rmkit.judges.prompts import JudgePrompt
from rmkit.judges.sanitize import quote_messages

LIKELY = 20  # alternatives to a token that are asked for where the expected score is read

Way = Literal["written", "expected"]


@dataclass(frozen=True)
class JudgeSampler:
    """How a generator is asked and its answers are read.

    samples: answers to each question. way: the score as written, or expected over the likely tokens in its place.
    tokens: the tokenizer's special tokens, where they are known. cache: a file in which answers are kept as they come.
    """

    generator: Generator
    sampling: Sampling
    samples: int = 1
    seed: int = 0
    way: Way = "written"
    tokens: tuple[str, ...] = ()
    cache: str | Path | None = None

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise_input_error("samples", "at least 1", self.samples, "Meta-Rewarding takes 11.")

    def put(self, asked: Sequence[tuple[Messages, Order]], question: JudgePrompt) -> list[list[Given]]:
        """The answers to conversations of one question, [conversation][sample]."""
        sampling = self.sampling
        if self.way == "expected":
            sampling = dataclasses.replace(sampling, top_logprobs=LIKELY)
        outcomes = self.generator.generate(
            [conversation for conversation, _ in asked],
            samples=self.samples, sampling=sampling, seed=self.seed, cache=self.cache,
        )
        return [
            [self.read(outcome, question, order, sample) for sample, outcome in enumerate(drawn)]
            for (_, order), drawn in zip(asked, outcomes, strict=True)
        ]

    def read(self, outcome: GenerationResult, question: JudgePrompt, order: Order, sample: int) -> Given:
        """One answer; of a comparison, the preference for the first as given."""
        seed = derive_sample_seed(self.seed, sample)
        if isinstance(outcome, generation.Failed):
            return Failed(sample=sample, seed=seed, order=order, reason=outcome.reason)
        storable = outcome.text.encode(errors="backslashreplace").decode()  # servers may send half a surrogate pair
        facts: dict[str, Any] = {
            "sample": sample, "seed": seed, "order": order, "text": storable,
            "prompt_tokens": outcome.prompt_tokens, "answer_tokens": outcome.tokens,
        }
        reading = question.read(outcome.text, cut=outcome.finish == "length")
        if self.way == "expected":
            reading = expected_score(outcome.text, outcome.logprobs or (), reading, question)
        if reading.value is None:
            return Unparsed(**facts, reason=reading.reason)
        return Judgment(**facts, score=1 - reading.value if order == "swapped" else reading.value)


class LanguageModelJudge:
    """A prompted language model; pointwise or pairwise as its `question` is, pairwise always in both orders.

    Of each task there are `asking.samples` answers, in each order.
    """

    def __init__(self, asking: JudgeSampler, question: JudgePrompt) -> None:
        self.asking = asking
        self.question = question
        self.responses = question.responses
        self.scale = question.scale

    def judge(self, tasks: Sequence[JudgeTask]) -> list[list[Given]]:
        """The answers to each task, [task][order * sample]."""
        check_tasks(tasks, self.responses)
        orders: tuple[Order, ...] = ("given", "swapped") if self.responses == 2 else ("given",)
        asked = [(self.show(task, order), order) for task in tasks for order in orders]
        return merge_orders(self.asking.put(asked, self.question), len(orders))

    def show(self, task: JudgeTask, order: Order) -> Messages:
        """The conversation in which a task is put to the judge."""
        return render_task(self.question, task, order, self.asking.tokens)


def render_task(question: JudgePrompt, task: JudgeTask, order: Order, tokens: Sequence[str]) -> Messages:
    """The conversation in which a task is put to a judge; the special `tokens` of its tokenizer are broken."""
    return question.ask(
        request=quote_messages(task.prompt, tokens),
        **by_slot([quote_messages(response, tokens) for response in task.responses], order),
    )


def by_slot(quoted: Sequence[str], order: Order) -> dict[str, str]:
    """What is judged, by the slot it is shown in."""
    return dict(zip(("first", "second"), quoted if order == "given" else quoted[::-1], strict=False))


def merge_orders(answers: Sequence[list[Given]], orders: int) -> list[list[Given]]:
    """Answers [task * order][sample] as [task][order * sample]."""
    return [sum(answers[start:start + orders], []) for start in range(0, len(answers), orders)]
