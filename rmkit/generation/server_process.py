"""A server process that the user's command starts for a model when the first request needs it."""

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

TERMINATE_TIMEOUT = 30  # seconds
POLL_INTERVAL = 0.5  # seconds


class ServerProcess:
    """The server of one model at a time, started by `command`, in which "{model}" stands for the model."""

    def __init__(self, command: str, startup_timeout: float, log: str | Path) -> None:
        self.command = command
        self.startup_timeout = startup_timeout
        self.log = log
        self.model: str | None = None
        self.process: subprocess.Popen[bytes] | None = None

    def ensure(self, base_url: str, model: str) -> None:
        """Start the server of `model` unless it runs; return when it answers at `base_url`."""
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
                f"server command {words[0]}", "a command that can be run", Verbatim(error), "Install or correct it."
            )
        self.model = model
        deadline = time.monotonic() + self.startup_timeout
        while not is_ready(base_url):
            code = self.process.poll()
            if code is not None or time.monotonic() > deadline:
                self.stop()
                got = f"no answer in {self.startup_timeout:g} s" if code is None else f"an end with exit code {code}"
                raise_input_error(
                    "server command", f"a server that answers at {base_url}/models", Verbatim(got), f"See {self.log}."
                )
            time.sleep(POLL_INTERVAL)

    def stop(self) -> None:
        """End the server and its child processes, if any."""
        if self.process is not None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(TERMINATE_TIMEOUT)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self.process = self.model = None


MANAGED_SERVER: contextvars.ContextVar[ServerProcess | None] = contextvars.ContextVar("managed_server", default=None)


@contextlib.contextmanager
def managed_server(command: str, *, startup_timeout: float, log: str | Path) -> Iterator[None]:
    """Within the block, each model that a `ServerGenerator` uses is served by `command` from its first request on.

    `startup_timeout`: seconds until the server has to answer. `log`: file to which its output is appended.
    """
    server = ServerProcess(command, startup_timeout, log)
    token = MANAGED_SERVER.set(server)
    try:
        yield
    finally:
        MANAGED_SERVER.reset(token)
        server.stop()


def is_ready(base_url: str) -> bool:
    """Whether a server answers at `base_url`."""
    try:
        return httpx2.get(f"{base_url}/models", timeout=5.0).status_code < 500
    except httpx2.HTTPError:
        return False
