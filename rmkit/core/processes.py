"""Child processes that end with this one."""

import contextlib
import ctypes
import signal

PR_SET_PDEATHSIG = 1


def kill_child_on_parent_exit() -> None:
    """Called in the child: it gets SIGTERM when its parent dies, even by kill -9 (Linux)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
