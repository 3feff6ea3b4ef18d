"""Calls: one request to a server, as often as it takes, within time."""

import email.utils
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

import anyio
import httpx2

from rmkit.models.generation.answers import Unreadable
from rmkit.models.generation.outcomes import Failure, Outcome

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
