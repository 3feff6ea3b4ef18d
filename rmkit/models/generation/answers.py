"""Answers: what an OpenAI-compatible server says, read strictly."""

from typing import Annotated

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from rmkit.models.generation.outcomes import Completion, Failure, Outcome, Token, cut_at_stop, cut_tokens
from rmkit.models.generation.requests import Request


class Unreadable(Exception):
    """An answer that is not whole or not of the agreed form."""


class Part(BaseModel):
    """A part of an answer: what is named here must be there and of its type; what is not is passed over."""

    model_config = ConfigDict(strict=True)


class Usage(Part):
    prompt_tokens: int
    completion_tokens: int


class Candidate(Part):
    token: str
    logprob: FiniteFloat


class Position(Candidate):
    top_logprobs: list[Candidate]


class ChatLogprobs(Part):
    content: list[Position] | None

    def list_tokens(self) -> list[Token]:
        return [Token(each.token, each.logprob, tuple((one.token, one.logprob) for one in each.top_logprobs))
                for each in self.content or []]


class TextLogprobs(Part):
    tokens: list[str]
    token_logprobs: list[FiniteFloat]
    top_logprobs: list[dict[str, FiniteFloat]]

    def list_tokens(self) -> list[Token]:
        return [Token(token, logprob, tuple(sorted(top.items(), key=lambda one: -one[1])))
                for token, logprob, top in zip(self.tokens, self.token_logprobs, self.top_logprobs, strict=True)]


class Message(Part):
    content: str | None = None


class Choice(Part):
    finish_reason: str

    @field_validator("logprobs", mode="before", check_fields=False)
    @classmethod
    def pass_over(cls, value: object, info: ValidationInfo) -> object:
        """Log-probabilities that were not asked for need not be of any form; the context says whether they were."""
        return value if info.context else None


class ChatChoice(Choice):
    message: Message
    logprobs: ChatLogprobs | None = None

    @property
    def text(self) -> str | None:
        return self.message.content


class TextChoice(Choice):
    text: str
    logprobs: TextLogprobs | None = None


class ChatAnswer(Part):
    choices: Annotated[list[ChatChoice], Field(min_length=1, max_length=1)]
    usage: Usage | None = None


class TextAnswer(Part):
    choices: Annotated[list[TextChoice], Field(min_length=1, max_length=1)]
    usage: Usage | None = None


def read_answer(content: bytes, request: Request) -> Outcome:
    """The completion in a server's answer to `request`, or the failure that it states.

    A failure: another end than "stop" or "length" (a filter, a call of a tool), no text, or no log-probabilities where
    they were asked for. Raises `Unreadable` for what is no whole answer.
    """
    kind = TextAnswer if isinstance(request.prompt, str) else ChatAnswer
    try:
        answer = kind.model_validate_json(content, context=request.sampling.top_logprobs)
        choice = answer.choices[0]
        tokens = choice.logprobs.list_tokens() if choice.logprobs is not None else None
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        raise Unreadable(f"{'.'.join(map(str, fault['loc'])) or 'the answer'}: {fault['msg']}") from None
    except ValueError as error:  # lists of log-probabilities that do not match
        raise Unreadable(f"logprobs: {error}") from None
    if choice.finish_reason not in ("stop", "length"):
        return Failure(f"the server ended it with finish_reason {choice.finish_reason!r}")
    if choice.text is None:
        return Failure(f"the server gave no text (finish_reason {choice.finish_reason!r})")
    sampling = request.sampling
    if sampling.top_logprobs and not tokens:
        return Failure("the server gave no log-probabilities")
    text = cut_at_stop(choice.text, sampling.stop)
    usage = answer.usage
    return Completion(
        text,
        "stop" if text != choice.text or choice.finish_reason == "stop" else "length",
        usage.prompt_tokens if usage else None,
        usage.completion_tokens if usage else None,
        cut_tokens(tokens, text) if tokens else None,
    )
