"""Completions by an OpenAI-compatible server (vLLM, SGLang, `transformers serve`)."""

import asyncio
import math
import os
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from concurrent.futures import as_completed
from typing import Any
from urllib.parse import urlsplit

import httpx2
import openai
from anyio.from_thread import start_blocking_portal

from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.generation.base import Generator, Request
from rmkit.generation.local import load_generator
from rmkit.generation.results import Completion, Failed, GenerationResult, Token, cut_at_stop, cut_tokens
from rmkit.generation.server_process import MANAGED_SERVER

MAX_BODY_BYTES = 64 * 2**20  # of an answer
# Every other request would get the same answer. Not 403, with which gateways refuse single prompts.
FATAL_STATUS = {401: "Check the key.", 402: "Check the account's balance.", 404: "Check base_url and the model's name."}


class ServerGenerator(Generator):
    """Completions by `model` of the server at `base_url` (".../v1"), with `concurrency` requests at a time.

    Messages go to /chat/completions, texts to /completions, one request a completion. The `openai` client repeats
    connection errors, timeouts and status 408, 409, 429 and 5xx up to `max_retries` times; a request that fails is a
    `Failed` with its reason. timeout: seconds for one attempt. The API key is read from the environment variable
    `api_key_env`; where it is not set, the usual placeholder EMPTY is sent.

    extra_body: further fields of each request. vLLM applies the model's top_k unless `{"top_k": -1}`; `transformers
    serve` samples only with `{"generation_config": '{"do_sample": true}'}`, and gives no log-probabilities.

    Raises `InputError` for an invalid base_url or key, and while generating for status 401, 402 and 404 and
    for a server that cannot be reached, since all other requests would fail too.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key_env: str = "OPENAI_API_KEY",
        concurrency: int = 16,
        timeout: float = 600.0,
        max_retries: int = 5,
        extra_body: Mapping[str, Any] | None = None,
    ) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc or parts.query:
            raise_input_error(
                "base_url",
                "http(s)://host[:port]/v1, without user, password or query",
                Verbatim(f"{parts.scheme}://{parts.hostname}"),
                "Keys go into the environment.",
            )
        self.base_url = base_url.rstrip("/")
        self.model = model
        self.api_key_env = api_key_env
        self.concurrency = concurrency
        self.timeout = timeout
        self.max_retries = max_retries
        self.extra_body = dict(extra_body or {})
        self.name = f"{self.base_url} {model} {sorted(self.extra_body.items())}"

    def complete(self, requests: Sequence[Request]) -> Iterator[tuple[int, GenerationResult]]:
        """The index and the result of each request, as the answers arrive."""
        server = MANAGED_SERVER.get()
        if requests and server is not None:
            server.ensure(self.base_url, self.model)
        client = openai.AsyncOpenAI(
            base_url=self.base_url,
            api_key=read_api_key(self.api_key_env),
            max_retries=self.max_retries,
            timeout=self.timeout,
            http_client=openai.DefaultAsyncHttpxClient(
                event_hooks={"response": [self.read_body]}, limits=httpx2.Limits(max_connections=None)
            ),
        )
        with start_blocking_portal() as portal, portal.wrap_async_context_manager(client):
            limit = asyncio.Semaphore(self.concurrency)
            futures = {portal.start_task_soon(self.request, client, limit, request): index
                       for index, request in enumerate(requests)}
            failure = None
            try:
                for future in as_completed(futures):
                    if future.cancelled():
                        continue
                    if (error := future.exception()) is None:
                        yield futures[future], future.result()
                    elif failure is None:  # what was answered in the same moment is still given
                        failure = error
                        for other in futures:
                            other.cancel()
                if failure is not None:
                    raise failure
            finally:
                for future in futures:
                    future.cancel()

    async def read_body(self, response: httpx2.Response) -> None:
        """Read an answer of bounded size within `timeout` seconds; the client's timeout is for each piece of it."""
        response.stream = BoundedStream(response.stream)
        try:
            async with asyncio.timeout(self.timeout):
                await response.aread()
        except TimeoutError:
            raise httpx2.ReadTimeout("an answer that is not complete in time") from None

    async def request(self, client: openai.AsyncOpenAI, limit: asyncio.Semaphore, request: Request) -> GenerationResult:
        """The result of one request. Raises `InputError` where all others would fail too."""
        endpoint: Any = client.completions if isinstance(request.prompt, str) else client.chat.completions
        hint = None
        try:
            async with limit:
                answer = await endpoint.create(**self.build_arguments(request))
            result = read_answer(answer, request)
            if isinstance(result, Completion) and redact(result.text, client.api_key) == result.text:
                return result
            reason = result.reason if isinstance(result, Failed) else "the server's answer contains the API key"
        except openai.APIStatusError as error:
            reason = f"status {error.status_code}: {redact(error.response.text, client.api_key)[:300]}"
            hint = FATAL_STATUS.get(error.status_code)
        except openai.APIConnectionError as error:
            reason = f"{type(error.__cause__).__name__}: {error.__cause__}"
            if isinstance(error.__cause__, httpx2.ConnectError):
                hint = "Start the server, or check base_url."
        except (ValueError, TypeError, AttributeError, IndexError, openai.OpenAIError) as error:
            reason = f"an answer that cannot be read: {error}"
        reason = " ".join(redact(reason, client.api_key).split())
        if hint is not None:
            raise_input_error(f"server {self.base_url}", "a server that answers", Verbatim(reason), hint)
        return Failed(reason)

    def build_arguments(self, request: Request) -> dict[str, Any]:
        """Arguments of the client's `create`. One completion a request, since each sample has its own seed."""
        sampling = request.sampling
        arguments = {
            "model": self.model,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_new_tokens,
            "stop": list(sampling.stop) or openai.omit,
            "seed": request.seed,
            "extra_body": self.extra_body,
        }
        top = sampling.top_logprobs or openai.omit
        if isinstance(request.prompt, str):
            return {**arguments, "prompt": request.prompt, "logprobs": top}
        messages = [dict(message) for message in request.prompt]
        return {**arguments, "messages": messages, "logprobs": bool(sampling.top_logprobs) or openai.omit,
                "top_logprobs": top}


def choose_generator(
    model: str,
    *,
    base_url: str | None,
    max_tokens_per_batch: int = 32768,
    trust_remote_code: bool = False,
    **server: Any,
) -> Generator:
    """`model` on the server at `base_url`; without one, the model of that folder or hub name, loaded in this process.

    `max_tokens_per_batch` as for `TransformersGenerator`; `server`: keyword arguments of `ServerGenerator`.
    """
    if base_url is not None:
        return ServerGenerator(base_url, model, **server)
    return load_generator(model, max_tokens_per_batch=max_tokens_per_batch, trust_remote_code=trust_remote_code)


class BoundedStream(httpx2.AsyncByteStream):
    """A body of at most `MAX_BODY_BYTES`."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in self.stream:
            size += len(chunk)
            if size > MAX_BODY_BYTES:
                raise httpx2.DecodingError(f"an answer of more than {MAX_BODY_BYTES} bytes")
            yield chunk

    async def aclose(self) -> None:
        await self.stream.aclose()


def read_api_key(variable: str) -> str:
    """The key in the environment, or a placeholder. Raises `InputError`, which does not show it, for an invalid one."""
    key = os.environ.get(variable, "").strip() or "EMPTY"
    if not key.isascii() or not key.isprintable() or " " in key:
        raise_input_error(
            f"environment variable {variable}",
            "a key",
            Verbatim("one with blanks or other than ASCII characters"),
            "Set it again.",
        )
    return key


def redact(text: str, key: str) -> str:
    """`text` without the API key, which a server may repeat; a short one is a placeholder such as EMPTY."""
    return text.replace(key, "[key]") if len(key) >= 16 else text


def read_answer(answer: Any, request: Request) -> GenerationResult:
    """The completion in a server's answer, or the failure that it states.

    A failure: a finish_reason other than "stop" and "length" (a filter, a tool call), no text, or no log-probabilities
    where they were asked for. Other errors mean that the answer has not the format of the API.
    """
    choice, = answer.choices
    chat = not isinstance(request.prompt, str)
    full_text = choice.message.content if chat else choice.text
    if choice.finish_reason not in ("stop", "length"):
        return Failed(f"the server ended it with finish_reason {choice.finish_reason!r}")
    if full_text is None:
        return Failed(f"the server gave no text (finish_reason {choice.finish_reason!r})")
    text = cut_at_stop(full_text, request.sampling.stop)
    tokens = None
    if request.sampling.top_logprobs:
        if not (choice.logprobs and (choice.logprobs.content if chat else choice.logprobs.tokens)):
            return Failed("the server gave no log-probabilities")
        tokens = cut_tokens(read_tokens(choice.logprobs, chat), text)
    usage = answer.usage
    return Completion(
        text,
        "stop" if text != full_text else choice.finish_reason,
        usage.prompt_tokens if usage else None,
        usage.completion_tokens if usage else None,
        tokens,
    )


def read_tokens(logprobs: Any, chat: bool) -> list[Token]:
    """The tokens with their log-probabilities in an answer."""
    if chat:
        tokens = [Token(token.token, token.logprob, tuple((other.token, other.logprob) for other in token.top_logprobs))
                  for token in logprobs.content]
    else:
        tokens = [Token(token, logprob, tuple(sorted(top.items(), key=lambda item: -item[1]))) for token, logprob, top
                  in zip(logprobs.tokens, logprobs.token_logprobs, logprobs.top_logprobs, strict=True)]
    if not all(math.isfinite(value) for token in tokens for value in (token.logprob, *dict(token.top).values())):
        raise ValueError("log-probabilities that are not finite")
    return tokens
