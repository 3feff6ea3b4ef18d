"""Serving: a command that serves a model is started when a server is first asked for it, and ended with the block."""

import contextlib
import contextvars
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2

from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.core.processes import kill_child_on_parent_exit

GRACE = 30  # seconds that a server has to end when told to
PAUSE = 0.5  # seconds between two looks


class Keeper:
    """Keeps the server of one model at a time. `command`: the user's own, with "{model}" where the model goes."""

    def __init__(self, command: str, patience: float, log: str | Path) -> None:
        self.command = command
        self.patience = patience
        self.log = log
        self.model: str | None = None
        self.process: subprocess.Popen[bytes] | None = None

    def ensure(self, base_url: str, model: str) -> None:
        """Return when the server at `base_url` answers for `model`; it is started where it does not run."""
        if self.model == model and self.process is not None and self.process.poll() is None:
            return
        self.stop()
        if is_ready(base_url):
            raise_input_error(
                f"server at {base_url}",
                "nothing there before its command is run",
                Verbatim("a server that answers"),
                "End it, or leave the command out.",
            )
        words = [word.replace("{model}", model) for word in shlex.split(self.command)]
        try:
            with Path(self.log).open("ab") as log:
                self.process = subprocess.Popen(words, stdout=log, stderr=log, start_new_session=True,
                                                preexec_fn=kill_child_on_parent_exit)
        except OSError as error:
            raise_input_error(
                f"server command {words[0]}", "a command that can be run", Verbatim(error), "Install it or mend it."
            )
        self.model = model
        deadline = time.monotonic() + self.patience
        while not is_ready(base_url):
            code = self.process.poll()
            if code is not None or time.monotonic() > deadline:
                self.stop()
                seen = f"no answer in {self.patience:g} s" if code is None else f"an end with exit code {code}"
                raise_input_error(
                    "server command", f"a server that answers at {base_url}/models", Verbatim(seen), f"See {self.log}."
                )
            time.sleep(PAUSE)

    def stop(self) -> None:
        """End the server and what it has started, if any."""
        if self.process is not None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(GRACE)
            with contextlib.suppress(ProcessLookupError):  # its own, or what it has left behind
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self.process = self.model = None


KEEPER: contextvars.ContextVar[Keeper | None] = contextvars.ContextVar("keeper", default=None)


@contextlib.contextmanager
def keep_server(command: str, *, patience: float, log: str | Path) -> Iterator[None]:
    """For the block: whichever model a `ServerGenerator` asks for is served by `command` from its first request on.

    `patience`: seconds until it has to answer. `log`: where what it says is appended.
    """
    keeper = Keeper(command, patience, log)
    token = KEEPER.set(keeper)
    try:
        yield
    finally:
        KEEPER.reset(token)
        keeper.stop()


def ensure_served(base_url: str, model: str) -> None:
    """Within `keep_server`, see to it that the server runs."""
    keeper = KEEPER.get()
    if keeper is not None:
        keeper.ensure(base_url, model)


def is_ready(base_url: str) -> bool:
    """Whether something answers there."""
    try:
        return httpx2.get(f"{base_url}/models", timeout=5.0).status_code < 500
    except httpx2.HTTPError:
        return False
