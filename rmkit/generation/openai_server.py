"""An OpenAI-compatible server (vLLM, SGLang, `transformers serve`) as a generator."""

import email.utils
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any
from urllib.parse import urlsplit

import anyio
import httpx2
from anyio.from_thread import start_blocking_portal
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, ValidationInfo, field_validator

from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.generation.base import Completion, Failure, Generator, Outcome, Request, Token, cut_at_stop, cut_tokens
from rmkit.generation.server_process import ensure_served


class ServerGenerator(Generator):
    """Completions by `model` of the server at `base_url` (".../v1"); one call a completion, `concurrency` at a time.

    Messages go to /chat/completions, texts to /completions. timeout: seconds for one attempt, all in all. attempts:
    connection errors, time-outs, status 408, 409, 425, 429 and 5xx and answers that cannot be read are tried again,
    `backoff` seconds later at first. Where the key is refused (401), money is (402) or the model is unknown (404), or
    no attempt reaches the server, the rest is not asked for, and fails. Any other status, 403 too, is the failure of
    one request. The key is in the environment, under `api_key_env`, and nowhere else; where
    there is none, none is sent.

    extra: further fields of each request. A server may add settings of its own: vLLM the model's top_k
    (`{"top_k": -1}` undoes it); `transformers serve` draws at all only where the model's generation settings have
    do_sample (`{"generation_config": '{"do_sample": true}'}` sets it), shares one random state among calls, and gives
    no log-probabilities. Raises `InputError` for settings out of range and for a key that cannot be one.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key_env: str = "OPENAI_API_KEY",
        concurrency: int = 16,
        timeout: float = 600.0,
        attempts: int = 6,
        backoff: float = 0.5,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc or parts.query:
            raise_input_error(
                "base_url",
                "http(s)://host[:port]/v1, without user, password or query",
                Verbatim(f"{parts.scheme}://{parts.hostname}"),
                "Keys go into the environment.",
            )
        for name, value in (("concurrency", concurrency), ("attempts", attempts)):
            if value < 1:
                raise_input_error(name, "at least 1", value, f"Raise {name}.")
        if timeout <= 0 or backoff < 0:
            raise_input_error("timeout, backoff", "seconds, above 0 and not below 0", (timeout, backoff), "Raise them.")
        self.base_url = base_url.rstrip("/")
        self.model = model
        self.api_key_env = api_key_env
        self.concurrency = concurrency
        self.timeout = timeout
        self.attempts = attempts
        self.backoff = backoff
        self.extra = dict(extra or {})
        self.name = f"{self.base_url} {model} {sorted(self.extra.items())}"

    def complete(self, requests: Sequence[Request]) -> Iterator[tuple[int, Outcome]]:
        """One outcome for each request, as they come."""
        if requests:
            ensure_served(self.base_url, self.model)
        key = read_key(self.api_key_env)
        client = httpx2.AsyncClient(
            base_url=self.base_url,
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=None,  # each attempt's is the caller's
            limits=httpx2.Limits(max_connections=None),  # and so is their number
        )
        with start_blocking_portal() as portal, portal.wrap_async_context_manager(client):
            limiter = portal.call(anyio.CapacityLimiter, self.concurrency)
            caller = Caller(client, limiter, key, self.timeout, self.attempts, self.backoff)
            futures = {
                portal.start_task_soon(caller.call, *self.build_call(request), partial(read_answer, request=request)):
                number for number, request in enumerate(requests)
            }
            try:
                for future in as_completed(futures):
                    yield futures[future], future.result()
            finally:
                for future in futures:
                    future.cancel()

    def build_call(self, request: Request) -> tuple[str, dict[str, object]]:
        """Path and body. One completion a call, since not every server knows `n`, and each has its own seed."""
        sampling = request.sampling
        body: dict[str, object] = {
            "model": self.model,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_new_tokens,
            "seed": request.seed,
        }
        if sampling.stop:
            body["stop"] = list(sampling.stop)
        if isinstance(request.prompt, str):
            if sampling.top_logprobs:
                body["logprobs"] = sampling.top_logprobs
            return "/completions", {**body, "prompt": request.prompt, **self.extra}
        if sampling.top_logprobs:
            body |= {"logprobs": True, "top_logprobs": sampling.top_logprobs}
        messages = [dict(message) for message in request.prompt]
        return "/chat/completions", {**body, "messages": messages, **self.extra}


def read_key(variable: str) -> str | None:
    """The key in the environment, or None; one that no header can carry is refused, without being shown."""
    key = os.environ.get(variable, "").strip()
    if not key.isascii() or not key.isprintable() or " " in key:
        raise_input_error(
            f"environment variable {variable}",
            "a key",
            Verbatim("one with blanks or other than ASCII characters"),
            "Set it again.",
        )
    return key or None


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


LONGEST_WAIT = 60.0  # seconds between two attempts, whatever the server asks for
SECRET = 16  # characters from which on a key is one, and no word such as EMPTY, which servers without keys are given
TRANSIENT = {408, 409, 425, 429}  # and 500 and above
# No key, no money, no such model: every other request would meet the same. Not so 403, with which gateways refuse
# single prompts that their moderation flags.
HOPELESS = {401, 402, 404}


class Trouble(Exception):
    """An attempt that failed and may be repeated: the reason, and the seconds to wait at the least."""


class Unreached(Trouble):
    """An attempt that did not come to the server at all."""


@dataclass
class Caller:
    """Calls of one run. `given_up` says why no more are made, once no other can succeed."""

    client: httpx2.AsyncClient
    limiter: anyio.CapacityLimiter
    key: str | None
    timeout: float
    attempts: int
    backoff: float
    given_up: str | None = None

    async def call(self, path: str, body: dict[str, object], read: Callable[[bytes], Outcome]) -> Outcome:
        """What `read` makes of the server's answer, or a failure.

        Waits between attempts double from `backoff` seconds on and are cut by chance to between half and whole, or are
        those that the server asks for where they are longer.
        """
        async with self.limiter:
            for attempt in range(1, self.attempts + 1):
                if self.given_up is not None:
                    return Failure(f"not asked for, since another request ended so: {self.given_up}")
                try:
                    return await self.attempt(path, body, read)
                except Trouble as trouble:
                    cause, asked = trouble.args
                    unreached = isinstance(trouble, Unreached)
                if attempt < self.attempts:
                    wait = self.backoff * 2 ** (attempt - 1) * random.uniform(0.5, 1)
                    await anyio.sleep(min(max(wait, asked), LONGEST_WAIT))
        reason = self.blot(f"{self.attempts} attempts, the last one: {cause}")
        if unreached:
            self.given_up = reason
        return Failure(reason)

    async def attempt(self, path: str, body: dict[str, object], read: Callable[[bytes], Outcome]) -> Outcome:
        """One attempt; raises `Trouble` where another is worth it."""
        try:
            with anyio.fail_after(self.timeout):
                response = await self.client.post(path, json=body)
        except TimeoutError:
            raise Trouble(f"no answer in {self.timeout:g} seconds", 0.0) from None
        except httpx2.RequestError as error:
            kind = Unreached if isinstance(error, httpx2.ConnectError) else Trouble
            raise kind(f"{type(error).__name__}: {error}", 0.0) from None
        status = response.status_code
        if status == 200:
            if self.key and len(self.key) >= SECRET and self.key in response.text:
                return Failure("the server's answer repeats the key")
            try:
                outcome = read(response.content)
            except Unreadable as error:
                raise Trouble(f"an answer that cannot be read: {error}", 0.0) from None
            return Failure(self.blot(outcome.reason)) if isinstance(outcome, Failure) else outcome
        reason = f"status {status}: {' '.join(self.blot(response.text).split())[:300]}"
        if status in TRANSIENT or status >= 500:
            raise Trouble(reason, read_wait(response.headers.get("retry-after")))
        if status in HOPELESS:
            self.given_up = reason
        return Failure(reason)

    def blot(self, reason: str) -> str:
        """`reason` without the key, which a server may repeat."""
        return reason.replace(self.key, "[key]") if self.key else reason


def read_wait(header: str | None) -> float:
    """Seconds that a Retry-After header asks for, as a number or a date; 0 where it says neither."""
    if header is None:
        return 0.0
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - time.time())
    except ValueError:
        return 0.0
