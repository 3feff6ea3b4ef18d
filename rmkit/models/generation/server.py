"""An OpenAI-compatible server (vLLM, SGLang, `transformers serve`) as a generator."""

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import as_completed
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import anyio
import httpx2
from anyio.from_thread import start_blocking_portal

from rmkit.core.checks import Seen, refuse
from rmkit.models.generation.answers import read_answer
from rmkit.models.generation.calls import Caller
from rmkit.models.generation.generator import Generator
from rmkit.models.generation.outcomes import Outcome
from rmkit.models.generation.requests import Request
from rmkit.models.generation.serving import ensure_served


class ServerGenerator(Generator):
    """Completions by `model` of the server at `base_url` (".../v1"); one call a completion, `concurrency` at a time.

    Messages go to /chat/completions, texts to /completions. timeout: seconds for one attempt, all in all. attempts:
    connection errors, time-outs, status 408, 409, 425, 429 and 5xx and answers that cannot be read are tried again,
    `backoff` seconds later at first. Where the key is refused (401), money is (402) or the model is unknown (404), or
    no attempt reaches the server, the rest is not asked for, and fails. Any other status, 403 too, is the failure of
    one request. The key is in the environment, under `key_variable`, and nowhere else; where
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
        key_variable: str = "OPENAI_API_KEY",
        concurrency: int = 16,
        timeout: float = 600.0,
        attempts: int = 6,
        backoff: float = 0.5,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc or parts.query:
            refuse("base_url", "http(s)://host[:port]/v1, without user, password or query",
                   Seen(f"{parts.scheme}://{parts.hostname}"), "Keys go into the environment.")
        for name, value in (("concurrency", concurrency), ("attempts", attempts)):
            if value < 1:
                refuse(name, "at least 1", value, f"Raise {name}.")
        if timeout <= 0 or backoff < 0:
            refuse("timeout, backoff", "seconds, above 0 and not below 0", (timeout, backoff), "Raise them.")
        self.base_url = base_url.rstrip("/")
        self.model = model
        self.key_variable = key_variable
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
        key = read_key(self.key_variable)
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
        refuse(f"environment variable {variable}", "a key", Seen("one with blanks or other than ASCII characters"),
               "Set it again.")
    return key or None
