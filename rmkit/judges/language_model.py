"""Language models as judges: they see a response, or two in both orders, and write a judgment."""

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rmkit.core.checks import raise_input_error
from rmkit.generation import (
    Failed,
    GenerationResult,
    Generator,
    Sampling,
    TransformersGenerator,
    choose_generator,
    derive_sample_seed,
)
from rmkit.judges.base import (
    ORDERS,
    JudgeAnswer,
    JudgeSpec,
    JudgeTask,
    Judgment,
    Messages,
    Order,
    Unparsed,
    check_tasks,
)
from rmkit.judges.config import LLMJudgeConfig
from rmkit.judges.expected_score import expected_score
from rmkit.judges.prompts import JUDGE_PROMPTS, JudgePrompt
from rmkit.judges.sanitize import quote_messages, special_tokens

TOP_LOGPROBS = 20  # alternatives to a token that are read for the expected score
PENDING = "pending.jsonl"  # answers of an unfinished batch

ScoreFrom = Literal["text", "logprobs"]


@dataclass(frozen=True)
class JudgeSampler:
    """Samples a generator's answers to judge prompts, and parses them.

    samples: answers to each conversation. score_from: the score as written, or the expected score over the likely
    tokens at its position. special_tokens: of the tokenizer, if known; they are broken up in judged text. cache: a file
    that keeps answers as they come.
    """

    generator: Generator
    sampling: Sampling
    samples: int = 1
    seed: int = 0
    score_from: ScoreFrom = "text"
    special_tokens: tuple[str, ...] = ()
    cache: str | Path | None = None

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise_input_error("samples", "at least 1", self.samples, "Meta-Rewarding takes 11.")

    def query(self, conversations: Sequence[Sequence[Messages]], prompt: JudgePrompt) -> list[list[JudgeAnswer]]:
        """The answers [task][order * sample] to conversations of one prompt, [task][order]."""
        sampling = self.sampling
        if self.score_from == "logprobs":
            sampling = dataclasses.replace(sampling, top_logprobs=TOP_LOGPROBS)
        results = iter(self.generator.generate(
            list(itertools.chain(*conversations)),
            samples=self.samples, sampling=sampling, seed=self.seed, cache=self.cache,
        ))
        return [
            [self.parse(result, prompt, order, sample)
             for order, _ in zip(ORDERS, task, strict=False) for sample, result in enumerate(next(results))]
            for task in conversations
        ]

    def parse(self, result: GenerationResult, prompt: JudgePrompt, order: Order, sample: int) -> JudgeAnswer:
        """One answer; of a comparison, the preference for the first response in the original order."""
        if isinstance(result, Failed):
            return result
        storable = result.text.encode(errors="backslashreplace").decode()  # servers may send half a surrogate pair
        fields: dict[str, Any] = {
            "sample": sample, "seed": derive_sample_seed(self.seed, sample), "order": order, "text": storable,
            "prompt_tokens": result.prompt_tokens, "answer_tokens": result.tokens,
        }
        parsed = prompt.parse(result.text, cut=result.finish == "length")
        if self.score_from == "logprobs":
            parsed = expected_score(result.text, result.logprobs or (), parsed, prompt)
        if parsed.value is None:
            return Unparsed(**fields, reason=parsed.reason)
        return Judgment(**fields, score=1 - parsed.value if order == "swapped" else parsed.value)


class LanguageModelJudge:
    """A prompted language model, pointwise or pairwise as its prompt is; pairwise always in both orders.

    Each task has `sampler.samples` answers in each order.
    """

    def __init__(self, sampler: JudgeSampler, prompt: JudgePrompt) -> None:
        self.sampler, self.prompt = sampler, prompt
        self.responses = prompt.responses

    def judge(self, tasks: Sequence[JudgeTask]) -> list[list[JudgeAnswer]]:
        """The answers to each task, [task][order * sample]."""
        check_tasks(tasks, self.responses)
        tokens = self.sampler.special_tokens
        return self.sampler.query([
            [render_task(self.prompt, task, order, tokens) for order in ORDERS[:self.responses]] for task in tasks
        ], self.prompt)


def render_task(prompt: JudgePrompt, task: JudgeTask, order: Order, special_tokens: Sequence[str]) -> Messages:
    """The conversation that a judge continues on a task; its tokenizer's special tokens are broken up."""
    return prompt.render(
        request=quote_messages(task.prompt, special_tokens),
        **by_slot([quote_messages(response, special_tokens) for response in task.responses], order),
    )


def by_slot(quoted: Sequence[str], order: Order) -> dict[str, str]:
    """Quoted texts by the slot of the template that they fill."""
    return dict(zip(("first", "second"), quoted if order == "original" else quoted[::-1], strict=False))


def judge_spec(settings: LLMJudgeConfig) -> JudgeSpec:
    """What the answers of a language-model judge look like."""
    prompt = JUDGE_PROMPTS[settings.prompt]
    models = {} if settings.base_url else {"model": settings.model_name_or_path}
    return JudgeSpec(prompt.responses, prompt.scale, settings.samples * prompt.responses, models)


def build_judge(
    settings: LLMJudgeConfig, *, seed: int, folder: Path, trust_remote_code: bool, **_: Any
) -> LanguageModelJudge:
    """The judge, its model loaded; answers of an unfinished batch are kept in `folder`."""
    sampler = build_sampler(settings, seed=seed, folder=folder, trust_remote_code=trust_remote_code)
    return LanguageModelJudge(sampler, JUDGE_PROMPTS[settings.prompt])


def build_sampler(settings: LLMJudgeConfig, *, seed: int, folder: Path, trust_remote_code: bool) -> JudgeSampler:
    """The sampler of a judge or a meta-judge."""
    generator = load_judge_generator(settings, trust_remote_code)
    tokens = special_tokens(generator.tokenizer) if isinstance(generator, TransformersGenerator) else ()
    sampling = Sampling(settings.temperature, settings.top_p, settings.max_new_tokens)
    return JudgeSampler(generator, sampling, settings.samples, seed, settings.score_from, tokens, folder / PENDING)


def load_judge_generator(settings: LLMJudgeConfig, trust_remote_code: bool) -> Generator:
    """The language model, on its server or in this process."""
    return choose_generator(
        settings.model_name_or_path, base_url=settings.base_url, api_key_env=settings.api_key_env,
        concurrency=settings.concurrency, timeout=settings.timeout, max_retries=settings.max_retries,
        extra_body=settings.extra_body, max_tokens_per_batch=settings.max_tokens_per_batch,
        trust_remote_code=trust_remote_code,
    )
