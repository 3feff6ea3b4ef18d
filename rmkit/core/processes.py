"""Processes that this one starts, and that shall not outlive it."""

import contextlib
import ctypes
import signal

PR_SET_PDEATHSIG = 1


def kill_child_on_parent_exit() -> None:
    """In the child: be told to end when this process dies, even by kill -9 (Linux)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
